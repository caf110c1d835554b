"""The magnet that a policy is held near, the average policy, and weights that are lowered."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pytrees import same_bits
from rollouts import E, T, make_groups, rollout

from kitae_marl.algos.ppo import actors
from kitae_marl.algos.ppo import algorithm as ppo
from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.errors import ConfigError
from kitae_marl.types import TrainState

SETTINGS = PPOConfig(
    n_steps=T,
    n_epochs=1,
    n_minibatches=1,
    hidden_sizes=(8,),
    normalize_return=False,
    max_grad_norm=1e6,
    magnet_coef=0.7,
    magnet_rate=0.25,
    average=True,
)
CONFIG = Config(n_envs=E, env_steps=T * E * 4, ppo=SETTINGS)
pytestmark = pytest.mark.usefixtures("quickest_compilation")


def near(tree: Any, seed: int) -> Any:
    """Another actor."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + rng.normal(size=x.shape).astype(np.float32), tree)


@functools.cache
def played(share_params: bool) -> tuple[Any, Any, Any]:
    """Groups, a state whose magnet is elsewhere, and a rollout."""
    groups = make_groups(share_params)
    state = jax.jit(ppo.train_state_factory(groups, CONFIG))(jax.random.key(0))
    state = {
        name: s._replace(actors={**s.actors, "magnet": near(s.actors["magnet"], 1)})
        for name, s in state.items()
    }
    explore = jax.jit(ppo.explore_factory(groups, CONFIG))
    experience = rollout(groups, lambda *seen: explore(state, jax.random.key(1), *seen, ()))
    return groups, state, experience


def learned(share_params: bool, config: Config = CONFIG, **fields: Any) -> tuple[Any, Any]:
    """One update; fields of the TrainStates before it may be given."""
    groups, state, experience = played(share_params)
    state = {name: s._replace(**fields) for name, s in state.items()}
    learn = jax.jit(ppo.learn_factory(groups, config))
    return learn(state, jax.random.key(2), experience)


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def probabilities(share_params: bool, actor: Any) -> np.ndarray:
    """What an actor of group ``a`` does in the rollout, ``[T * E, A, 4]``, agent by agent."""
    (group, _), _, experience = played(share_params)
    learner = ppo.make_learner(group, CONFIG)
    each = []
    for i in range(group.n_agents):
        own = actor if share_params else jax.tree.map(lambda x, i=i: x[i], actor)
        seen, mask = experience.observation["a"][:, :, i], experience.action_mask["a"][:, :, i]
        each.append(learner.policy(TrainState({"actor": own}, (), ()), seen, mask, ())[0])
    return softmax(np.stack(each, axis=2).astype(np.float64)).reshape(T * E, group.n_agents, 4)


@pytest.mark.parametrize("share_params", [True, False])
def test_the_pull_is_the_divergence_from_the_magnet(share_params):
    """Of probabilities, by hand; over the rows that count, of each network by itself."""
    groups, state, experience = played(share_params)
    process = jax.jit(ppo.process_experience_factory(groups, CONFIG))
    weight = np.asarray(process(state, jax.random.key(0), experience).batch.weight["a"])
    both = state["a"].params["actor"], state["a"].actors["magnet"]
    p, q = (probabilities(share_params, actor) for actor in both)
    allowed = p > 0
    terms = np.where(allowed, p * np.log(np.where(allowed, p / np.where(allowed, q, 1), 1)), 0)
    rows = terms.sum(axis=-1) * weight
    axis = None if share_params else 0
    expected = np.mean(rows.sum(axis=axis) / weight.sum(axis=axis))
    _, info = learned(share_params)
    assert expected > 0.05
    np.testing.assert_allclose(info["a/magnet_kl"], expected, rtol=1e-4)


