"""Distributions: probabilities that add up, entropies, masks, samples, bounds."""

import functools
import itertools
import math

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitae_marl.algos.nets.distributions import distribution_for, mask_logits
from kitae_marl.data.spaces import leaves

pytestmark = pytest.mark.usefixtures("quickest_compilation")
spaces = gym.spaces
DISCRETE = {
    "discrete": spaces.Discrete(4),
    "discrete from 3": spaces.Discrete(4, start=3),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "multi-discrete from 1, 5": spaces.MultiDiscrete([2, 3], start=[1, 5]),
    "multi-discrete 2 x 2": spaces.MultiDiscrete([[2, 3], [1, 2]]),
    "integers": spaces.Box(np.array([-1, 4]), np.array([1, 5]), dtype=np.int16),
    "multi-binary": spaces.MultiBinary(3),
    "multi-binary 2 x 2": spaces.MultiBinary((2, 2)),
}
BOXES = {
    "symmetric": spaces.Box(-1, 1, (1,)),
    "shifted": spaces.Box(2, 8, (1,)),
    "bound below": spaces.Box(-1, np.inf, (1,)),
    "bound above": spaces.Box(-np.inf, 2, (1,)),
    "free": spaces.Box(-np.inf, np.inf, (1,)),
}


def all_actions(space):
    """Every action of a finite space, stacked."""
    if isinstance(space, spaces.Discrete):
        return np.arange(space.start, space.start + space.n)
    if isinstance(space, spaces.MultiBinary):
        bits = itertools.product((0, 1), repeat=math.prod(space.shape))
        return np.array(list(bits), np.int8).reshape(-1, *space.shape)
    (leaf,) = leaves(space)
    pairs = zip(np.ravel(leaf.low).tolist(), np.ravel(leaf.high).tolist(), strict=True)
    ranges = (range(low, high + 1) for low, high in pairs)
    return np.array(list(itertools.product(*ranges))).reshape(-1, *space.shape)


@functools.cache
def compiled(kind):
    """The distribution over one of the spaces above, each of its functions compiled."""
    plain = distribution_for({**DISCRETE, **BOXES}[kind])
    names = ("sample", "mode", "log_prob", "entropy", "kl")
    return plain._replace(**{name: jax.jit(getattr(plain, name)) for name in names})


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def per_action(distribution, params, actions):
    """Log-probability of each of many actions under the same parameters."""
    rows = np.broadcast_to(params, (len(actions), *np.shape(params)))
    return np.asarray(distribution.log_prob(rows, actions), np.float64)


@pytest.mark.parametrize("kind", DISCRETE)
class TestFinite:
    def test_probabilities_add_up_and_give_the_entropy(self, kind):
        distribution, actions = compiled(kind), all_actions(DISCRETE[kind])
        params = normal(0, distribution.n_outputs)
        log_p = per_action(distribution, params, actions)
        assert np.exp(log_p).sum() == pytest.approx(1.0, rel=1e-5)
        entropy = float(distribution.entropy(params))
        assert entropy == pytest.approx(-np.sum(np.exp(log_p) * log_p), rel=1e-4)
        uniform = float(distribution.entropy(0 * params))
        assert uniform == pytest.approx(math.log(len(actions)), rel=1e-5)

    def test_divergences_are_sums_over_actions(self, kind):
        distribution, actions = compiled(kind), all_actions(DISCRETE[kind])
        one, other = normal(0, distribution.n_outputs), 2 * normal(1, distribution.n_outputs)
        log_p, log_q = (per_action(distribution, x, actions) for x in (one, other))
        expected = np.sum(np.exp(log_p) * (log_p - log_q))
        assert expected > 0.1
        np.testing.assert_allclose(distribution.kl(one, other), expected, rtol=1e-5)
        np.testing.assert_allclose(distribution.kl(one, one), 0.0, atol=1e-6)

    def test_samples_come_with_their_probabilities(self, kind):
        distribution, actions = compiled(kind), all_actions(DISCRETE[kind])
        params = normal(1, distribution.n_outputs)
        rows = np.broadcast_to(params, (20_000, *params.shape))
        drawn = np.asarray(distribution.sample(rows, jax.random.key(2)))
        same = (drawn[:, None] == actions).reshape(len(drawn), len(actions), -1).all(-1)
        assert same.sum() == len(drawn)  # every sample is one of the actions
        expected = np.exp(per_action(distribution, params, actions))
        np.testing.assert_allclose(same.mean(0), expected, atol=5 * 0.5 / math.sqrt(20_000))

    def test_mode_is_the_likeliest_action_of_the_space(self, kind):
        distribution, space = compiled(kind), DISCRETE[kind]
        params, actions = normal(3, distribution.n_outputs), all_actions(space)
        mode = np.asarray(distribution.mode(params))
        assert space.contains(mode.astype(space.dtype))
        best = actions[np.argmax(per_action(distribution, params, actions))]
        np.testing.assert_array_equal(mode, best)

    def test_leading_axes(self, kind):
        distribution = compiled(kind)
        params = normal(0, 5, 2, distribution.n_outputs)
        action = distribution.sample(params, jax.random.key(1))
        assert action.shape == (5, 2, *(DISCRETE[kind].shape or ()))
        assert distribution.entropy(params).shape == (5, 2)
        log_p = distribution.log_prob(params, action)
        assert log_p.shape == (5, 2)
        alone = per_action(distribution, params[3, 1], np.asarray(action)[3, 1][None])
        np.testing.assert_allclose(log_p[3, 1], alone[0], rtol=1e-5)


