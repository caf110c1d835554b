"""IPPO's functions: which rows and agents count, what is shared, annealing, size of the program."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pytrees import finite, same_bits
from rollouts import BOX, E, T, make_groups, rollout

from kitae_marl.algos import get_algorithm, ops
from kitae_marl.algos.ppo import algorithm as ppo
from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.errors import ConfigError
from kitae_marl.types import Algorithm, AlgoType, Experience, GroupSpec

CONFIG = Config(
    n_envs=E,
    env_steps=T * E * 5,
    ppo=PPOConfig(n_steps=T, n_epochs=2, n_minibatches=2, hidden_sizes=(8,), max_grad_norm=0.5),
)
pytestmark = pytest.mark.usefixtures("quickest_compilation")


class Learning(NamedTuple):
    """The compiled functions, first state and a rollout."""

    state: Any
    explore: Any
    process: Any
    update: Any
    experience: Experience


@functools.cache
def learning(share_params: bool) -> Learning:
    groups = make_groups(share_params)
    state = jax.jit(ppo.train_state_factory(groups, CONFIG))(jax.random.key(0))
    explore = jax.jit(ppo.explore_factory(groups, CONFIG))
    return Learning(
        state,
        explore,
        jax.jit(ppo.process_experience_factory(groups, CONFIG)),
        jax.jit(ppo.update_step_factory(groups, CONFIG)),
        rollout(groups, lambda *inputs: explore(state, jax.random.key(1), *inputs, ())),
    )


def update(share_params: bool, experience: Experience, state: Any = None) -> Any:
    _, _, process, step, _ = learning(share_params)
    state = learning(share_params).state if state is None else state
    return step(state, jax.random.key(3), process(state, jax.random.key(2), experience))


def test_the_registry_knows_it():
    algorithm = get_algorithm("ippo")
    assert isinstance(algorithm, Algorithm)
    assert algorithm.algo_type is AlgoType.ON_POLICY
    with pytest.raises(ConfigError, match=r"expected one of .*'ippo'.*, got 'x'"):
        get_algorithm("x")


@pytest.mark.parametrize("share_params", [True, False])
class TestUpdate:
    def test_moves_every_parameter_and_stays_finite(self, share_params):
        state, info = update(share_params, learning(share_params).experience)
        assert finite((state, info))
        for name, group in state.items():
            before = learning(share_params).state[name].params
            for old, new in zip(*map(jax.tree.leaves, (before, group.params)), strict=True):
                assert (old != new).any()
            assert (np.asarray(group.n_updates) == 1).all()
        assert {key.split("/")[0] for key in info} == {"a", "b"}

    @pytest.mark.parametrize("junk", [np.nan, np.inf, 1e30, "noise"])
    def test_inactive_rows_change_no_bit(self, share_params, junk):
        experience = learning(share_params).experience
        rng = np.random.default_rng(7)

        def spoil(field: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            spoilt = {}
            for name, x in field.items():
                other = rng.normal(size=x.shape) if junk == "noise" else np.full(x.shape, junk)
                if x.dtype.kind == "i":
                    other = rng.integers(-(2**31), 2**31, size=x.shape)
                rows = experience.active[name].reshape(T, E, -1, *(1,) * (x.ndim - 3))
                spoilt[name] = np.where(rows, x, other).astype(x.dtype)
            return spoilt

        assert not experience.active["a"].all()
        dirty = experience._replace(
            observation=spoil(experience.observation),
            action=spoil(experience.action),
            extras=spoil(experience.extras),
        )
        assert same_bits(update(share_params, experience), update(share_params, dirty))

    def test_next_observations_are_read_only_where_an_episode_is_cut(self, share_params):
        experience = learning(share_params).experience
        read = {name: truncated.copy() for name, truncated in experience.truncated.items()}
        for rows in read.values():
            rows[-1] = True
        dirty = experience._replace(
            next_observation={
                name: np.where(read[name][..., None], x, np.float32(np.nan))
                for name, x in experience.next_observation.items()
            }
        )
        assert same_bits(update(share_params, experience), update(share_params, dirty))

    def test_nothing_active_changes_nothing_but_counters(self, share_params):
        experience = learning(share_params).experience
        idle = {name: np.zeros_like(x) for name, x in experience.active.items()}
        state, info = update(share_params, experience._replace(active=idle, next_active=idle))
        first = learning(share_params).state
        assert same_bits(
            {name: s.params for name, s in state.items()},
            {name: s.params for name, s in first.items()},
        )
        assert finite(info)

    def test_no_learning_rate_is_left_at_the_end(self, share_params):
        first, experience = learning(share_params).state, learning(share_params).experience
        n_gradient_steps = CONFIG.n_updates * CONFIG.ppo.n_epochs * CONFIG.ppo.n_minibatches

        def at(count: int) -> Any:
            """The first state with the counters of the optimiser set."""
            counters = jax.tree.map(
                lambda x: jnp.full_like(x, count) if x.dtype == jnp.int32 else x, first
            )
            state, _ = update(share_params, experience, counters)
            return state

        def change(count: int) -> float:
            pairs = ((s.params, first[name].params) for name, s in at(count).items())
            differences = jax.tree.map(lambda a, b: np.abs(a - b).max(), *zip(*pairs, strict=True))
            return max(jax.tree.leaves(differences))

        assert change(n_gradient_steps) < 1e-8  # the schedule itself ends within rounding of 0
        assert change(n_gradient_steps - 1) > 1e-6

    def test_counters_reach_the_end_with_the_last_update(self, share_params):
        state = learning(share_params).state
        for _ in range(CONFIG.n_updates):
            state, _ = update(share_params, learning(share_params).experience, state)
        counts = [x for x in jax.tree.leaves(state["a"].opt_state) if x.dtype == jnp.int32]
        n_gradient_steps = CONFIG.n_updates * CONFIG.ppo.n_epochs * CONFIG.ppo.n_minibatches
        assert counts
        assert all((np.asarray(count) == n_gradient_steps).all() for count in counts)

    def test_forbidden_actions_are_never_sampled(self, share_params):
        experience = learning(share_params).experience
        mask, action = experience.action_mask["a"], experience.action["a"]
        assert np.take_along_axis(mask, action[..., None], axis=-1).all()
        assert (experience.extras["a"] > -30).all()


@pytest.mark.parametrize("anneal", [True, False])
def test_step_sizes(anneal):
    config = Config(
        n_envs=1,
        env_steps=12,
        ppo=PPOConfig(n_steps=4, n_epochs=2, n_minibatches=1, learning_rate=0.6, anneal=anneal),
    )
    optimizer = ppo.make_learner(make_groups(True)[0], config).optimizer
    params = jnp.zeros(1)
    state, sizes = optimizer.init(params), []
    for _ in range(7):  # Adam's steps are the learning rate where all gradients are equal
        step, state = optimizer.update(jnp.ones(1), state, params)
        sizes.append(-float(step[0]))
    expected = [0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0] if anneal else [0.6] * 7
    np.testing.assert_allclose(sizes, expected, atol=1e-4)


def test_gradients_are_clipped_by_their_global_norm():
    optimizer = ppo.make_learner(make_groups(True)[0], CONFIG).optimizer
    params = {"x": jnp.zeros(1), "y": jnp.zeros(1)}
    _, state = optimizer.update(
        {"x": jnp.full(1, 30.0), "y": jnp.full(1, 40.0)}, optimizer.init(params), params
    )
    moment = state[1][0].mu  # a tenth of the clipped gradient: norm 0.5, in the same direction
    np.testing.assert_allclose([moment["x"][0], moment["y"][0]], [0.03, 0.04], rtol=1e-4)


def test_shared_parameters_have_no_agent_axis_and_independent_ones_start_apart():
    shared, alone = learning(True).state["a"].params, learning(False).state["a"].params
    for one, two in zip(*map(jax.tree.leaves, (shared, alone)), strict=True):
        assert two.shape == (2, *one.shape)
    kernel = alone["actor"]["params"]["MLP_0"]["Dense_0"]["kernel"]
    assert (kernel[0] != kernel[1]).any()


def test_independent_agents_learn_nothing_from_each_other():
    experience = learning(False).experience
    other = experience._replace(
        reward={
            name: x + np.float32([0, 1])[: x.shape[-1]] for name, x in experience.reward.items()
        }
    )
    (before, _), (after, _) = update(False, experience), update(False, other)
    for one, two in zip(*(jax.tree.leaves(s["a"].params) for s in (before, after)), strict=True):
        assert same_bits(one[0], two[0])
    second = [[x[1] for x in jax.tree.leaves(s["a"].params)] for s in (before, after)]
    assert not same_bits(*second)


def test_shared_agents_learn_from_each_other():
    experience = learning(True).experience
    other = experience._replace(reward=experience.reward | {"a": 1 + experience.reward["a"]})
    (before, _), (after, _) = update(True, experience), update(True, other)
    assert not same_bits(before["a"].params, after["a"].params)
    assert same_bits(before["b"].params, after["b"].params)  # groups stay apart


def test_independent_is_every_agent_trained_alone():
    many, experience = learning(False), learning(False).experience
    together, _ = update(False, experience)
    box, moves = BOX, gym.spaces.Discrete(4)
    single = (GroupSpec("a", ("a_1",), box, moves), make_groups(True)[1])
    process = jax.jit(ppo.process_experience_factory(single, CONFIG))
    step = jax.jit(ppo.update_step_factory(single, CONFIG))

    def own(tree: Any) -> Any:
        return jax.tree.map(lambda x: x[1], tree)

    state = {"a": own(many.state["a"]), "b": jax.tree.map(lambda x: x[0], many.state["b"])}
    rows = jax.tree.map(lambda x: x[:, :, -1:], experience)
    alone, _ = step(state, jax.random.key(3), process(state, jax.random.key(2), rows))
    for one, two in zip(*map(jax.tree.leaves, (own(together["a"]), alone["a"])), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_process_experience_wires_the_estimator():
    groups, experience = make_groups(True), learning(True).experience
    config = replace(CONFIG, ppo=replace(CONFIG.ppo, normalize_return=False))
    state = ppo.train_state_factory(groups, config)(jax.random.key(0))
    process = jax.jit(ppo.process_experience_factory(groups, config))
    processed = process(state, jax.random.key(0), experience).batch
    critic = ppo.make_learner(groups[0], config).critic
    params = state["a"].params["critic"]
    value, _ = critic.apply(params, experience.observation["a"])
    advantage, valid = ops.generalized_advantage(
        experience.reward["a"],
        value,
        critic.apply(params, experience.next_observation["a"])[0],
        experience.terminated["a"],
        experience.truncated["a"],
        experience.active["a"],
        experience.next_active["a"],
        CONFIG.ppo.gamma,
        CONFIG.ppo.gae_lambda,
    )
    got = processed.advantage["a"].reshape(T, E, 2)
    np.testing.assert_allclose(got, advantage, atol=1e-5)
    np.testing.assert_array_equal(processed.weight["a"].reshape(T, E, 2), valid)
    target = processed.target["a"].reshape(T, E, 2)
    np.testing.assert_allclose(target[valid], (advantage + value)[valid], atol=1e-5)


def size_of_program(n_agents: int, share_params: bool) -> int:
    """Lines of the update's program for so many agents."""
    groups = make_groups(share_params, n_agents)
    key = jax.random.key(0)
    state = jax.eval_shape(ppo.train_state_factory(groups, CONFIG), key)
    process = ppo.process_experience_factory(groups, CONFIG)
    step = ppo.update_step_factory(groups, CONFIG)

    def update(state: Any, experience: Experience) -> Any:
        return step(state, key, process(state, key, experience))

    def act(observation: Any, mask: Any) -> Any:
        n = {name: x.shape[:2] for name, x in observation.items()}
        action = {"a": np.zeros(n["a"], np.int32), "b": np.zeros((*n["b"], 2), np.float32)}
        return action, {name: np.zeros(n[name], np.float32) for name in n}, ()

    return len(jax.jit(update).lower(state, rollout(groups, act)).as_text().splitlines())


@pytest.mark.parametrize("share_params", [True, False])
def test_the_program_does_not_grow_with_the_number_of_agents(share_params):
    assert size_of_program(64, share_params) <= size_of_program(2, share_params) + 5