def test_the_pull_is_added_to_the_loss_with_its_weight():
    """Of a loss of pull and bonus alone the gradient is theirs; of the bonus a share is left."""
    (group, _), state, experience = played(True)
    only = replace(SETTINGS, entropy_coef=0.4, value_coef=0.0, entropy_end=0.5)
    config = replace(CONFIG, ppo=only)
    process = jax.jit(ppo.process_experience_factory(played(True)[0], config))
    batch = process(state, jax.random.key(0), experience).batch
    batch = ppo.PPOBatch(*(field["a"] if field != () else () for field in batch))
    batch = batch._replace(advantage=jnp.zeros_like(batch.advantage))
    learner = ppo.make_learner(group, config)
    total = jnp.sum(batch.weight)
    loss = functools.partial(ppo._loss, learner=learner, batch=batch, total=total)

    def by_hand(params: Any, left: float) -> jax.Array:
        def outputs(actor: Any) -> Any:
            acting = TrainState({"actor": actor}, (), ())
            return learner.policy(acting, batch.observation, batch.action_mask, ())[0]

        magnet = outputs(state["a"].actors["magnet"])
        now = outputs(params["actor"])
        rows = 0.7 * learner.distribution.kl(now, magnet)
        rows -= left * 0.4 * learner.distribution.entropy(now)
        return jnp.sum(rows * batch.weight) / total

    params = state["a"].params
    for n_updates, left in ((0, 1.0), (2, 0.75), (4, 0.5), (9, 0.5)):  # four updates in all
        now = state["a"]._replace(n_updates=jnp.int32(n_updates))
        found = jax.grad(lambda x, now=now: loss(x, now, config=config)[0])(params)["actor"]
        expected = jax.grad(by_hand)(params, left)["actor"]
        for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("share_params", [True, False])
def test_the_magnet_goes_its_share_of_the_way(share_params):
    _, state, _ = played(share_params)
    new, _ = learned(share_params)
    for name, s in new.items():
        trees = state[name].actors["magnet"], s.params["actor"], s.actors["magnet"]
        for old, actor, magnet in zip(*map(jax.tree.leaves, trees), strict=True):
            np.testing.assert_allclose(magnet, 0.75 * old + 0.25 * actor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("share_params", [True, False])
def test_the_average_counts_later_updates_for_more(share_params):
    """Weights of t (t + 1) (t + 2), which is what the rule comes to with a power of 3."""
    groups, state, experience = played(share_params)
    learn, seen = jax.jit(ppo.learn_factory(groups, CONFIG)), []
    for t in range(4):
        state, _ = learn(state, jax.random.key(t), experience)
        seen.append(state["a"].params["actor"])
    weights = np.array([t * (t + 1) * (t + 2) for t in range(1, 5)], float)
    mean = jax.tree.map(lambda *x: np.average(np.stack(x), axis=0, weights=weights), *seen)
    for a, b in zip(*map(jax.tree.leaves, (state["a"].actors["average"], mean)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    acting = ppo.acting(actors.average(state))["a"].params["actor"]
    assert same_bits(acting, state["a"].actors["average"])


def test_nothing_is_kept_that_nobody_asked_for():
    groups = make_groups(True)
    plain = replace(CONFIG, ppo=replace(SETTINGS, magnet_coef=0.0, average=False))
    state = ppo.train_state_factory(groups, plain)(jax.random.key(0))
    assert {s.actors for s in state.values()} == {()}
    with pytest.raises(ConfigError, match=r"keeps its average policy.*--ppo\.average"):
        actors.average(state)
    one = replace(plain, ppo=replace(plain.ppo, average=True))
    assert list(ppo.train_state_factory(groups, one)(jax.random.key(0))["a"].actors) == ["average"]


def test_keeping_an_average_changes_nothing_that_is_learned():
    groups, _, experience = played(True)
    plain = replace(CONFIG, ppo=replace(SETTINGS, magnet_coef=0.0, average=False))
    both = []
    for config in (plain, replace(plain, ppo=replace(plain.ppo, average=True))):
        first = ppo.train_state_factory(groups, config)(jax.random.key(0))
        new, _ = jax.jit(ppo.learn_factory(groups, config))(first, jax.random.key(1), experience)
        both.append({name: s._replace(actors=()) for name, s in new.items()})
    assert same_bits(*both)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("magnet_coef", -0.1),
        ("magnet_coef", float("nan")),
        ("magnet_rate", 1.5),
        ("magnet_rate", "fast"),
        ("entropy_end", -0.5),
        ("average", "yes"),
    ],
)
def test_bad_settings_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=rf"ppo\.{name}: expected .*, got {value!r}"):
        PPOConfig(**{name: value})
