"""Compiled games that do not return what they say are refused before anything is compiled."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kitae_envs import ids, make
from kitae_envs.checking import require_sound
from kitae_envs.core import Game, Outcome, View, reset_batch, step_batch

from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.errors import TrainingDivergedError
from kitae_marl.runs.agent import Agent
from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv


class Careless(Game):
    """Two agents, five steps; anything that it returns can be replaced."""

    id = "test/careless-v0"

    def __init__(self, agents: Any = ("a_0", "a_1"), **changed: Any) -> None:
        self.possible_agents, self.changed = agents, changed

    def observation_space(self, agent: str) -> gym.Space:
        return gym.spaces.Box(-1, 1, (3,), np.float32)

    def action_space(self, agent: str) -> gym.Space:
        return gym.spaces.Discrete(2)

    @property
    def state_space(self) -> gym.Space | None:
        return self.changed.get("state_space")

    def start(self, key: jax.Array) -> Any:
        return self.changed.get("first", jnp.zeros((), jnp.int32))

    def transition(self, key: jax.Array, state: Any, action: Any) -> tuple[Any, Outcome]:
        flags = {"a": jnp.full(2, state >= 4)}
        parts = {"reward": {"a": jnp.ones(2)}, "terminated": flags, "truncated": flags}
        parts |= {name: x for name, x in self.changed.items() if name in parts}
        return self.changed.get("state", lambda state: state + 1)(state), Outcome(**parts)

    def observe(self, state: Any) -> View:
        parts = {
            "observation": {"a": jnp.ones((2, 3))},
            "action_mask": {"a": ()},
            "active": {"a": jnp.ones(2, bool)},
        }
        return View(**parts | {name: x for name, x in self.changed.items() if name in parts})

    def alive(self, state: Any) -> Any:
        return self.changed.get("alive")


@pytest.mark.parametrize("id", ids())
def test_our_own_games_are_sound(id):
    require_sound(make(id))
    require_sound(Careless())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"observation": {"a": jnp.ones((2, 4))}},
            r"{a: float32 \[2, 3\]}, got {a: float32 \[2, 4",
        ),
        ({"observation": {"a": jnp.ones(3)}}, r"observe: observation: .*got {a: float32 \[3\]}"),
        ({"observation": {"a": jnp.ones((2, 3), complex)}}, "got {a: complex64"),
        ({"observation": {"b": jnp.ones((2, 3))}}, "expected {a: .*got {b: "),
        ({"observation": {"a": (jnp.ones((2, 3)),)}}, "got {a: \\(float32"),
        ({"active": {"a": jnp.ones(2)}}, r"active: expected {a: bool \[2\]}, got {a: float32"),
        (
            {"action_mask": {"a": jnp.ones((2, 3), bool)}},
            r"action_mask: expected {a: int8 \[2, 2\]}",
        ),
        ({"action_mask": {}}, r"action_mask: expected {a: int8 \[2, 2\]}, got {}"),
        ({"reward": {"a": jnp.ones((2, 1))}}, r"Careless.transition: reward: .*got .*\[2, 1\]}"),
        ({"reward": {"a": jnp.ones(())}}, r"reward: expected {a: float32 \[2\]}"),
        ({"reward": jnp.ones(2)}, r"reward: expected {a: .*got float32 \[2\]"),
        ({"terminated": {"a": jnp.zeros(2)}}, r"terminated: expected {a: bool"),
        ({"truncated": {"a": jnp.zeros(1, bool)}}, r"truncated: .*got {a: bool \[1\]}"),
        (
            {"state": lambda state: state + 0.5},
            r"transition: state: expected int32 \[\], got float32",
        ),
        (
            {"state": lambda state: state.astype("i2")},
            r"state: expected int32 \[\], got int16 \[\]",
        ),
        (
            {"first": jnp.zeros(2), "state": lambda state: state.astype("f2")},
            r"state: expected float32 \[2\], got float16 \[2\]",
        ),
        ({"first": 0, "state": lambda state: jnp.int16(1)}, r"state: expected int32 .*got int16"),
        ({"alive": {"a": jnp.ones(3, bool)}}, r"alive: expected {a: bool \[2\]}"),
        (
            {"state_space": gym.spaces.Box(0, 1, (2,))},
            r"global_state: expected float32 \[2\], got \(",
        ),
        ({"agents": ("a_0", "a_1", "a_2")}, r"expected {a: float32 \[3\]}, got {a: float32 \[2\]}"),
        ({"agents": "ab"}, r"expected {a: float32 \[1\], b: float32 \[1\]}"),
        ({"agents": ()}, "at least one agent"),
        ({"agents": ("a_0", "a_0")}, "distinct agent names"),
    ],
)
def test_what_does_not_fit_is_named(changed, message):
    with pytest.raises(ValueError, match=message):
        CompiledVecParallelEnv(Careless(**changed), 4)


@pytest.mark.parametrize(
    "changed",
    [
        {"first": 0},
        {"first": 0, "state": lambda state: jnp.int32(state + 1)},
        {"state": lambda state: 7},
        {"first": 0.0, "state": lambda state: state + jnp.float32(1)},
        {"reward": {"a": jnp.ones(2, "f2")}},
    ],
)
def test_numbers_of_python_and_narrow_rewards_may_be_given(changed):
    game = CompiledVecParallelEnv(Careless(**changed), 2).game

    def play(key: jax.Array) -> Any:
        step = partial(step_batch, game, action={"a": jnp.zeros((2, 2), jnp.int32)})
        return jax.lax.scan(lambda state, key: step(key, state), reset_batch(game, key, 2)[0], keys)

    keys = jax.random.split(jax.random.key(0), 7)
    _, steps = jax.jit(play)(jax.random.key(0))
    assert steps.over.sum() > 0


def test_numbers_that_are_none_end_the_training():
    env = CompiledVecParallelEnv(Careless(reward={"a": jnp.full(2, jnp.nan)}), 2)
    ppo = PPOConfig(n_steps=2, n_minibatches=1, n_epochs=1, hidden_sizes=(4,))
    agent = Agent(env, Config(env_id="careless", n_envs=2, env_steps=400, ppo=ppo))
    with pytest.raises(TrainingDivergedError, match="look at the rewards and observations"):
        agent.train(env, show=False)


@pytest.mark.parametrize("thing", [3, None, Careless, np.zeros(2)])
def test_what_is_no_game_is_refused(thing):
    for function in (require_sound, lambda x: CompiledVecParallelEnv(x, 4, with_state=True)):
        with pytest.raises(TypeError, match=r"expected a compiled game, .* got"):
            function(thing)
