"""Environments of other interfaces become one-agent parallel ones."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from lockstep import WARNINGS
from pettingzoo import ParallelEnv

from kitae_marl.errors import ClosedError
from kitae_marl.vector.adapters.as_parallel import as_parallel
from kitae_marl.vector.adapters.gymnasium import GymnasiumParallelEnv, GymnasiumVecParallelEnv
from kitae_marl.vector.make import make_parallel_env
from kitae_marl.vector.protocol import VecParallelEnv
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

pytestmark = [pytest.mark.filterwarnings(text) for text in WARNINGS]
MODES = [gym.vector.AutoresetMode.SAME_STEP, gym.vector.AutoresetMode.NEXT_STEP]


class Countdown(gym.Env[dict[str, Any], int]):
    """Ends after ``length`` steps; observes how many steps were made; some actions are masked."""

    observation_space = gym.spaces.Dict(
        {"t": gym.spaces.Box(0, 99, (1,), np.float32), "pair": gym.spaces.Tuple([
            gym.spaces.Discrete(100), gym.spaces.MultiBinary(2)])}
    )  # fmt: skip
    action_space = gym.spaces.Discrete(3)
    render_mode = "rgb_array"

    def __init__(self, length: int, truncates: bool = False) -> None:
        self.length, self.truncates, self.t = length, truncates, 0

    def _observe(self) -> tuple[dict[str, Any], dict[str, Any]]:
        observation = {"t": np.array([self.t], np.float32), "pair": (self.t, np.ones(2, np.int8))}
        return observation, {"action_mask": np.array([1, self.t % 2, 1], np.int8)}

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        """Start again."""
        super().reset(seed=seed)
        self.t = 0
        return self._observe()

    def step(self, action: int) -> Any:
        """Count."""
        self.t += 1
        ended = self.t >= self.length
        observation, info = self._observe()
        return observation, 0.5, ended and not self.truncates, ended and self.truncates, info

    def render(self) -> Any:
        """A frame that shows the count."""
        return np.full((4, 5, 3), self.t, np.uint8)


def vector(mode: gym.vector.AutoresetMode, kind: str = "sync") -> GymnasiumVecParallelEnv:
    """Environments that end after 3 and 4 steps, the second by truncation."""
    fns = [lambda: Countdown(3), lambda: Countdown(4, truncates=True)]
    if kind == "sync":
        return as_parallel(gym.vector.SyncVectorEnv(fns, autoreset_mode=mode))
    return as_parallel(gym.vector.AsyncVectorEnv(fns, autoreset_mode=mode, context="spawn"))


def act(env: GymnasiumVecParallelEnv) -> Any:
    """Step with action 2 everywhere."""
    return env.step({"agent_0": np.full(env.num_envs, 2)})


def test_parallel_environments_and_vectors_are_returned_as_they_are() -> None:
    env = make_parallel_env("mpe/simple-v3")
    assert as_parallel(env) is env
    vec = SubProcVecParallelEnv([lambda: make_parallel_env("mpe/simple-v3")], n_workers=0)
    assert as_parallel(vec) is vec
    vec.close()
    adapted = vector(MODES[0])
    assert as_parallel(adapted) is adapted


@pytest.mark.parametrize("thing", [None, 3, "CartPole-v1", object(), gym.spaces.Discrete(2)])
def test_anything_else_is_a_type_error(thing: object) -> None:
    with pytest.raises(TypeError, match=r"expected a PettingZoo ParallelEnv.*got"):
        as_parallel(thing)


@pytest.mark.filterwarnings("ignore:The old environment creation API:DeprecationWarning")
def test_a_gymnasium_environment_is_a_parallel_one_with_one_agent() -> None:
    from pettingzoo.test import parallel_api_test

    env = as_parallel(gym.make("CartPole-v1"))
    assert isinstance(env, GymnasiumParallelEnv)
    parallel_api_test(env, num_cycles=60)


@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
def test_it_says_what_the_gymnasium_environment_says(id: str) -> None:
    plain, env = gym.make(id), GymnasiumParallelEnv(gym.make(id))
    expected = plain.reset(seed=7)[0]
    observations, infos = env.reset(seed=7)
    plain.action_space.seed(0)
    assert list(infos) == ["agent_0"]
    for _ in range(250):
        np.testing.assert_array_equal(observations["agent_0"], expected)
        action = plain.action_space.sample()
        expected, reward, terminated, truncated, _ = plain.step(action)
        observations, rewards, terminations, truncations, _ = env.step({"agent_0": action})
        assert rewards == {"agent_0": reward}
        assert terminations == {"agent_0": terminated}
        assert truncations == {"agent_0": truncated}
        if terminated or truncated:
            break
    np.testing.assert_array_equal(observations["agent_0"], expected)
    assert env.agents == []
    assert env.step({}) == ({}, {}, {}, {}, {})


def test_an_aec_environment_becomes_parallel() -> None:
    import pettingzoo

    env = as_parallel(pettingzoo.make("aec", "classic/tictactoe-v3"))
    assert isinstance(env, ParallelEnv)
    _, infos = env.reset(seed=0)
    assert [info["active"] for info in infos.values()] == [True, False]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_vector_that_resets_in_the_same_step(kind: str) -> None:
    env = vector(MODES[0], kind)
    assert isinstance(env, VecParallelEnv)
    observations, infos = env.reset(seed=0)
    assert observations["agent_0"]["t"].tolist() == [[0], [0]]
    for t in range(1, 9):
        observations, rewards, terminations, truncations, infos = act(env)
        assert observations["agent_0"]["t"][:, 0].tolist() == [t % 3, t % 4]
        assert observations["agent_0"]["pair"][0].tolist() == [t % 3, t % 4]
        assert rewards["agent_0"].tolist() == [0.5, 0.5]
        assert terminations["agent_0"].tolist() == [t % 3 == 0, False]
        assert truncations["agent_0"].tolist() == [False, t % 4 == 0]
        assert infos["active"]["agent_0"].all()
        ended = [t % 3 == 0, t % 4 == 0]
        assert ("final_observation" in infos) == any(ended)
        if any(ended):
            assert infos["_final_observation"].tolist() == infos["_episode"].tolist() == ended
            for row, length in ((0, 3), (1, 4)):
                if ended[row]:
                    assert infos["final_observation"]["agent_0"]["t"][row] == length
                    assert infos["final_observation"]["agent_0"]["pair"][0][row] == length
                    assert infos["episode"]["return"]["agent_0"][row] == length / 2
                    assert infos["episode"]["length"]["agent_0"][row] == length
    env.close()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_vector_that_resets_in_the_next_step(kind: str) -> None:
    env = vector(MODES[1], kind)
    env.reset(seed=0)
    for t in range(1, 13):
        observations, rewards, terminations, truncations, infos = act(env)
        at = [t % 4, t % 5]  # one step of every 4 (every 5) only resets
        assert observations["agent_0"]["t"][:, 0].tolist() == at
        assert rewards["agent_0"].tolist() == [0.5 * (at[0] > 0), 0.5 * (at[1] > 0)]
        ended = [at[0] == 3, at[1] == 4]
        assert terminations["agent_0"].tolist() == [ended[0], False]
        assert truncations["agent_0"].tolist() == [False, ended[1]]
        assert infos["active"]["agent_0"].tolist() == [not ended[0], not ended[1]]
        masks = [
            [not over, not over and i % 2, not over] for i, over in zip(at, ended, strict=True)
        ]
        assert infos["action_mask"]["agent_0"].tolist() == masks
        assert ("final_observation" in infos) == any(ended)
        for row, length in ((0, 3), (1, 4)):
            if ended[row]:
                assert infos["final_observation"]["agent_0"]["t"][row] == length
                assert infos["episode"]["return"]["agent_0"][row] == length / 2
                assert infos["episode"]["length"]["agent_0"][row] == length
    env.close()


def test_a_vector_that_does_not_reset_is_refused_by_name() -> None:
    mode = gym.vector.AutoresetMode.DISABLED
    with pytest.raises(ValueError, match=r"autoreset_mode DISABLED; make it with .*SAME_STEP"):
        as_parallel(gym.vector.SyncVectorEnv([lambda: Countdown(3)], autoreset_mode=mode))


def test_a_vector_without_a_mode_is_taken_for_next_step_with_a_warning() -> None:
    plain = gym.vector.SyncVectorEnv([lambda: Countdown(3)])
    plain.metadata = {}
    with pytest.warns(UserWarning, match="taking it for NEXT_STEP"):
        env = as_parallel(plain)
    assert env.metadata["autoreset_mode"] == "NextStep"


@pytest.mark.parametrize("mode", MODES)
def test_the_vector_is_seeded_and_equals_single_environments(mode: Any) -> None:
    fns = [lambda: gym.make("CartPole-v1")] * 3
    env = as_parallel(gym.vector.SyncVectorEnv(fns, autoreset_mode=mode))
    observations, _ = env.reset(seed=40)
    for i in range(3):
        single = gym.make("CartPole-v1").reset(seed=40 + i)[0]
        np.testing.assert_array_equal(observations["agent_0"][i], single)


def test_actions_are_checked_and_calls_kept_in_order() -> None:
    env = vector(MODES[0])
    with pytest.raises(RuntimeError, match="call reset first"):
        act(env)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="got 3 for agent 'agent_0' of env 1"):
        env.step({"agent_0": np.array([0, 3])})
    with pytest.raises(ValueError, match=r"expected actions of shape \(2,\)"):
        env.step({"agent_0": np.zeros(3, int)})
    act(env)
    assert env.render(1)[0, 0, 0] == 1
    with pytest.raises(ValueError, match="state_space"):
        env.state()
    env.close()
    env.close()
    with pytest.raises(ClosedError):
        env.reset()


def test_importing_the_makers_imports_neither_jax_nor_envpool() -> None:
    code = (
        "import sys, kitae_marl.vector.make, kitae_marl.vector.adapters.as_parallel, "
        "kitae_marl.vector.adapters.gymnasium, kitae_marl.vector.adapters.envpool, "
        "kitae_marl.vector.lean.build; "
        "bad = [m for m in ('jax', 'flax', 'optax', 'envpool', 'torch') if m in sys.modules]; "
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
