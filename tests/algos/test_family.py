"""The PPO family: what the critic sees, memory, normalisation, early stop; and what counts."""

from __future__ import annotations

import functools
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kitae_envs.parallel import GameParallelEnv
from pytrees import finite, same_bits
from rollouts import E, T, make_groups, rollout
from small_games import Clock

from kitae_marl.algos import get_algorithm
from kitae_marl.algos.ppo import algorithm as ppo
from kitae_marl.algos.ppo.units import in_units_of
from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.data.lifting import remember
from kitae_marl.loops import devices
from kitae_marl.players.player import Player
from kitae_marl.runs.agent import Agent
from kitae_marl.types import Experience, GroupSpec
from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

STATE = gym.spaces.Box(-9, 9, (5,), np.float32)
GRU = {"gru_size": 6, "chunk_length": 4}
ALL = {
    "normalize_observation": True,
    "normalize_return": True,
    "clip_value": 0.1,
    "target_kl": 0.5,
    "agent_id": True,
    "magnet_coef": 0.2,
    "average": True,
    "entropy_end": 0.5,
}
pytestmark = pytest.mark.usefixtures("quickest_compilation")


class Variant(NamedTuple):
    """A member of the family with its settings."""

    algo: str
    share_params: bool
    with_state: bool
    settings: dict[str, Any]


VARIANTS = {
    "ippo": Variant("ippo", True, False, ALL),
    "mappo, memory": Variant("mappo", True, False, ALL | GRU),
    "mappo of the state, independent": Variant("mappo", False, True, ALL),
    "ippo, memory, independent": Variant("ippo", False, False, ALL | GRU),
    "mappo of the state, memory": Variant("mappo", True, True, ALL | GRU),
    "mappo, memory, independent": Variant("mappo", False, False, ALL | GRU),
}
QUICK = ("ippo", "mappo, memory", "ippo, memory, independent")
EACH = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]


class Learning(NamedTuple):
    """The compiled functions, first state and a rollout."""

    groups: tuple[GroupSpec, ...]
    config: Config
    state: Any
    update: Any
    experience: Experience


def make_config(algo: str, **settings: Any) -> Config:
    base = {"n_steps": T, "n_epochs": 2, "n_minibatches": 2, "hidden_sizes": (8,)}
    return Config(algo=algo, n_envs=E, env_steps=T * E * 5, ppo=PPOConfig(**(base | settings)))


def make_update(groups: tuple[GroupSpec, ...], config: Config) -> Any:
    process = ppo.process_experience_factory(groups, config)
    step = ppo.update_step_factory(groups, config)
    key = jax.random.key(3)
    return jax.jit(lambda state, experience: step(state, key, process(state, key, experience)))


def as_learned(state: Any) -> Any:
    """Give a TrainState moments that scale something, and a policy that heeds what it sees."""
    bent = jax.tree.map(lambda x: x * 1.5 + 0.25, state.moments)
    head = state.params["actor"]["params"]["Dense_0"]
    state.params["actor"]["params"]["Dense_0"] = head | {"kernel": 50.0 * head["kernel"]}
    return state._replace(moments=bent)


def played(groups: Any, config: Config, state: Any, with_state: bool) -> Experience:
    """A rollout with turns and ends, acted in step by step."""
    algorithm = get_algorithm(config.algo)
    explore = jax.jit(remember(algorithm.explore(groups, config)))
    filled = rollout(groups, lambda observation, mask: filler(observation))
    rng = np.random.default_rng(1)
    over = np.stack([filled.terminated["a"] | filled.truncated["a"]])[0][..., 0]
    reset = np.concatenate([rng.random((1, E)) < 0.5, over[:-1]])
    carry = jax.tree.map(jnp.ones_like, algorithm.carry(groups, config)(E))
    rows = []
    for t in range(T):
        seen, mask, active = jax.tree.map(
            lambda x, t=t: x[t], (filled.observation, filled.action_mask, filled.active)
        )
        key = jax.random.key(t)
        action, log_prob, after = explore(state, key, seen, mask, carry, reset[t], active)
        rows.append({"action": action, "extras": log_prob, "carry": carry})
        carry = after
    acted = jax.tree.map(lambda *x: np.stack(x), *rows)
    if with_state:
        first, second = rng.normal(size=(2, T, E, *STATE.shape)).astype(np.float32)
        filled = filled._replace(state=first, next_state=second)
    return filled._replace(**acted, reset=reset, next_reset=over)


