"""One small game, and many with a single defect each, for the table of broken games."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv
from vector_games import BOX, CountGame

LENGTH = 4
AGENTS = ("a_0", "a_1")
MASKED = spaces.Dict(observation=BOX, action_mask=spaces.MultiBinary(3))


class Broken(CountGame):
    """Two agents, four steps; what it returns is changed on its way out.

    Args:
        space: of observations.
        act: of actions.
        agents: all agents.
        on_reset: changes observations and infos.
        on_step: changes the five dicts; given the game first.
        before: called with the game and the actions before each step.
    """

    def __init__(
        self,
        *,
        space: Any = BOX,
        act: Any = spaces.Discrete(3),  # noqa: B008
        agents: Any = AGENTS,
        on_reset: Callable[..., Any] | None = None,
        on_step: Callable[..., Any] | None = None,
        before: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(length=LENGTH, space=space)
        self.possible_agents, self.playing, self.act = agents, list(AGENTS), act
        self.changes = on_reset, on_step, before
        del self.state_space

    def action_space(self, agent: str) -> gym.Space:
        return self.act

    def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
        every, self.possible_agents = self.possible_agents, self.playing
        result = super().reset(seed, options)
        self.possible_agents = every
        return self.changes[0](*result) if self.changes[0] else result

    def step(self, actions: dict[str, Any]) -> Any:
        if self.changes[2]:
            self.changes[2](self, actions)
        actions = dict.fromkeys(self.agents, 0)
        result = super().step(actions)
        return self.changes[1](self, *result) if self.changes[1] else result


def returns(field: str, value: Any) -> Callable[[], Broken]:
    """A game one of whose five dicts is another value on every step, or made of it."""
    place = ("observations", "rewards", "terminations", "truncations", "infos").index(field)

    def change(game: Broken, *results: Any) -> Any:
        other = value(results[place]) if callable(value) else value
        return (*results[:place], other, *results[place + 1 :])

    return lambda: Broken(on_step=change)


def each(change: Any) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Change the value of every agent."""
    return lambda values: {
        agent: change(value) if callable(change) else change for agent, value in values.items()
    }


def with_key(name: str, value: Any) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Add a key that is no agent."""
    return lambda values: {**values, name: value}


def without_agent(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave ``a_1`` out."""
    return {agent: value for agent, value in values.items() if agent != "a_1"}


def sees(space: Any, value: Any) -> Callable[[], Broken]:
    """A game whose agents see a value of a space."""
    return lambda: Broken(
        space=space,
        on_reset=lambda o, i: (dict.fromkeys(o, value), i),
        on_step=lambda game, o, r, t, u, i: (dict.fromkeys(o, value), r, t, u, i),
    )


def masks(mask: Any) -> Callable[[], Broken]:
    """A game that gives every agent a mask, on steps alone."""
    return returns("infos", each(lambda info: {"action_mask": mask}))


def lists(agents: Callable[[Broken], Any]) -> Callable[[], Broken]:
    """A game whose ``agents`` are others after a step."""

    def change(game: Broken, *results: Any) -> Any:
        game.agents = agents(game)
        return results

    return lambda: Broken(on_step=change)


def raises(*_: Any) -> Any:
    raise ArithmeticError("of the game's own")


def of_class(base: type = Broken, **members: Any) -> Callable[[], Any]:
    """A game of a class in which some members are others; ``None`` stands for deleted."""
    return type("Own", (base,), members)


class Bare:
    """Hands everything on to a game, without the base class."""

    def __init__(self) -> None:
        self.game = Broken()

    observation_space = staticmethod(lambda agent: BOX)
    action_space = staticmethod(lambda agent: spaces.Discrete(3))
    possible_agents = AGENTS
    agents = property(lambda self: self.game.agents)

    def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
        return self.game.reset(seed, options)

    def step(self, actions: dict[str, Any]) -> Any:
        return self.game.step(actions)


def after_reset(agents: Any) -> Callable[[], Any]:
    """A game whose ``agents`` are others after ``reset``."""

    def reset(self: Any, seed: int | None = None, options: dict | None = None) -> Any:
        result = Broken.reset(self, seed, options)
        self.agents = agents
        return result

    return of_class(reset=reset)


def spaces_after_reset() -> Any:
    def reset(self: Any, seed: int | None = None, options: dict | None = None) -> Any:
        self.box = BOX
        return self.game.reset(seed, options)

    return of_class(Bare, reset=reset, observation_space=lambda self, agent: self.box)()


def changing_space() -> Any:
    sizes = itertools.cycle((3, 4))
    return of_class(
        observation_space=lambda self, agent: spaces.Box(0, 1, (next(sizes),), np.float32)
    )()


def with_state(state: Callable[..., Any]) -> Callable[[], Any]:
    """A game with a global state of two numbers."""
    return of_class(state=state, state_space=spaces.Box(-9, 9, (2,), np.float32))


