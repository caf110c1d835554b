"""Batches of compiled games: auto-reset, fresh starts, seeds, agents that leave."""

import subprocess
import sys
from typing import Any, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
import kitae_envs
import numpy as np
import pytest
from kitae_envs.core import Game, Outcome, View, reset_batch, step_batch
from kitae_envs.sampling import sample_actions

TREE = jax.tree


def equal(a: Any, b: Any) -> bool:
    pairs = zip(TREE.leaves(a), TREE.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def start(game: Game, n_envs: int, seed: int = 0) -> Any:
    return jax.jit(lambda key: reset_batch(game, key, n_envs))(jax.random.key(seed))


def row(tree: Any, i: int) -> Any:
    return TREE.map(lambda leaf: leaf[i], tree)


class CountState(NamedTuple):
    age: jax.Array
    life: jax.Array


class Counting(Game):
    """Agent i leaves after ``life + i`` steps; the observation is the state."""

    id = "test/counting-v0"
    possible_agents = ("a_0", "a_1", "b_0")

    def observation_space(self, agent: str) -> gym.Space:
        return gym.spaces.Box(-1, 100, (2,), np.float32)

    def action_space(self, agent: str) -> gym.Space:
        return gym.spaces.Discrete(3)

    def _by_group(self, values: jax.Array) -> dict[str, jax.Array]:
        return {"a": values[:2], "b": values[2:]}

    def start(self, key: jax.Array) -> CountState:
        return CountState(jnp.zeros((), jnp.int32), jax.random.randint(key, (), 2, 9))

    def _left(self, state: CountState) -> jax.Array:
        return state.age >= state.life + jnp.arange(3)

    def transition(self, key: jax.Array, state: CountState, action: Any) -> Any:
        state = state._replace(age=state.age + 1)
        left = self._by_group(self._left(state))
        ones = self._by_group(jnp.ones(3, jnp.float32))
        return state, Outcome(ones, left, {g: jnp.zeros_like(x) for g, x in left.items()})

    def alive(self, state: CountState) -> dict[str, jax.Array]:
        return self._by_group(~self._left(state))

    def observe(self, state: CountState) -> View:
        seen = jnp.stack([state.age, state.life]).astype(jnp.float32)
        rows = jnp.broadcast_to(seen[None], (3, 2))
        return View(self._by_group(rows), {"a": (), "b": ()}, self.alive(state))


def test_agents_that_leave_get_one_flag_and_no_reward_afterwards() -> None:
    game = Counting()
    state, step = game.init(jax.random.key(0))
    life = int(state.life)
    flags, rewards, active = [], [], []
    for t in range(life + 2):
        action = {"a": jnp.zeros(2, jnp.int32), "b": jnp.zeros(1, jnp.int32)}
        state, step = game.step(jax.random.key(t), state, action)
        flags.append(np.concatenate([step.terminated["a"], step.terminated["b"]]))
        rewards.append(np.concatenate([step.reward["a"], step.reward["b"]]))
        active.append(np.concatenate([step.active["a"], step.active["b"]]))
        assert bool(step.over) == (t == life + 1)
    assert np.stack(flags).sum(0).tolist() == [1, 1, 1]
    assert np.stack(rewards).sum(0).tolist() == [life, life + 1, life + 2]
    assert np.stack(active).sum(0).tolist() == [life - 1, life, life + 1]


@pytest.mark.parametrize("n_envs", [1, 20])
def test_finished_environments_start_anew_and_the_others_go_on(n_envs: int) -> None:
    game = Counting()
    advance = jax.jit(lambda k, s: step_batch(game, k, s, zeros(n_envs)))
    state, step = start(game, n_envs)
    restarts = 0
    for t in range(30):
        before = state
        state, step = advance(jax.random.key(t), state)
        over = np.asarray(step.over)
        restarts += over.sum()
        went_on = before.age + 1
        assert np.array_equal(state.age, np.where(over, 0, went_on))
        assert np.array_equal(step.next_observation["b"][:, 0, 0], went_on)
        assert np.array_equal(step.observation["b"][:, 0, 0], state.age)
        assert np.array_equal(state.life[~over], before.life[~over])
        assert np.asarray(step.active["b"]).all()
    assert restarts > 2 * n_envs


def zeros(n_envs: int) -> dict[str, jax.Array]:
    return {"a": jnp.zeros((n_envs, 2), jnp.int32), "b": jnp.zeros((n_envs, 1), jnp.int32)}


def test_fresh_starts_are_all_different_and_independent_of_the_pool() -> None:
    game = kitae_envs.make("mpe/simple-v3", max_cycles=2)
    key = jax.random.key(3)
    state, step = start(game, 20)
    action = {"agent": jnp.zeros((20, 1), jnp.int32)}
    advance = jax.jit(lambda k, s: step_batch(game, k, s, action))
    state, step = advance(jax.random.key(1), state)
    assert not step.over.any()
    state, step = advance(key, state)
    assert step.over.all()
    assert len(np.unique(np.asarray(state.position[:, 0, 0]))) == 20
    start_key = jax.random.split(key)[1]
    first = jax.jit(lambda number: game.start(jax.random.fold_in(start_key, number)).position)
    for number in (0, 7, 19):
        assert np.allclose(state.position[number], first(number))


def test_parts_of_a_batch_are_what_they_are_in_the_whole() -> None:
    class Noisy(Counting):
        def transition(self, key: jax.Array, state: CountState, action: Any) -> Any:
            state, outcome = super().transition(key, state, action)
            return state._replace(life=state.life + jax.random.randint(key, (), 0, 2)), outcome

    game = Noisy()
    advance = jax.jit(lambda k, s, n: step_batch(game, k, s, zeros(len(s.age)), n))
    state, _ = start(game, 30)
    some = 0
    for t in range(20):
        parts = [TREE.map(lambda leaf, i=i: leaf[i : i + 10], state) for i in (0, 10, 20)]
        key = jax.random.key(t)
        played = [advance(key, part, 10 * i) for i, part in enumerate(parts)]
        state, step = advance(key, state, 0)
        assert equal(TREE.map(lambda *leaves: jnp.concatenate(leaves), *played), (state, step))
        some += bool(0 < step.over.sum() < 30)
    assert some > 10, "only where some end and others do not, it shows whose start is whose"


def test_mapping_over_seeds_changes_nothing_and_keeps_the_branch() -> None:
    game = Counting()

    def roll(key: jax.Array) -> Any:
        state, step = reset_batch(game, key, 5)

        def body(both: Any, key: jax.Array) -> Any:
            state, step = both
            draw, chance = jax.random.split(key)
            state, step = step_batch(game, chance, state, sample_actions(game, draw, step))
            return (state, step), step.reward

        return jax.lax.scan(body, (state, step), jax.random.split(key, 12))

    keys = jax.random.split(jax.random.key(0), 3)
    rolls = jax.jit(jax.vmap(roll))
    together = rolls(keys)
    alone = rolls(keys[jnp.array([1, 1, 1])])  # the same seed thrice
    assert equal(row(together, 1), row(alone, 0))
    assert "cond[" in str(jax.make_jaxpr(jax.vmap(roll))(keys))


def everywhere(jaxpr: Any) -> set[str]:
    """Names of the primitives that run at every step: those in branches of a cond left out."""
    names: set[str] = set()
    for equation in jaxpr.eqns:
        names.add(equation.primitive.name)
        if equation.primitive.name == "cond":
            continue
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                names |= everywhere(inner)
    return names


@pytest.mark.parametrize("id", kitae_envs.ids())
def test_fresh_starts_are_drawn_only_where_an_episode_ends(id: str) -> None:
    game, n_envs = kitae_envs.make(id), 16
    key = jax.random.key(0)
    state, step = jax.eval_shape(lambda: reset_batch(game, key, n_envs))
    actions = jax.eval_shape(lambda s: sample_actions(game, key, s), step)
    traced = jax.make_jaxpr(lambda s, a: step_batch(game, key, s, a))(state, actions)
    assert "cond" in everywhere(traced.jaxpr)
    assert "random_bits" not in everywhere(traced.jaxpr)
    start = jax.make_jaxpr(game.start)(key)
    assert ("random_bits" in everywhere(start.jaxpr)) != game.fixed_start


def test_the_same_key_gives_the_same_games() -> None:
    game = kitae_envs.make("classic/leduc_holdem-v4")
    action = {"player": jnp.full((6, 2), 2)}
    advance = jax.jit(lambda k, s: step_batch(game, k, s, action))
    first, again = start(game, 6, seed=5), start(game, 6, seed=5)
    assert equal(first, again)
    key = jax.random.key(6)
    assert equal(advance(key, first[0]), advance(key, again[0]))


def test_random_actions_are_legal_and_uniform() -> None:
    game = kitae_envs.make("classic/connect_four-v3")
    _, step = start(game, 4000)
    mask = np.zeros((4000, 2, 7), np.int8)
    mask[:, 0, [1, 2, 5]] = 1
    step = step._replace(action_mask={"player": jnp.asarray(mask)})
    action = np.asarray(sample_actions(game, jax.random.key(1), step)["player"])
    assert set(action[:, 1]) == {0}  # the idle seat has no legal action
    counts = np.bincount(action[:, 0], minlength=7)
    assert set(np.flatnonzero(counts)) == {1, 2, 5}
    assert np.abs(counts[[1, 2, 5]] - 4000 / 3).max() < 150


@pytest.mark.parametrize("n", [3, 100])
def test_random_actions_with_many_choices_agree_with_counting(n: int) -> None:
    from kitae_envs.sampling import _pick

    rng = np.random.default_rng(0)
    mask = (rng.random((50, n)) < 0.4).astype(np.int8)
    bits = rng.integers(2**32, size=50, dtype=np.uint32)
    for m, b, index in zip(mask, bits, _pick(jnp.asarray(bits), jnp.asarray(mask)), strict=True):
        legal = np.flatnonzero(m)
        assert int(index) == (legal[b % len(legal)] if len(legal) else 0)


def test_ids_and_names() -> None:
    assert len(kitae_envs.ids()) == 14
    assert kitae_envs.make("mpe/simple_spread_v3").id == "mpe/simple_spread-v3"
    assert kitae_envs.make("classic/connect_four").version == "v3"
    with pytest.raises(ValueError, match="simple_spread-v3"):
        kitae_envs.make("mpe/simple_spred-v3")
    with pytest.raises(ValueError, match="local_ratio"):
        kitae_envs.make("mpe/simple_spread-v3", local_ratio=2.0)
    kitae_envs.make("mpe/simple_tag-v3", render_mode="rgb_array", benchmark_data=False)
    with pytest.raises(ValueError, match="benchmark_data"):
        kitae_envs.make("mpe/simple_tag-v3", benchmark_data=True)
    with pytest.raises(ValueError, match="odd"):
        kitae_envs.make("classic/rps-v2", num_actions=4)
    with pytest.raises(ValueError, match="an integer of at least 1 for num_good"):
        kitae_envs.make("mpe/simple_tag-v3", num_good=0)


def test_the_package_loads_without_jax() -> None:
    code = (
        "import sys, kitae_envs, kitae_envs.grouping; kitae_envs.ids(); print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
