"""JAX reads NumPy memory later than a call returns: nothing may see what was overwritten.

The environment writes its live views as the vector environments do, and spoils them at once when a
step begins. Observations encode step, environment and agent, and the policy repeats in its action
what it saw. If a computation read memory after the environment has gone on, the action, the
stored observation or what the update is given would be of another step, or spoilt.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax.numpy as jnp
import numpy as np
import pytest

from kitae_marl.algos import get_algorithm
from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.data.groups import group_specs
from kitae_marl.data.stacking import unstack
from kitae_marl.loops.train import vectorized_train
from kitae_marl.players import player
from kitae_marl.runs.agent import Agent
from kitae_marl.types import AlgoType

pytestmark = pytest.mark.usefixtures("quickest_compilation")
N_ENVS, N_AGENTS, N_STEPS, WIDTH = 16, 3, 32, 64
SPOILT = -7.0
AGENTS = [f"a_{i}" for i in range(N_AGENTS)]
WORK = jnp.eye(WIDTH)


class LiveViews:
    """A vector of environments on one block of memory that is spoilt as soon as a step begins."""

    num_envs = N_ENVS
    possible_agents = AGENTS
    metadata: dict[str, Any] = {}  # noqa: RUF012
    closed = False
    state_space = None

    def __init__(self) -> None:
        self.t = 0
        self.block = np.zeros((N_ENVS, N_AGENTS, WIDTH), np.float32)
        self.acted: list[np.ndarray] = []
        self.groups = group_specs(AGENTS, self.observation_space, self.action_space)
        self.views = unstack({"a": self.block}, self.groups)
        self.flags = unstack({"a": np.ones((N_ENVS, N_AGENTS), bool)}, self.groups)
        self.never = unstack({"a": np.zeros((N_ENVS, N_AGENTS), bool)}, self.groups)
        self.rewards = unstack({"a": np.zeros((N_ENVS, N_AGENTS))}, self.groups)

    def observation_space(self, agent: str) -> gym.Space:
        return gym.spaces.Box(-1e9, 1e9, (WIDTH,), np.float32)

    def action_space(self, agent: str) -> gym.Space:
        return gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.block[:] = seen_at(0)[..., None]
        return self.views, {"active": self.flags}

    def step(self, actions: Any) -> Any:
        self.block[:] = SPOILT  # a worker is faster than the parent
        self.acted.append(np.stack([actions[agent] for agent in AGENTS], axis=1)[..., 0])
        self.t += 1
        self.block[:] = seen_at(self.t)[..., None]
        return self.views, self.rewards, self.never, self.never, {"active": self.flags}

    def step_async(self, actions: Any) -> None:
        self.actions = actions

    def step_wait(self) -> Any:
        return self.step(self.actions)

    def state(self) -> np.ndarray:
        raise NotImplementedError

    def render(self, env_index: int = 0) -> np.ndarray:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True


def seen_at(t: int) -> np.ndarray:
    """What the agents see at a step, ``[E, A]``: every number different, exact in float32."""
    return (t * N_ENVS * N_AGENTS + np.arange(N_ENVS * N_AGENTS, dtype=np.float32)).reshape(
        N_ENVS, N_AGENTS
    )


def repeat_after_much_work(observation: Any) -> Any:
    """Return the first number of each observation, the slow way."""
    x = observation
    for _ in range(30):
        x = jnp.einsum("eak,kj->eaj", x, WORK)
    return x[..., :1]


def explore_factory(groups: Any, config: Config) -> Any:
    def explore(state: Any, key: Any, observation: Any, mask: Any, carry: Any) -> Any:
        action = repeat_after_much_work(observation["a"])
        return {"a": action}, {"a": observation["a"][..., -1]}, carry

    return explore


def learn_factory(groups: Any, config: Config) -> Any:
    """Instead of learning, say what was in the rollout."""

    def learn(state: Any, key: Any, experience: Any) -> Any:
        parts = {
            "observation": experience.observation["a"],
            "action": experience.action["a"],
            "next_observation": experience.next_observation["a"],
        }
        work = repeat_after_much_work(parts["observation"].reshape(-1, N_AGENTS, WIDTH))
        info = {
            f"{name}/{f.__name__}": f(x) for name, x in parts.items() for f in (jnp.min, jnp.max)
        }
        return state, info | {"work": jnp.sum(work) * 0}

    return learn


def make_agent() -> Agent:
    """An agent that repeats what it sees, and reports what it is given to learn from."""
    repeating = get_algorithm("ippo")._replace(explore=explore_factory, learn=learn_factory)
    config = Config(n_envs=N_ENVS, ppo=PPOConfig(n_steps=N_STEPS, hidden_sizes=(4,)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(player, "get_algorithm", lambda name: repeating)
        return Agent(LiveViews(), config)


class Ranges:
    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        self.values.setdefault(tag, []).append(scalar_value)


def hammer(n_updates: int = 30) -> None:
    """Train for a while and compare all that was acted on and learned from with what was seen."""
    env, writer = LiveViews(), Ranges()
    vectorized_train(0, make_agent(), env, n_updates * N_STEPS, AlgoType.ON_POLICY, writer=writer)
    assert len(env.acted) == n_updates * N_STEPS
    for t, action in enumerate(env.acted):
        np.testing.assert_array_equal(action, seen_at(t), err_msg=f"step {t}")
    for u in range(n_updates):
        first, last = u * N_STEPS, (u + 1) * N_STEPS - 1
        for name, offset in (("observation", 0), ("action", 0), ("next_observation", 1)):
            low, high = (writer.values[f"update/{name}/{end}"][u] for end in ("min", "max"))
            assert low == seen_at(first + offset).min(), f"{name} of update {u}"
            assert high == seen_at(last + offset).max(), f"{name} of update {u}"


def test_no_computation_sees_an_observation_that_was_overwritten():
    hammer()


def test_nor_where_jax_was_started_before_with_calls_that_return_early():
    code = "import jax; jax.numpy.zeros(1).block_until_ready(); import test_hammer as t; t.hammer()"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True)


def test_the_environment_does_spoil_what_is_kept():
    env = LiveViews()
    observations, _ = env.reset()
    kept = dict(observations)  # the views, not copies
    env.step({agent: np.zeros((N_ENVS, 1)) for agent in AGENTS})
    assert all((kept[agent][:, 0] != seen_at(0)[:, i]).all() for i, agent in enumerate(AGENTS))