def filler(observation: Any) -> Any:
    """Actions and log-probabilities that are replaced."""
    n = {name: x.shape[:2] for name, x in observation.items()}
    action = {"a": np.zeros(n["a"], np.int32), "b": np.zeros((*n["b"], 2), np.float32)}
    return action, {name: np.zeros(n[name], np.float32) for name in n}, ()


@functools.cache
def learning(name: str) -> Learning:
    variant = VARIANTS[name]
    state_space = STATE if variant.with_state else None
    groups = tuple(replace(g, state_space=state_space) for g in make_groups(variant.share_params))
    config = make_config(variant.algo, **variant.settings)
    state = jax.jit(ppo.train_state_factory(groups, config))(jax.random.key(0))
    state = {name: as_learned(s) for name, s in state.items()}
    experience = played(groups, config, state, variant.with_state)
    return Learning(groups, config, state, make_update(groups, config), experience)


def spoilt(experience: Experience, junk: Any) -> Experience:
    """Put junk into all that inactive rows hold."""
    rng = np.random.default_rng(7)

    def spoil(field: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        new = {}
        for name, x in field.items():
            other = rng.normal(size=x.shape) if junk == "noise" else np.full(x.shape, junk)
            if x.dtype.kind == "i":
                other = rng.integers(-(2**31), 2**31, size=x.shape)
            rows = experience.active[name].reshape(T, E, -1, *(1,) * (x.ndim - 3))
            new[name] = np.where(rows, x, other).astype(x.dtype)
        return new

    spoiling = {n: spoil(getattr(experience, n)) for n in ("observation", "action", "extras")}
    return experience._replace(**spoiling)


@pytest.mark.parametrize("name", EACH)
class TestEveryVariant:
    @pytest.mark.long
    def test_moves_every_parameter_and_stays_finite(self, name):
        first = learning(name)
        state, info = first.update(first.state, first.experience)
        assert finite((state, info))
        for group, after in state.items():
            before = first.state[group].params
            for old, new in zip(*map(jax.tree.leaves, (before, after.params)), strict=True):
                assert (old != new).any()

    @pytest.mark.parametrize("junk", [np.nan, "noise"])
    def test_inactive_rows_change_no_bit(self, name, junk):
        first = learning(name)
        assert not first.experience.active["a"].all()
        dirty = first.update(first.state, spoilt(first.experience, junk))
        assert same_bits(first.update(first.state, first.experience), dirty)

    @pytest.mark.long
    def test_blocks_of_rows_add_up(self, name, monkeypatch):
        """The optimiser's state holds the gradients: blocks give those of the whole minibatch."""
        first = learning(name)
        whole, info = first.update(first.state, first.experience)
        sizes = []

        def cut(n: int, weight: int) -> int:
            sizes.append(n * weight)
            return 4

        monkeypatch.setattr(devices, "n_blocks", cut)
        update = make_update(first.groups, first.config)
        blocked, blocked_info = update(first.state, first.experience)
        n = T * E  # two agents of a, one of b; two minibatches
        assert sizes[:4] == [2 * n, n, n, n // 2]  # values first, then gradients
        pairs = zip(*map(jax.tree.leaves, ((whole, info), (blocked, blocked_info))), strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
        dirty = update(first.state, spoilt(first.experience, np.nan))
        assert same_bits((blocked, blocked_info), dirty)

    def test_running_statistics_are_those_of_active_rows(self, name):
        first = learning(name)
        state, _ = first.update(first.state, first.experience)
        for group in first.groups:
            x = first.experience.observation[group.name]
            active = first.experience.active[group.name]
            axis = (0, 1, 2) if group.share_params else (0, 1)
            old, new = (s[group.name].moments["observation"] for s in (first.state, state))
            n = active.sum(axis=axis)
            np.testing.assert_allclose(new.count, old.count + n, rtol=1e-6)
            mean = np.where(active[..., None], x, 0).sum(axis=axis) / n[..., None]
            share = (n / new.count)[..., None]
            np.testing.assert_allclose(new.mean, old.mean + (mean - old.mean) * share, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["mappo, memory", pytest.param("ippo, memory, independent", marks=pytest.mark.slow)]
)
def test_what_was_sampled_has_the_same_probability_when_learned_from(name):
    first = learning(name)
    one = replace(first.config, ppo=replace(first.config.ppo, n_epochs=1, n_minibatches=1))
    update = make_update(first.groups, one)
    _, info = update(first.state, first.experience)
    for group in first.groups:
        assert abs(float(info[f"{group.name}/approx_kl"])) < 1e-6
        assert float(info[f"{group.name}/clip_fraction"]) == 0.0
    shifted = jax.tree.map(lambda x: x + 1.0, first.experience.carry)
    carries = first.experience._replace(carry=shifted, reset=np.zeros((T, E), bool))
    _, info = update(first.state, carries)
    assert float(info["a/approx_kl"]) > 1e-4  # memory is read


@pytest.mark.usefixtures("usual_fusions")
@pytest.mark.parametrize("settings", [{}, pytest.param(GRU | ALL, marks=pytest.mark.slow)])
def test_mappo_of_one_agent_whose_state_is_its_observation_is_ippo(settings):
    learned = {}
    for algo in ("ippo", "mappo"):
        state_space = gym.spaces.Box(-9, 9, (3,), np.float32) if algo == "mappo" else None
        (group,) = make_groups(True, 1)[:1]
        groups = (replace(group, state_space=state_space),)
        config = make_config(algo, **settings)
        state = jax.jit(ppo.train_state_factory(groups, config))(jax.random.key(0))
        both = (*groups, make_groups(True, 1)[1])
        whole = make_config("ippo", **settings)
        start = jax.jit(ppo.train_state_factory(both, whole))(jax.random.key(0))
        experience = played(both, whole, start, False)
        experience = experience._replace(
            state=experience.observation["a"][:, :, 0],
            next_state=experience.next_observation["a"][:, :, 0],
        )
        new, info = make_update(groups, config)(state, experience)
        learned[algo] = new["a"].params, new["a"].opt_state, new["a"].critic_carry, info
    assert same_bits(learned["ippo"], learned["mappo"])


def test_past_the_divergence_nothing_more_is_learned():
    first = learning("ippo")
    far = first.experience._replace(
        extras={name: x - 2.0 for name, x in first.experience.extras.items()}
    )
    state, info = first.update(first.state, far)
    for name, s in state.items():
        (_, (adam, schedule)), (_, (old_adam, _)) = s.opt_state, first.state[name].opt_state
        old = first.state[name]
        assert same_bits((s.params["actor"], adam), (old.params["actor"], old_adam))
        same_values = in_units_of(old, s.moments).params["critic"]
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-6), s.params["critic"], same_values
        )
        assert int(schedule.count) == first.config.ppo.n_epochs * first.config.ppo.n_minibatches
        assert float(info[f"{name}/stopped"]) == 1.0
    _, info = first.update(first.state, first.experience)
    assert float(info["a/stopped"]) == 0.0


def test_environments_in_which_nobody_acts_change_nothing():
    """Not by their number either: means, deviations and weights are of the rows that count."""
    first = learning("ippo")
    one = replace(first.config, ppo=replace(first.config.ppo, n_epochs=1, n_minibatches=1))
    both = jax.tree.map(lambda x: np.concatenate([x, x], axis=1), first.experience)
    idle = np.arange(2 * E)[None, :, None] >= E
    off = {
        field: {name: x & ~idle for name, x in getattr(both, field).items()}
        for field in ("active", "next_active")
    }
    state, info = make_update(first.groups, one)(first.state, first.experience)
    wider = make_update(first.groups, replace(one, n_envs=2 * E))
    other, other_info = wider(first.state, both._replace(**off))
    for name, s in state.items():  # the optimiser's state holds the gradient
        learned = [(x.opt_state, x.moments) for x in (s, other[name])]
        for a, b in zip(*map(jax.tree.leaves, learned), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for name, value in info.items():
        np.testing.assert_allclose(value, other_info[name], rtol=1e-4, atol=1e-5)


def test_targets_come_in_units_of_their_running_deviation():
    first = learning("ippo")
    process = jax.jit(ppo.process_experience_factory(first.groups, first.config))
    processed = process(first.state, jax.random.key(0), first.experience)
    for name, state in first.state.items():
        old, new = state.moments["target"], processed.moments[name]["target"]
        batch = {f: getattr(processed.batch, f)[name] for f in ("value", "target", "advantage")}
        counted = np.asarray(processed.batch.weight[name]) > 0
        units = np.sqrt(new.variance)
        value = batch["value"] * units + new.mean
        returns = (batch["advantage"] + value)[counted]
        np.testing.assert_allclose(
            (batch["target"] * units + new.mean)[counted], returns, atol=1e-4
        )
        n = old.count + len(returns)
        mean = (old.count * old.mean + returns.sum()) / n
        np.testing.assert_allclose([new.count, new.mean], [n, mean], rtol=1e-4)
        assert abs(float(old.mean)) > 0.1  # it scales something


def test_sequences_begin_with_the_memory_that_the_critic_had():
    first = learning("mappo, memory")
    process = jax.jit(ppo.process_experience_factory(first.groups, first.config))
    batch, _, moments = process(first.state, jax.random.key(0), first.experience)
    for group in first.groups:
        name, learner = group.name, ppo.make_learner(group, first.config, first.groups)
        seen, rows = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (batch.state, batch.memory))
        memory = batch.carry[name][1]
        assert (memory[E:] != 0).any()
        state = in_units_of(first.state[name], moments[name])
        value, _ = learner.value(state, seen[name], memory, rows[name])
        counted = np.asarray(batch.weight[name]) > 0
        np.testing.assert_allclose(
            np.swapaxes(value, 0, 1)[counted], batch.value[name][counted], atol=1e-5
        )


def test_clipped_values_are_no_better_than_their_bound():
    batch = ppo.PPOBatch(*[()] * 11)._replace(target=jnp.array([1.0]), value=jnp.array([0.0]))
    loss = lambda value, clip: float(ppo._value_loss(jnp.array([value]), batch, clip)[0])  # noqa: E731
    assert loss(0.6, None) == pytest.approx(0.08)
    assert loss(0.6, 0.2) == pytest.approx(0.32)  # as if the value had moved by 0.2
    assert loss(0.1, 0.2) == pytest.approx(0.405)
    assert loss(-1.0, 0.2) == pytest.approx(2.0)  # moving away costs the whole


def test_critics_see_only_who_is_there():
    """An absent agent's next observation is not part of what is bootstrapped from."""
    first = learning("mappo, memory")
    experience = first.experience
    absent = ~(
        (experience.next_active["b"] & ~experience.next_reset[..., None])
        | experience.terminated["b"]
        | experience.truncated["b"]
    )
    assert absent.any()
    junk = np.where(absent[..., None], np.float32(np.nan), experience.next_observation["b"])
    dirty = experience._replace(next_observation=experience.next_observation | {"b": junk})
    before, after = (first.update(first.state, x) for x in (experience, dirty))
    assert same_bits(before, after)


@pytest.fixture(scope="module")
def player() -> Player:
    return Agent(Clock(), make_config("ippo", **GRU)).player()


class TestPlaying:
    @staticmethod
    def remembered(player: Player, **infos: Any) -> np.ndarray:
        """What the policy of the hands remembers after it has chosen once more."""
        shapes = {a: player.groups[i].observation_space.shape for a, i in PLACES.items()}
        seen = {name: np.ones((2, *shape), np.float32) for name, shape in shapes.items()}
        player.select_action(seen, infos)
        return np.asarray(player.memory["hand"])

    def test_memory_begins_anew_with_an_episode_and_waits_with_its_agent(self, player):
        first = self.remembered(player, reset=np.ones(2, bool))
        second = self.remembered(player)
        assert (first != second).any()
        ended = np.array([True, False])
        third = self.remembered(player, _final_observation=ended)
        np.testing.assert_array_equal(third[0], first[0])
        assert (third[1] != first[1]).any()
        waiting = {"active": {"hand_0": np.array([True, False])}}
        fourth = self.remembered(player, **waiting)
        np.testing.assert_array_equal(fourth[1, 0], third[1, 0])
        assert (fourth[0, 0] != third[0, 0]).any()
        assert (fourth[:, 1] != third[:, 1]).any()
        np.testing.assert_array_equal(self.remembered(player, reset=np.ones(2, bool)), first)

    def test_players_remember_for_themselves(self, player):
        first = self.remembered(player, reset=np.ones(2, bool))
        np.testing.assert_array_equal(self.remembered(player.player()), first)


PLACES = {"hand_0": 0, "hand_1": 0, "bell_0": 1}


def test_a_vector_without_states_is_refused_where_the_critic_looks_at_them():
    config = replace(make_config("mappo"), env_id="mpe/simple_spread-v3")
    env = CompiledVecParallelEnv("mpe/simple_spread-v3", E)
    agent = Agent(env, config)
    assert agent.groups[0].state_space == env.state_space
    host = SubProcVecParallelEnv([GameOf(env.game)] * E, n_workers=0)
    with pytest.raises(ValueError, match="make it with with_state=True"):
        agent.train(host, show=False)
    assert host.closed


class GameOf:
    """Makes the ParallelEnv of a game."""

    def __init__(self, game: Any) -> None:
        self.game = game

    def __call__(self) -> GameParallelEnv:
        return GameParallelEnv(self.game)