MASKS = {"discrete": [1, 0, 1, 0], "multi-discrete": [0, 1, 1, 0, 1]}


@pytest.mark.parametrize("kind", MASKS)
class TestMasks:
    def allowed(self, kind):
        """Which of all actions the mask allows."""
        space = DISCRETE[kind]
        index = np.atleast_2d(all_actions(space).T).T
        offsets = np.cumsum([0, *getattr(space, "nvec", [])[:-1]]).astype(int)
        return np.asarray(MASKS[kind])[index + offsets].all(-1)

    def test_a_masked_action_has_probability_exactly_zero(self, kind):
        distribution, mask = compiled(kind), np.array(MASKS[kind], np.int8)
        logits = mask_logits(30 * normal(0, len(mask)), mask)
        p = np.exp(per_action(distribution, logits, all_actions(DISCRETE[kind])))
        allowed = self.allowed(kind)
        assert (p[~allowed] == 0.0).all()
        assert p[allowed].sum() == pytest.approx(1.0, rel=1e-5)

    def test_a_masked_action_is_never_drawn_nor_chosen(self, kind):
        distribution, mask = compiled(kind), np.array(MASKS[kind])
        best_is_masked = np.where(mask == 1, 0.0, 50.0).astype(np.float32)
        logits = np.broadcast_to(mask_logits(best_is_masked, mask), (5000, len(mask)))
        space = DISCRETE[kind]
        actions = all_actions(space)[self.allowed(kind)].reshape(-1, 1, *space.shape)
        for action in (distribution.sample(logits, jax.random.key(0)), distribution.mode(logits)):
            hit = (np.asarray(action) == actions).reshape(len(actions), 5000, -1).all(-1)
            assert hit.any(0).all()

    @pytest.mark.parametrize("nothing", [False, True])
    def test_value_and_gradient(self, kind, nothing):
        distribution = distribution_for(DISCRETE[kind])
        mask = np.array(MASKS[kind]) * (not nothing)

        @jax.jit
        def both(logits):
            masked = mask_logits(logits, mask)
            action = distribution.sample(masked, jax.random.key(0))
            other = mask_logits(others, mask)
            scores = distribution.log_prob(masked, action), distribution.entropy(masked)
            return *scores, distribution.kl(masked, other)

        logits, others = normal(0, len(mask)), normal(1, len(mask))
        gradients = np.asarray(jax.jacobian(both)(logits))
        assert np.isfinite(both(logits)).all()
        assert np.isfinite(gradients).all()
        assert (gradients[:, mask == 0] == 0.0).all()
        if not nothing:
            uniform = math.log(self.allowed(kind).sum())
            assert float(both(0 * logits)[1]) == pytest.approx(uniform, rel=1e-5)


def test_no_mask_forbids_nothing():
    logits = jnp.array([1.0, 2.0])
    assert mask_logits(logits, ()) is logits


@pytest.mark.parametrize("kind", BOXES)
@pytest.mark.parametrize(("mean", "log_std"), [(0.0, -0.5), (0.9, 0.0), (-3.0, -1.0), (0.3, 1.0)])
def test_clipped_normal_adds_up_and_gives_entropy_and_divergence(kind, mean, log_std):
    distribution, space = compiled(kind), BOXES[kind]
    params, others = np.array([mean, log_std], np.float32), np.array([0.2, -0.3], np.float32)
    low, high = float(space.low[0]), float(space.high[0])
    bounded = np.isfinite(high - low)
    half, centre = ((high - low) / 2, (high + low) / 2) if bounded else (1.0, 0.0)
    reach = 9 * math.exp(log_std) * half
    start = max(low, centre + mean * half - reach)
    stop = max(start, min(high, centre + mean * half + reach))
    # midpoints, so that no point is a bound; no points where all mass lies on a bound
    grid, step = np.linspace(start, stop, 40_001, retstep=True)
    points = (grid[:-1, None] + step / 2).astype(np.float32)
    log_p, log_q = (per_action(distribution, x, points) for x in (params, others))
    mass, entropy = np.exp(log_p).sum() * step, -(np.exp(log_p) * log_p).sum() * step
    divergence = (np.exp(log_p) * (log_p - log_q)).sum() * step
    for bound in (low, high):
        if np.isfinite(bound):
            point = np.array([[bound]], np.float32)
            log_p, log_q = (per_action(distribution, x, point)[0] for x in (params, others))
            mass, entropy = mass + math.exp(log_p), entropy - math.exp(log_p) * log_p
            divergence += math.exp(log_p) * (log_p - log_q)
    assert mass == pytest.approx(1.0, abs=1e-3)
    assert float(distribution.entropy(params)) == pytest.approx(entropy, abs=2e-3)
    found = float(distribution.kl(params, others))
    assert found == pytest.approx(divergence, rel=2e-3, abs=2e-3)


