"""Formulas against numbers worked out by hand, a plain loop, and what they reduce to."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitae_marl.algos import ops

NAN = math.nan


@pytest.fixture(params=["plain", "jitted"])
def call(request):
    return jax.jit if request.param == "jitted" else lambda function: function


def advantage_of(call, reward, value, **changes):
    """Call the estimator on one agent; unless changed, it acts always and nothing ends."""
    n = len(reward)
    arguments = {
        "next_value": [0.0] * n,
        "terminated": [0] * n,
        "truncated": [0] * n,
        "active": [1] * n,
        "next_active": [1] * n,
        "gamma": 0.5,
        "lam": 0.5,
    } | changes
    flags = ("terminated", "truncated", "active", "next_active")
    arrays = {
        name: jnp.asarray(x, bool if name in flags else jnp.float32)
        for name, x in arguments.items()
    }
    advantage, valid = call(ops.generalized_advantage)(
        jnp.asarray(reward, jnp.float32), jnp.asarray(value, jnp.float32), *arrays.values()
    )
    return advantage.tolist(), valid.tolist()


@pytest.mark.parametrize(
    ("x", "weight", "mean"),
    [
        ([1.0, 3.0], [1.0, 1.0], 2.0),
        ([1.0, 3.0], [1.0, 3.0], 2.5),
        ([1.0, NAN, 3.0], [1.0, 0.0, 1.0], 2.0),
        ([NAN, math.inf], [0.0, 0.0], 0.0),
    ],
)
def test_weighted_mean(call, x, weight, mean):
    assert call(ops.weighted_mean)(jnp.array(x), jnp.array(weight)).item() == pytest.approx(mean)


@pytest.mark.parametrize(
    ("x", "weight", "result"),
    [
        ([1.0, 3.0, NAN], [1.0, 1.0, 0.0], [-1.0, 1.0, 0.0]),
        ([0.0, 4.0], [3.0, 1.0], [-1 / math.sqrt(3), math.sqrt(3)]),
        ([7.0, 7.0], [1.0, 1.0], [0.0, 0.0]),
        ([NAN, NAN], [0.0, 0.0], [0.0, 0.0]),
    ],
)
def test_normalize(call, x, weight, result):
    got = call(ops.normalize)(jnp.array(x), jnp.array(weight))
    np.testing.assert_allclose(got, result, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "changes", "expected", "valid"),
    [
        ("nothing ends", {"next_value": [NAN, NAN, 8]}, [1.6875, 2.75, 3.0], [1, 1, 1]),
        (
            "terminated: no bootstrap, no trace",
            {"terminated": [0, 1, 0], "next_value": [NAN, NAN, 8]},
            [1.0, 0.0, 3.0],
            [1, 1, 1],
        ),
        (
            "truncated: the true next observation bootstraps",
            {"truncated": [0, 1, 0], "next_value": [NAN, 6, 8]},
            [1.75, 3.0, 3.0],
            [1, 1, 1],
        ),
        (
            "both flags: terminated wins",
            {"terminated": [0, 1, 0], "truncated": [0, 1, 0], "next_value": [NAN, 6, 8]},
            [1.0, 0.0, 3.0],
            [1, 1, 1],
        ),
    ],
)
def test_generalized_advantage_of_an_agent_that_always_acts(call, name, changes, expected, valid):
    # deltas 1, 2, 3 without ends; the trace decays by a quarter
    advantage, got_valid = advantage_of(call, [1, 2, 3], [1, 2, 4], **changes)
    assert advantage == pytest.approx(expected), name
    assert got_valid == list(map(bool, valid))


def test_generalized_advantage_of_an_agent_that_waits(call):
    # decisions at rows 0 and 2; the last reward is paid at row 3, where the agent waits
    advantage, valid = advantage_of(
        call,
        [1, 2, 3, 5],
        [1, NAN, 4, NAN],
        terminated=[0, 0, 0, 1],
        active=[1, 0, 1, 0],
        next_value=[NAN] * 4,
    )
    assert advantage == pytest.approx([3 + 2 - 1 + 1, 0, 3 + 5 - 4, 0])
    assert valid == [True, False, True, False]


def test_a_decision_whose_outcome_is_beyond_the_rollout_does_not_count(call):
    advantage, valid = advantage_of(
        call, [1, 2, 3, 5], [1, NAN, 4, NAN], active=[1, 0, 1, 0], next_active=[0, 1, 0, 0]
    )
    assert advantage == pytest.approx([3 + 2 - 1, 0, 0, 0])
    assert valid == [True, False, False, False]


def test_a_dead_agent_hands_nothing_back_from_the_next_episode(call):
    # dies at row 0, is absent at row 1, acts in the next episode from row 2
    advantage, valid = advantage_of(
        call,
        [1, 0, 9],
        [1, NAN, 4],
        terminated=[1, 0, 0],
        active=[1, 0, 1],
        next_value=[NAN, NAN, 8],
    )
    assert advantage == pytest.approx([0.0, 0.0, 9.0])
    assert valid == [True, False, True]


def naive_advantage(r, v, next_v, terminated, truncated, active, next_active, gamma, lam):
    """The docstring's equations for one agent, by walking forward from every decision."""
    n = len(r)
    advantage, valid = np.zeros(n), np.zeros(n, bool)
    for t in reversed(range(n)):
        if not active[t]:
            continue
        total, later = 0.0, None
        for s in range(t, n):
            total += r[s]
            if terminated[s] or truncated[s]:
                later = (0.0 if terminated[s] else next_v[s], 0.0)
            elif s + 1 == n and next_active[s]:
                later = (next_v[s], 0.0)
            elif s + 1 < n and active[s + 1]:
                later = (v[s + 1], advantage[s + 1])
            if later is not None:
                advantage[t] = total + gamma * later[0] - v[t] + gamma * lam * later[1]
                valid[t] = True
                break
    return advantage, valid


