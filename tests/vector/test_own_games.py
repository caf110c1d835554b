"""Games that lack a part of ``ParallelEnv`` run, and one sentence says what was made up for."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv
from vector_games import BOX, CountGame

from kitae_marl import SubProcVecParallelEnv, check_env, make_parallel_env
from kitae_marl.errors import AgentSetError, EnvDataError, GameRuleError
from kitae_marl.vector.adapters.own_games import OwnGameEnv, completed_game, takes_seed


class Plain:
    """The whole interface, and no base class; agents ``a_0`` and ``a_1`` play four steps."""

    possible_agents = ("a_0", "a_1")

    def __init__(self) -> None:
        self.game = CountGame(length=4)
        self.given: list[dict[str, Any]] = []

    @property
    def agents(self) -> list[str]:
        return self.game.agents

    def observation_space(self, agent: str) -> gym.Space:
        return BOX

    def action_space(self, agent: str) -> gym.Space:
        return spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
        self.given.append({"seed": seed, "options": options})
        return self.game.reset(seed, options)

    def step(self, actions: dict[str, int]) -> Any:
        return self.game.step(actions)


class WithoutAgents(Plain):
    possible_agents: Any = None


class AgentsLater(Plain):
    possible_agents: Any = ()

    def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
        self.possible_agents = ["a_0", "a_1"]
        return super().reset(seed, options)


class SpacesLater(Plain):
    """As generals does it: the size of the map is drawn by ``reset``."""

    def observation_space(self, agent: str) -> gym.Space:
        return self.boxes[agent]  # type: ignore[attr-defined]

    def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
        self.boxes = {"a_0": BOX, "a_1": BOX}
        return super().reset(seed, options)


class SpacesInDicts(Plain):
    observation_space = action_space = None  # type: ignore[assignment]
    observation_spaces = dict.fromkeys(("a_0", "a_1"), BOX)
    action_spaces = spaces.Dict(a_0=spaces.Discrete(3), a_1=spaces.Discrete(3))


class SpacesInDictsOfTheBase(CountGame):
    """Asked by the methods of ``ParallelEnv``, which warn each time."""

    observation_space = ParallelEnv.observation_space
    action_space = ParallelEnv.action_space
    observation_spaces = dict.fromkeys(("a_0", "a_1"), BOX)
    action_spaces = dict.fromkeys(("a_0", "a_1"), spaces.Discrete(3))

    def __init__(self) -> None:
        super().__init__(length=4)


class WithoutOptions(Plain):
    def reset(self, seed: int | None = None) -> Any:  # type: ignore[override]
        return super().reset(seed)


class WithoutSeed(Plain):
    def reset(self) -> Any:  # type: ignore[override]
        return super().reset()


GAMES: dict[Callable[[], Any], str] = {
    Plain: "",
    WithoutAgents: r"has no possible_agents: the agents of its first episode, \['a_0', 'a_1'\]",
    AgentsLater: "has possible_agents only after reset",
    SpacesLater: "knows its observation spaces only after reset",
    SpacesInDicts: "",
    SpacesInDictsOfTheBase: "",
    WithoutOptions: "",
    WithoutSeed: "takes no seed: its episodes cannot be repeated",
}


@pytest.mark.parametrize(("make", "n"), [*((make, 0) for make in GAMES), (SpacesLater, 2)])
@pytest.mark.usefixtures("nothing_left")
def test_it_runs_and_says_why(make: Any, n: int, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING, "kitae_marl.vector"),
        SubProcVecParallelEnv([make] * 2, n_workers=n) as vec,
    ):
        assert vec.possible_agents == ["a_0", "a_1"]
        assert vec.observation_space("a_1") == BOX
        vec.reset(seed=7)
        actions = {agent: np.ones(2, int) for agent in vec.possible_agents}
        steps = [vec.step(actions) for _ in range(5)]
        assert float(steps[-1][1]["a_1"][0]) == 1  # live views: the first step of the next episode
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == bool(GAMES[make])  # once for all environments
    assert not said or re.search(GAMES[make], said[0])


def test_a_game_that_lacks_nothing_is_used_as_it_is() -> None:
    game = CountGame()
    assert completed_game(game) is game
    assert game.n_resets == 0


def test_the_game_gets_what_it_takes() -> None:
    game = Plain()
    with SubProcVecParallelEnv([game], n_workers=0) as vec:
        vec.reset(seed=3, options={"map": 1})
    assert game.given == [{"seed": 3, "options": {"map": 1}}]
    assert takes_seed(check_env(game))
    assert not takes_seed(check_env(WithoutSeed()))


def test_the_rest_of_the_interface_is_the_games_own_or_harmless() -> None:
    env = check_env(Plain())
    assert isinstance(env, OwnGameEnv)
    assert (env.metadata["name"], env.render_mode) == ("Plain", None)
    assert env.unwrapped is env.env
    assert env.game is env.env.game
    env.close()  # it has nothing to close


def test_options_that_a_game_does_not_take_are_refused() -> None:
    with (
        SubProcVecParallelEnv([WithoutOptions], n_workers=0) as vec,
        pytest.raises(GameRuleError, match=r"reset\(self, seed=None, options=None\), as options"),
    ):
        vec.reset(seed=3, options={"map": 1})


def test_agents_that_the_first_episode_did_not_have() -> None:
    class Growing(WithoutAgents):
        def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
            self.game.possible_agents = ["a_0", "a_1", "a_2"][: 2 + len(self.given)]
            return super().reset(seed, options)

    with (
        SubProcVecParallelEnv([Growing], n_workers=0) as vec,
        pytest.raises(AgentSetError, match=r"agents of \['a_0', 'a_1'\], got 'a_2'; list every"),
    ):
        vec.reset(seed=0)


class NoSpaces(Plain):
    observation_space = None  # type: ignore[assignment]


class OneSpace(Plain):
    action_space = spaces.Discrete(3)  # type: ignore[assignment]


class Raising(Plain):
    def observation_space(self, agent: str) -> gym.Space:
        raise RuntimeError("not yet")


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (NoSpaces, "observation space of agent 'a_0': expected a gymnasium.Space, got None"),
        (OneSpace, r"action space of agent 'a_0': .*got the one space Discrete\(3\) for all"),
        (Raising, "got RuntimeError: not yet; return one from observation_space"),
    ],
)
def test_spaces_that_are_not_to_be_had(make: Any, rule: str) -> None:
    with pytest.raises(EnvDataError, match=rule):
        SubProcVecParallelEnv([make], n_workers=0)
    with pytest.raises(EnvDataError, match=rule):
        check_env(make())


@pytest.mark.parametrize(
    "make",
    [
        lambda: gym.make("CartPole-v1"),
        lambda: make_parallel_env("classic/rps-v2", stock=True).aec_env,  # type: ignore[attr-defined]
    ],
)
def test_functions_may_make_what_check_env_accepts(make: Any) -> None:
    made = make()
    assert isinstance(made, gym.Env | AECEnv)
    with SubProcVecParallelEnv([make], n_workers=0) as vec:
        vec.reset(seed=0)
        vec.step({agent: np.zeros(1, int) for agent in vec.possible_agents})


@pytest.mark.parametrize("given", [None, 3, CountGame, "mpe/simple-v3"])
def test_what_is_no_game_is_refused_by_the_vector_too(given: Any) -> None:
    with pytest.raises(GameRuleError, match=r"expected a PettingZoo ParallelEnv, .*got "):
        SubProcVecParallelEnv([lambda: given], n_workers=0)
    if given is not CountGame:
        with pytest.raises(GameRuleError, match=r"expected a PettingZoo ParallelEnv, .*got "):
            SubProcVecParallelEnv([given], n_workers=0)
