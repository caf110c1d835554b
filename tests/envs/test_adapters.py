"""Games of pgx and of JaxMARL as games of this package."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kitae_envs.adapters import from_jaxmarl, from_pgx
from kitae_envs.core import Game, reset_batch, step_batch
from kitae_envs.games.connect_four import ConnectFour
from kitae_envs.sampling import sample_actions


def roll(game: Game, n_envs: int, n_steps: int) -> Any:
    """Play random actions; return the TimeSteps ``[T, E, ...]`` and the actions."""

    def run(key: jax.Array) -> Any:
        def body(both: Any, key: jax.Array) -> Any:
            state, step = both
            draw, chance = jax.random.split(key)
            action = sample_actions(game, draw, step)
            both = step_batch(game, chance, state, action)
            return both, (both[1], action, step.active)

        return jax.lax.scan(body, reset_batch(game, key, n_envs), jax.random.split(key, n_steps))

    return jax.device_get(jax.jit(run)(jax.random.key(0))[1])


def test_a_pgx_game_plays_as_ours_does() -> None:
    pgx = pytest.importorskip("pgx")
    theirs, ours = from_pgx(pgx.make("connect_four")), ConnectFour()
    assert theirs.groups == ours.groups
    assert theirs.action_space("player_0") == ours.action_space("player_0")
    state = jax.jit(theirs.start)(jax.random.key(3))
    mine = ours.start(jax.random.key(0))
    step, my_step = jax.jit(theirs.step), jax.jit(ours.step)
    first, over, rng = int(state.current_player), False, np.random.default_rng(1)
    view = jax.device_get(theirs.observe(state))
    while not over:
        mask = np.asarray(view.action_mask["player"])[int(state.current_player)]
        move = jnp.full(2, rng.choice(np.flatnonzero(mask)))
        state, view = step(jax.random.key(0), state, {"player": move})
        mine, result = my_step(jax.random.key(0), mine, {"player": move})
        view, result = jax.device_get((view, result))
        order = [first, 1 - first]  # pgx draws who begins, we do not
        assert np.array_equal(view.reward["player"][order], result.reward["player"])
        if not (over := bool(result.over)):
            seen = view.observation["player"]["observation"][order]
            assert np.array_equal(seen, result.observation["player"]["observation"])
            assert np.array_equal(view.active["player"][order], result.active["player"])
            assert np.array_equal(view.action_mask["player"][order], result.action_mask["player"])
        assert bool(view.over) == over


class Fake(NamedTuple):
    age: jax.Array
    position: jax.Array


class FakeMarl:
    """In JaxMARL's form: ``ally_0`` leaves at step 2, the episode ends at 4."""

    max_steps = 4
    agents = ("ally_0", "ally_1", "enemy_0")

    def observation_space(self, agent: str) -> Any:
        size = 2 if agent.startswith("ally") else 3
        return SimpleNamespace(low=-jnp.inf, high=jnp.inf, shape=(size,), dtype=jnp.float32)

    def action_space(self, agent: str) -> Any:
        return SimpleNamespace(n=3)

    def _observe(self, state: Fake) -> dict[str, jax.Array]:
        return {
            "ally_0": jnp.stack([state.position, 0.0]),
            "ally_1": jnp.stack([state.position, 1.0]),
            "enemy_0": jnp.stack([state.position, 2.0, 2.0]),
            "world_state": jnp.zeros(9),
        }

    def reset(self, key: jax.Array) -> Any:
        state = Fake(jnp.zeros((), jnp.int32), jax.random.uniform(key))
        return self._observe(state), state

    def step_env(self, key: jax.Array, state: Fake, actions: dict[str, jax.Array]) -> Any:
        moved = sum(a.astype(jnp.float32) for a in actions.values())
        state = Fake(state.age + 1, state.position + moved)
        dones = {"ally_0": state.age >= 2, "ally_1": False, "enemy_0": False}
        dones["__all__"] = state.age >= self.max_steps
        return self._observe(state), state, dict.fromkeys(self.agents, moved), dones, {}

    def get_avail_actions(self, state: Fake) -> dict[str, jax.Array]:
        return dict.fromkeys(self.agents, jnp.array([1, 0, 1]))


def test_a_game_in_jaxmarls_form() -> None:
    game = from_jaxmarl(FakeMarl())
    assert game.groups == {"ally": ("ally_0", "ally_1"), "enemy": ("enemy_0",)}
    step, action, active = roll(game, n_envs=3, n_steps=8)
    assert set(np.unique(action["enemy"])) <= {0, 2}
    assert step.terminated["ally"][:, 0, 0].tolist() == [False, True, False, False] * 2
    assert not step.terminated["ally"][:, :, 1].any()
    assert step.truncated["ally"][:, 0, 1].tolist() == [False, False, False, True] * 2
    assert step.over[:, 0].tolist() == [False, False, False, True] * 2
    assert active["ally"][:, 0, 0].tolist() == [True, True, False, False] * 2
    assert (step.reward["ally"][2:4, :, 0] == 0).all()
    moved = action["ally"].sum(2)[..., None] + action["enemy"]
    assert np.array_equal(step.reward["enemy"], moved)
    assert len(np.unique(step.observation["enemy"][3, :, 0, 0])) == 3


def test_a_game_of_jaxmarl() -> None:
    jaxmarl = pytest.importorskip("jaxmarl")
    with jax.numpy_rank_promotion("allow"):  # JaxMARL's own games rely on it
        game = from_jaxmarl(jaxmarl.make("MPE_simple_tag_v3"))
        assert list(game.groups) == ["adversary", "agent"]
        step, _, _ = roll(game, n_envs=2, n_steps=30)
    assert np.isfinite(step.reward["agent"]).all()
    assert step.truncated["agent"].sum() == 2


def test_other_things_are_refused() -> None:
    with pytest.raises(TypeError, match="pgx Env"):
        from_pgx(FakeMarl())
    with pytest.raises(TypeError, match="JaxMARL"):
        from_jaxmarl(SimpleNamespace())