def rollout(kind, rng, n_steps=40, n_envs=3, n_agents=4):
    """Random rewards, values and flags of a kind of game, arrays [T, E, A]."""
    shape = (n_steps, n_envs, n_agents)
    reward, value, next_value = rng.normal(size=(3, *shape))
    ends = rng.random((n_steps, n_envs, 1)) < 0.15
    by_rule = rng.random((n_steps, n_envs, 1)) < 0.5
    active = np.ones((n_steps + 1, n_envs, n_agents), bool)
    own_end = np.zeros(shape, bool)
    if kind == "turn-based":
        active[:] = rng.integers(n_agents, size=(n_steps + 1, n_envs, 1)) == np.arange(n_agents)
    if kind == "dying":
        for t in range(n_steps):
            dies = (rng.random(shape[1:]) < 0.1) & active[t]
            own_end[t] = dies & ~ends[t]
            active[t + 1] = np.where(ends[t], True, active[t] & ~dies)
        reward *= active[:-1]
    alive = active[:-1] if kind == "dying" else np.ones(shape, bool)
    terminated = (ends & by_rule & alive) | own_end
    truncated = ends & ~by_rule & alive
    return reward, value, next_value, terminated, truncated, active[:-1], active[1:]


@pytest.mark.parametrize("kind", ["always active", "turn-based", "dying"])
def test_generalized_advantage_equals_a_plain_loop(kind):
    arrays = rollout(kind, np.random.default_rng(len(kind)))
    advantage, valid = jax.jit(ops.generalized_advantage)(*arrays, 0.9, 0.8)
    assert valid.any()
    assert bool(valid.all()) == (kind == "always active")
    for e in range(3):
        for a in range(4):
            expected = naive_advantage(*(x[:, e, a] for x in arrays), 0.9, 0.8)
            np.testing.assert_allclose(advantage[:, e, a], expected[0], atol=1e-5)
            np.testing.assert_array_equal(valid[:, e, a], expected[1])


@pytest.mark.parametrize("kind", ["turn-based", "dying"])
def test_values_of_inactive_rows_change_no_bit(kind):
    reward, value, next_value, *flags = rollout(kind, np.random.default_rng(1))
    active, ended = flags[2], flags[0] | flags[1]
    function = jax.jit(ops.generalized_advantage)
    plain = function(reward, value, next_value, *flags, 0.9, 0.8)
    read = ended & ~flags[0]  # next values are read at truncations and in the last row
    read[-1] = True
    spoilt = np.where(active, value, NAN), np.where(read, next_value, NAN)
    other = function(reward, *spoilt, *flags, 0.9, 0.8)
    np.testing.assert_array_equal(plain[0], other[0])
    np.testing.assert_array_equal(plain[1], other[1])