def test_clipped_normal_is_the_normal_where_there_are_no_bounds():
    distribution = compiled("free")
    params = np.array([0.7, 0.2], np.float32)
    log_p = -0.5 * ((1.5 - 0.7) / math.exp(0.2)) ** 2 - 0.2 - 0.5 * math.log(2 * math.pi)
    assert per_action(distribution, params, np.array([[1.5]]))[0] == pytest.approx(log_p, rel=1e-5)
    entropy = 0.5 * math.log(2 * math.pi * math.e) + 0.2
    assert float(distribution.entropy(params)) == pytest.approx(entropy, rel=1e-5)
    others = np.array([-0.4, 0.5], np.float32)
    divergence = 0.3 + (math.exp(0.4) + 1.1**2) / (2 * math.exp(1.0)) - 0.5
    assert float(distribution.kl(params, others)) == pytest.approx(divergence, rel=1e-5)


@pytest.mark.parametrize("kind", BOXES)
def test_clipped_normal_samples_hit_the_bounds_as_often_as_they_say(kind):
    distribution, space = compiled(kind), BOXES[kind]
    params = np.broadcast_to(np.array([0.4, 0.3], np.float32), (20_000, 2))
    action = np.asarray(distribution.sample(params, jax.random.key(0)))
    assert all(space.contains(row) for row in action[:200])
    for bound in (space.low, space.high):
        if np.isfinite(bound[0]):
            p = math.exp(per_action(distribution, params[0], bound[None])[0])
            assert np.mean(action == bound) == pytest.approx(p, abs=0.015)
    assert np.isfinite(distribution.log_prob(params, action)).all()


def test_clipped_normal_of_several_axes_is_their_product():
    space = spaces.Box(np.float32([[-1, 0], [2, -np.inf]]), np.float32([[1, 5], [3, 4]]))
    distribution = distribution_for(space)
    assert distribution.n_outputs == 4
    params = normal(0, 3, 8)
    action = jax.jit(distribution.sample)(params, jax.random.key(1))
    assert action.shape == (3, 2, 2)

    @jax.jit
    def product(params, action):
        total = 0.0
        for i in range(4):
            one = distribution_for(spaces.Box(space.low.flat[i], space.high.flat[i], (1,)))
            total += one.log_prob(params[:, [i, 4 + i]], action.reshape(3, 4)[:, [i]])
        return total

    log_p = jax.jit(distribution.log_prob)(params, action)
    np.testing.assert_allclose(log_p, product(params, action), rtol=1e-4)


def test_clipped_normal_far_outside_stays_finite():
    distribution = distribution_for(BOXES["symmetric"])
    means = np.array([-1e3, -30.0, 0.0, 30.0, 1e3], np.float32)
    params = np.stack([means, np.full_like(means, -2.0)], axis=-1)

    @jax.jit
    def everything(params):
        actions = jnp.array([-1.0, 0.0, 1.0])
        log_p = [distribution.log_prob(params, jnp.full((5, 1), a)) for a in actions]
        divergence = distribution.kl(params, params[::-1] + 0.1)
        return jnp.stack([*log_p, distribution.entropy(params), divergence])

    assert np.isfinite(everything(params)).all()
    assert np.isfinite(jax.jacobian(everything)(params)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bounds_that_float32_cannot_hold_are_kept(dtype):
    bounds = np.array([0.1, 0.3], dtype)
    space = spaces.Box(-bounds, bounds, dtype=dtype)
    distribution = distribution_for(space)
    for mean in (-5.0, 5.0):
        params = np.float32([mean, mean, 0.0, 0.0])
        action = np.asarray(jax.jit(distribution.mode)(params))
        assert space.contains(action.astype(space.dtype))
        assert (
            float(jax.jit(distribution.log_prob)(params, action)) > -1e-3
        )  # nearly all mass is there


def test_an_axis_with_one_allowed_value_stays_finite():
    space = spaces.Box(np.array([2.0, -1.0]), np.array([2.0, 1.0]), dtype=np.float64)
    distribution = distribution_for(space)

    @jax.jit
    def both(params):
        action = distribution.sample(params, jax.random.key(0))
        return action, distribution.log_prob(params, action)

    action, log_p = both(jnp.zeros((3, 4)))
    assert (action[:, 0] == 2.0).all()
    assert np.isfinite(log_p).all()


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(3),
        spaces.Dict(a=spaces.Discrete(2), b=spaces.Text(3)),
        spaces.Tuple([]),
        spaces.Box(0, 2**20, (2,), np.int32),
        spaces.Box(-(2**40), 2**40, (2,), np.int64),
    ],
)
def test_other_spaces_are_refused_with_advice(space):
    with pytest.raises(TypeError, match=r"expected .*, got .*; wrap"):
        distribution_for(space)