class OneArray(Broken):
    """Returns the same array on every step, and writes the next observation into it."""

    def __init__(self) -> None:
        self.array = np.zeros(4, np.float32)
        super().__init__()

    def observe(self, last: int = 0) -> dict[str, Any]:
        self.array[:2] = 0, self.t
        return dict.fromkeys(self.agents, self.array[:])


class OldGym(gym.Env):
    """A Gymnasium environment as Gym was: observations alone, and one flag."""

    observation_space = BOX
    action_space = spaces.Discrete(3)

    def __init__(self, what: str) -> None:
        self.what = what

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        zeros = np.zeros(4, np.float32)
        return zeros if self.what == "reset" else (zeros, {})

    def step(self, action: Any) -> Any:
        return np.zeros(4, np.float32), 0.0, False, {}


def old_api(game: Any, o: Any, r: Any, t: Any, u: Any, i: Any) -> Any:
    return o, r, {agent: t[agent] or u[agent] for agent in t}, i


def come_back(game: Any, *results: Any) -> Any:
    o, r, t, u, i = results
    if game.t == 1:
        game.agents = ["a_0"]
        t = {**t, "a_1": True}
    elif game.t == 2:
        game.agents = ["a_0", "a_1"]
        o, r, t, u = ({"a_1": part["a_0"], **part} for part in (o, r, t, u))
    return o, r, t, u, i


def stay_listed(game: Any, *results: Any) -> Any:
    game.agents = list(AGENTS)
    return results


def take_actions_apart(game: Any, actions: dict[str, Any]) -> None:
    actions.clear()


UNDERSTOOD: dict[str, tuple[Callable[[], Any], str]] = {
    "spaces known after reset": (spaces_after_reset, "only after reset"),
    "spaces in dicts": (
        of_class(
            observation_space=ParallelEnv.observation_space,
            observation_spaces=dict.fromkeys(AGENTS, BOX),
        ),
        "",
    ),
    "no possible_agents": (of_class(Bare, possible_agents=None), "has no possible_agents"),
    "possible_agents empty": (lambda: Broken(agents=[]), "has no possible_agents"),
    "no base class": (Bare, ""),
    "reset without options": (
        of_class(Bare, reset=lambda self, seed=None: self.game.reset(seed)),
        "",
    ),
    "reset without seed": (of_class(Bare, reset=lambda self: self.game.reset()), "takes no seed"),
    "reset returns observations": (lambda: Broken(on_reset=lambda o, i: o), ""),
    "infos of reset None": (lambda: Broken(on_reset=lambda o, i: (o, None)), ""),
    "infos None": (returns("infos", None), ""),
    "infos of agents None": (returns("infos", each(None)), ""),
    "infos missing": (returns("infos", without_agent), ""),
    "infos of others": (returns("infos", with_key("common", {"time": 1})), ""),
    "infos of others, arrays": (returns("infos", with_key("common", np.arange(3))), ""),
    "__all__ terminated": (
        returns("terminations", with_key("__all__", False)),
        "is no agent and is left out",
    ),
    "__all__ truncated": (
        returns("truncations", lambda values: {**values, "__all__": all(values.values())}),
        "is no agent and is left out",
    ),
    "rewards (1,)": (returns("rewards", each(lambda x: np.array([x]))), ""),
    "rewards in lists": (returns("rewards", each(lambda x: [x])), ""),
    "rewards of integers": (returns("rewards", each(int)), ""),
    "lists of five": (lambda: Broken(on_step=lambda game, *results: [*results]), ""),
    "flags of integers": (returns("terminations", each(int)), ""),
    "flags of NumPy": (returns("truncations", each(np.bool_)), ""),
    "flags None": (returns("terminations", each(None)), ""),
    "wider integers": (
        sees(spaces.Box(0, 9, (2,), np.int8), np.array([1, 2])),
        "",
    ),
    "observations out of bounds": (
        sees(spaces.Box(0, 1, (2,), np.float32), np.array([0, 2], np.float32)),
        "got 2.0 at [1]",
    ),
    "observations of float64": (sees(BOX, np.zeros(4)), ""),
    "agents in a tuple": (lists(lambda game: tuple(game.agents)), ""),
    "agent listed twice": (lists(lambda game: [*game.agents, *game.agents[:1]]), ""),
    "agents that stay listed": (lambda: Broken(on_step=stay_listed), ""),
    "agent leaves without a flag": (
        lists(lambda game: game.agents[:1]),
        "left env.agents without a termination",
    ),
    "mask forbids everything": (masks(np.zeros(3, np.int8)), "forbids every action"),
    "mask of floats": (masks([1.0, 0.0, 1.0]), ""),
    "mask only at times": (
        lambda: Broken(
            on_reset=lambda o, i: (o, {a: {"action_mask": np.ones(3, np.int8)} for a in o})
        ),
        "",
    ),
    "metadata no dict": (of_class(metadata=None), ""),
    "close raises": (of_class(close=raises), ""),
    "actions taken apart": (lambda: Broken(before=take_actions_apart), ""),
    "one array": (OneArray, ""),
    "state raises": (with_state(raises), ""),
    "state of another shape": (with_state(lambda self: np.zeros(3, np.float32)), ""),
    "state not finite": (with_state(lambda self: np.full(2, np.nan, np.float32)), ""),
}
"""Games that run, each with what is said of it; most need no word."""

REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "no spaces": (of_class(Bare, observation_space=None), "observation space of agent 'a_0'"),
    "space None": (
        of_class(action_space=lambda self, agent: None),
        r"action space of agent 'a_0': expected a gymnasium.Space, got None; return one from",
    ),
    "space raises": (of_class(observation_space=raises), "got ArithmeticError.*return one from"),
    "spaces that change": (changing_space, "observation space of agent 'a_0': expected the same"),
    "space of text": (
        of_class(observation_space=lambda self, agent: spaces.Text(3)),
        "observation space of agent 'a_0' made of Box, .*got Text.*; wrap",
    ),
    "space of sequences": (
        of_class(observation_space=lambda self, agent: spaces.Sequence(BOX)),
        "observation space of agent 'a_0' made of Box, .*got Sequence.*; wrap",
    ),
    "space of graphs": (
        of_class(observation_space=lambda self, agent: spaces.Graph(BOX, None)),
        "observation space of agent 'a_0' made of Box, .*got Graph.*; wrap",
    ),
    "actions of text": (of_class(action_space=lambda self, agent: spaces.Text(3)), "got Text"),
    "mask declared too long": (
        lambda: Broken(space=MASKED, act=spaces.Discrete(4)),
        r"'action_mask'\] of agent 'a_0': expected 4 numbers .*; declare it as MultiBinary\(4\)",
    ),
    "no agents at all": (
        of_class(Bare, possible_agents=(), agents=(), reset=lambda self, **_: ({}, {})),
        r"expected possible_agents, .*got \(\) and \(\); set possible_agents in __init__",
    ),
    "agents twice": (lambda: Broken(agents=["a_0", "a_1", "a_0"]), "got agent 'a_0' 2 times"),
    "agents that are lists": (lambda: Broken(agents=[["a_0"], ["a_1"]]), "distinct names, got"),
    "agents not listed": (after_reset(None), "expected env.agents, the list .*got None; set it"),
    "agents one text": (after_reset("a_0"), "expected env.agents, the list .*got 'a_0'; set it"),
    "nobody after reset": (after_reset([]), r"expected at least one agent after reset\(\)"),
    "maker raises": (raises, "ArithmeticError: of the game's own"),
    "maker returns None": (lambda: None, "expected a PettingZoo ParallelEnv, .*got None"),
    "maker returns a number": (lambda: 3, "expected a PettingZoo ParallelEnv, .*got int"),
    "maker returns a class": (lambda: Broken, "got the class Broken itself"),
    "gym without infos": (lambda: OldGym("reset"), r"reset\(\): expected \(observation, info\)"),
    "gym with one flag": (lambda: OldGym("step"), r"step\(\): expected .*got a tuple of 4 values"),
    "reset raises": (lambda: Broken(on_reset=raises), "ArithmeticError: of the game's own"),
    "step raises": (lambda: Broken(before=raises), "ArithmeticError: of the game's own"),
    "reset returns None": (lambda: Broken(on_reset=lambda o, i: None), r"reset\(\): expected"),
    "reset returns three": (lambda: Broken(on_reset=lambda o, i: (o, i, i)), "tuple of 3 values"),
    "reset in lists": (
        lambda: Broken(on_reset=lambda o, i: ([*o.values()], i)),
        r"observations of reset\(\): expected a dict by agent",
    ),
    "reset without an agent": (
        lambda: Broken(on_reset=lambda o, i: (without_agent(o), i)),
        "observation of agent 'a_1': expected one from reset",
    ),
    "reset of common": (
        lambda: Broken(on_reset=lambda o, i: ({**o, "common": 0}, i)),
        r"observations of reset\(\): expected agents of .*got 'common'.* leave out keys",
    ),
    "old API": (lambda: Broken(on_step=old_api), "tuple of 4 .*terminations .*apart from"),
    "step returns None": (lambda: Broken(on_step=lambda *_: None), r"step\(\): .*got None"),
    "observations in lists": (returns("observations", [1, 2]), "observations of step.*list of 2"),
    "observations None": (returns("observations", None), "observations of step.*got None"),
    "observations of __all__": (
        returns("observations", with_key("__all__", 0)),
        "observations of step.*got '__all__'.*leave out keys",
    ),
    "observation missing": (
        returns("observations", without_agent),
        "observation of agent 'a_1': expected one on every step",
    ),
    "observation None": (
        sees(BOX, None),
        r"observation of agent 'a_0': expected an array of shape \(4,\).*got nothing",
    ),
    "observation of another shape": (sees(BOX, np.zeros(3, np.float32)), r"got .*shape \(3,\)"),
    "observation of text": (sees(BOX, "none"), "observation of agent 'a_0': .*got str"),
    "observation ragged": (sees(BOX, [[1], [2, 3]]), "observation of agent 'a_0': .*got list"),
    "observation not finite": (
        sees(BOX, np.full(4, np.inf, np.float32)),
        "observation of agent 'a_0': expected finite numbers, got inf",
    ),
    "key of a Dict missing": (
        sees(MASKED, {"observation": np.zeros(4, np.float32)}),
        r"observation\['action_mask'\] of agent 'a_0': expected an array .*got nothing",
    ),
    "floats for integers": (
        sees(spaces.Box(0, 9, (2,), np.uint8), np.array([0.5, 1.5], np.float32)),
        "observation of agent 'a_0': .*dtype uint8, got .*dtype float32",
    ),
    "integers too wide": (
        sees(spaces.Box(0, 9, (2,), np.int8), np.array([1, 300])),
        r"observation of agent 'a_0': expected integers .*got 300 at \[1\]",
    ),
    "choice there is not": (sees(spaces.Discrete(3), 5), "observation of agent 'a_0': .*got 5"),
    "rewards None": (returns("rewards", None), r"rewards of step\(\): expected a dict by agent"),
    "rewards one number": (returns("rewards", 1.0), r"rewards of step\(\): expected a dict by ag"),
    "rewards of common": (returns("rewards", with_key("common", 1)), "rewards.*got 'common'"),
    "reward None": (returns("rewards", each(None)), "reward of agent 'a_0': .*got None; return"),
    "reward text": (returns("rewards", each("much")), "reward of agent 'a_0': .*got str"),
    "reward nan": (returns("rewards", each(np.nan)), "reward of agent 'a_0': .*got nan"),
    "reward of two": (returns("rewards", each([1, 2])), "reward of agent 'a_0': .*one number"),
    "reward ragged": (returns("rewards", each([[1], [2, 3]])), "reward of agent 'a_0': .*one num"),
    "reward too large": (returns("rewards", each(10**400)), "reward of agent 'a_0': .*one number"),
    "reward missing": (returns("rewards", without_agent), "reward of agent 'a_1': .*no such key"),
    "terminations one flag": (returns("terminations", False), "terminations of step.*type bool"),
    "terminations missing": (
        returns("terminations", without_agent),
        "termination of agent 'a_1': .*no such key",
    ),
    "terminations of text": (
        returns("terminations", each("no")),
        "termination of agent 'a_0': expected True or False, got 'no'; return a bool",
    ),
    "terminations of common": (
        returns("terminations", with_key("common", False)),
        "terminations of step.*got 'common'",
    ),
    "truncations None": (returns("truncations", None), "truncations of step.*got None"),
    "truncations missing": (
        returns("truncations", without_agent),
        "truncation of agent 'a_1': .*no such key",
    ),
    "all over, nobody flagged": (
        returns("terminations", with_key("__all__", True)),
        r"terminations\['__all__'\] of agent 'a_0': .*set terminations\[agent\]",
    ),
    "infos a list": (returns("infos", [1]), "infos: expected a dict by agent"),
    "infos of texts": (returns("infos", each("fine")), "info of agent 'a_0': expected a dict"),
    "infos of arrays": (returns("infos", each(np.arange(3))), "info of agent 'a_0': expected a di"),
    "active of two": (
        returns("infos", each({"active": np.ones(2)})),
        r"info\['active'\] of agent 'a_0': expected True or False",
    ),
    "mask too short": (
        masks(np.ones(2, np.int8)),
        "action_mask of agent 'a_0': expected 3 numbers .*; return one number for each choice",
    ),
    "mask of texts": (masks(["a", "b", "c"]), "action_mask of agent 'a_0': expected 3 numbers"),
    "mask ragged": (masks([[1], [1, 0]]), "action_mask of agent 'a_0': expected 3 numbers"),
    "agents unknown": (lists(lambda game: ["a_0", "b_0"]), "env.agents: expected agents of .*b_0"),
    "agents None": (lists(lambda game: None), r"expected env.agents, the list .*got None; set it"),
    "agents of lists": (lists(lambda game: [["a_0"]]), r"expected env.agents, names of"),
    "agent comes back": (lambda: Broken(on_step=come_back), "agent 'a_1' left the game in this"),
}
"""Games that are refused, each by the rule that it breaks."""