def test_lambda_zero_is_the_temporal_difference_and_lambda_one_the_return():
    rng = np.random.default_rng(3)
    reward, value, next_value, terminated, truncated, *active = rollout("always active", rng)
    next_value[:-1] = np.where(truncated[:-1], next_value[:-1], value[1:])
    data = (reward, value, next_value, terminated, truncated, *active)
    one_step, _ = ops.generalized_advantage(*data, 0.9, 0.0)
    np.testing.assert_allclose(
        one_step, reward + 0.9 * ~terminated * next_value - value, rtol=1e-4, atol=1e-5
    )
    returns = np.zeros_like(reward)
    later = next_value[-1]
    for t in reversed(range(len(reward))):
        later = np.where(truncated[t], next_value[t], later) * ~terminated[t]
        returns[t] = later = reward[t] + 0.9 * later
    full, _ = ops.generalized_advantage(*data, 0.9, 1.0)
    np.testing.assert_allclose(full + value, returns, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"),
    [
        (2.0, 1.0, -1.2),
        (2.0, -1.0, 2.0),
        (0.5, 1.0, -0.5),
        (0.5, -1.0, 0.8),
        (1.0, 3.0, -3.0),
        (1.1, 2.0, -2.2),
    ],
)
def test_clipped_surrogate_loss(call, ratio, advantage, loss):
    got = call(ops.clipped_surrogate_loss)(
        jnp.log(ratio), jnp.array(0.0), jnp.array(advantage), jnp.array(0.2)
    )
    assert got.item() == pytest.approx(loss, rel=1e-6)


def test_the_first_surrogate_gradient_is_the_policy_gradient():
    advantage = jnp.array([2.0, -3.0])
    old = jnp.log(jnp.array([0.3, 0.6]))
    gradient = jax.grad(lambda x: ops.clipped_surrogate_loss(x, old, advantage, 0.2).sum())(old)
    np.testing.assert_allclose(gradient, -advantage, rtol=1e-6)


def test_the_surrogate_gradient_vanishes_beyond_the_clip():
    advantage, old = jnp.array([1.0, -1.0]), jnp.zeros(2)
    new = jnp.log(jnp.array([1.5, 0.5]))
    gradient = jax.grad(lambda x: ops.clipped_surrogate_loss(x, old, advantage, 0.2).sum())(new)
    assert gradient.tolist() == [0.0, 0.0]


def test_approximate_kl(call):
    new, old = jnp.log(jnp.array([0.5, 0.25])), jnp.log(jnp.array([0.25, 0.5]))
    got = call(ops.approximate_kl)(new, old)
    np.testing.assert_allclose(got, [1 - math.log(2), math.log(2) - 0.5], rtol=1e-6)


def test_approximate_kl_averages_to_the_divergence():
    old, new = np.array([0.2, 0.3, 0.5]), np.array([0.4, 0.4, 0.2])
    rows = ops.approximate_kl(jnp.log(new), jnp.log(old))
    assert float(np.sum(old * rows)) == pytest.approx(np.sum(old * np.log(old / new)), rel=1e-5)


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ([0.0, 1.0, 2.0, 3.0], 1.0),
        ([5.0, 6.0, 7.0, 8.0], 1.0),
        ([2.0, 2.0, 2.0, 2.0], 0.0),
        ([0.0, 0.0, 3.0, 3.0], 0.6),
        ([3.0, 2.0, 1.0, 0.0], -3.0),
    ],
)
def test_explained_variance(call, prediction, expected):
    x = jnp.array([*prediction, NAN])
    target, weight = jnp.array([0.0, 1.0, 2.0, 3.0, NAN]), jnp.array([1.0, 1.0, 1.0, 1.0, 0.0])
    got = call(ops.explained_variance)(x, target, weight)
    assert got.item() == pytest.approx(expected, abs=1e-6)
