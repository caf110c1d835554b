"""Every game through our vector: each value as when the same game is stepped plainly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lockstep import WARNINGS, legal_mask

from kitae_marl.data.stacking import map_leaves
from kitae_marl.vector.catalogue.games import catalogue
from kitae_marl.vector.make import make_parallel_env, make_vec_env
from kitae_marl.vector.protocol import episode_seed

pytestmark = [pytest.mark.filterwarnings(text) for text in WARNINGS]

SMALL: dict[str, dict[str, Any]] = {
    "butterfly/pistonball-v6": {"n_pistons": 4, "max_cycles": 20},
    "butterfly/cooperative_pong-v6": {"max_cycles": 20},
    "sisl/pursuit-v5": {"max_cycles": 20},
    "sisl/multiwalker-v9": {"max_cycles": 30},
    "magent/battle-v4": {"map_size": 16, "max_cycles": 40},
}
"""Arguments that let episodes end within the sweep."""

QUICK = [
    "mpe/simple_spread-v3",
    "mpe/simple_speaker_listener-v4",
    "mpe/simple_world_comm-v3",
    "butterfly/knights_archers_zombies-v11",
    "butterfly/pistonball-v6",
    "sisl/multiwalker-v9",
    "sisl/pursuit-v5",
    "classic/rps-v2",
    "classic/connect_four-v3",
    "classic/leduc_holdem-v4",
    "classic/hanabi-v5",
    "gymnasium:CartPole-v1",
    "gymnasium:Taxi-v4",
]
BROKEN = {
    "gymnasium:Pusher-v4": "needs an old mujoco",
    "openspiel:colored_trails": "takes minutes to deal",
    "openspiel:crossword": "has no observation tensor although it says so",
}
REST = [
    game.id
    for game in catalogue()
    if game.runs_here and game.agents and game.id not in QUICK and game.id not in BROKEN
]
SEED = 21


class Plain:
    """One environment, stepped plainly, with the auto-reset and the seeds of our vectors."""

    def __init__(self, id: str, index: int, kwargs: dict[str, Any]) -> None:
        self.env = make_parallel_env(id, **kwargs)
        self.index, self.episode = index, 0
        self.observations, self.infos = self.env.reset(seed=SEED + index)
        self.rng = np.random.default_rng((SEED, index))
        self.rewards: dict[str, Any] = {}
        self.flags: tuple[dict[str, bool], dict[str, bool]] = ({}, {})
        self.final: dict[str, Any] | None = None

    def active(self, agent: str) -> bool:
        """Whether the agent is to act."""
        return agent in self.env.agents and self.infos.get(agent, {}).get("active", True)

    def choose(self) -> dict[str, Any]:
        """A random legal action of everyone, also of those who are not in the game."""
        actions = {}
        for agent in self.env.possible_agents:
            space = self.env.action_space(agent)
            space.seed(int(self.rng.integers(2**31)))
            mask = None
            if self.active(agent):
                mask = legal_mask(self.observations[agent], self.infos.get(agent, {}))
            actions[agent] = space.sample() if mask is None else space.sample(mask)
        return actions

    def step(self, actions: dict[str, Any]) -> None:
        """Step; at the end of an episode keep the last observations and start the next."""
        acting = {agent: actions[agent] for agent in self.env.agents}
        self.observations, self.rewards, *flags, self.infos = self.env.step(acting)
        self.flags, self.final = (flags[0], flags[1]), None
        flagged = all(flags[0].get(a) or flags[1].get(a) for a in self.env.agents)
        if flagged:
            self.final, self.episode = self.observations, self.episode + 1
            seed = episode_seed(SEED, self.index, self.episode)
            self.observations, self.infos = self.env.reset(seed=seed)


def assert_rows_equal(got: Any, plain: Any, row: int, agent: str) -> None:
    """Compare one row of nested arrays with a plain observation."""

    def compare(block: np.ndarray, value: Any) -> None:
        np.testing.assert_array_equal(block[row], np.asarray(value).astype(block.dtype), agent)

    map_leaves(compare, got, plain)


def assert_zero(got: Any, row: int) -> None:
    """An agent that is not in the game observes zeros."""
    map_leaves(lambda block: np.testing.assert_array_equal(block[row], 0), got)


def compare(env: Any, plains: list[Plain], result: tuple[Any, ...], agents: list[str]) -> None:
    """Compare what the vector says with the plain environments."""
    observations, infos = result[0], result[-1]
    for row, plain in enumerate(plains):
        for agent in agents:
            assert bool(infos["active"][agent][row]) == plain.active(agent), agent
            if agent in plain.observations:
                assert_rows_equal(observations[agent], plain.observations[agent], row, agent)
            else:
                assert_zero(observations[agent], row)
            if plain.active(agent):
                mask = legal_mask(plain.observations[agent], plain.infos.get(agent, {}))
                if mask is not None:
                    np.testing.assert_array_equal(infos["action_mask"][agent][row], mask)
        if len(result) == 2:
            continue
        for agent in agents:
            assert result[1][agent][row] == np.float64(plain.rewards.get(agent, 0.0)), agent
            for flags, got in zip(plain.flags, result[2:4], strict=True):
                assert bool(got[agent][row]) == bool(flags.get(agent, False)), agent
        ended = "_final_observation" in infos and bool(infos["_final_observation"][row])
        assert ended == (plain.final is not None)
        for agent, final in (plain.final or {}).items():
            assert_rows_equal(infos["final_observation"][agent], final, row, agent)


def sweep(id: str, steps: int, n_workers: int) -> int:
    """Step a vector of two and its plain twins; return the episodes that ended."""
    kwargs = SMALL.get(id, {})
    env = make_vec_env(
        id, 2, n_workers=n_workers, vector_options={"strict_bounds": False}, **kwargs
    )
    try:
        result: tuple[Any, ...] = env.reset(seed=SEED)
        plains = [Plain(id, index, kwargs) for index in range(2)]
        agents = env.possible_agents
        assert agents == plains[0].env.possible_agents
        for _ in range(steps):
            compare(env, plains, result, agents)
            choices = [plain.choose() for plain in plains]
            result = env.step({a: np.stack([c[a] for c in choices]) for a in agents})
            for plain, actions in zip(plains, choices, strict=True):
                plain.step(actions)
        compare(env, plains, result, agents)
        return sum(plain.episode for plain in plains)
    finally:
        env.close()


@pytest.mark.parametrize("id", QUICK)
def test_a_game_in_this_process(id: str) -> None:
    sweep(id, 60, n_workers=0)


@pytest.mark.parametrize("id", ["mpe/simple_spread-v3", "classic/tictactoe-v3"])
def test_a_game_in_workers(id: str) -> None:
    assert sweep(id, 60, n_workers=2) >= 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("id", QUICK + REST)
def test_every_game_in_a_worker(id: str) -> None:
    sweep(id, 300, n_workers=1)
