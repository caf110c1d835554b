"""Probe games: one property each, with the value and the policy that learning must find.

A :class:`Probe` names its game, the discount, and what is known: the value of an observation under
the best policy, and the best action there. The games are PettingZoo parallel environments that
also check what they are given. ``PROBES`` is for every learner; ``MEMORY_PROBES`` and
``CENTRAL_PROBES`` are for those that remember, or whose critic sees the whole game, and no other
can pass them. The broken games at the end lie about one thing each: a learner that passes a probe
must fail on its broken variant. Broken learners are in ``broken_learners``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from pettingzoo import ParallelEnv

Box, Discrete, Dict = gym.spaces.Box, gym.spaces.Discrete, gym.spaces.Dict


@dataclass(frozen=True)
class Known:
    """What must be learned at one observation of one agent.

    Attributes:
        agent: whose observation it is.
        observation: as the game gives it.
        value: its value under the best policy; None: nothing is said about it.
        action: the best action there; None: any.
        before: the agent's own observations just before in the same episode, where they matter.
        others: what other agents see at the same time, where it matters.
        state: the global state, where it matters.
    """

    agent: str
    observation: Any
    value: float | None = None
    action: Any = None
    before: tuple[Any, ...] = ()
    others: dict[str, Any] = field(default_factory=dict)
    state: Any = None


@dataclass(frozen=True)
class Probe:
    """One property of learning and how to see it.

    Attributes:
        game: makes the game.
        known: what must be learned.
        gamma: discount factor.
        tolerance: largest error of a value.
        env_steps: steps of single environments that suffice.
        settings: further settings of the learner.
    """

    game: Callable[[], ParallelEnv]
    known: tuple[Known, ...]
    gamma: float = 0.5
    tolerance: float = 0.15
    env_steps: int = 6400
    settings: dict[str, Any] = field(default_factory=dict)


class ProbeGame(ParallelEnv):
    """A game of few steps; subclasses say what is seen, paid and when it ends."""

    metadata = {"name": "probe"}  # noqa: RUF012
    render_mode = None
    agents_and_spaces: dict[str, tuple[gym.Space, gym.Space]] = {}  # noqa: RUF012
    length = 1
    truncates = False

    def __init__(self) -> None:
        self.possible_agents = list(self.agents_and_spaces)
        self.agents: list[str] = []
        self.rng = np.random.default_rng()
        self.t = 0

    def observation_space(self, agent: str) -> gym.Space:
        return self.agents_and_spaces[agent][0]

    def action_space(self, agent: str) -> gym.Space:
        return self.agents_and_spaces[agent][1]

    def start(self) -> None:
        """Draw what an episode starts with."""

    def see(self, agent: str) -> Any:
        """Observation of an agent."""
        raise NotImplementedError

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        """Reward of an agent for the step from time t."""
        raise NotImplementedError

    def note(self, actions: dict[str, Any]) -> None:
        """Keep what later steps need."""

    def info(self, agent: str) -> dict[str, Any]:
        return {}

    def ends(self, agent: str) -> bool:
        """Whether the episode of an agent ends, the step being counted already."""
        return self.t == self.length

    def cut(self, agent: str) -> bool:
        """Whether an end is a truncation."""
        return self.truncates

    def joins(self, agent: str) -> int:
        """The time from which an agent is in the game."""
        return 0

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.t = 0
        self.agents = [agent for agent in self.possible_agents if not self.joins(agent)]
        self.start()
        return (
            {agent: self.see(agent) for agent in self.agents},
            {agent: self.info(agent) for agent in self.agents},
        )

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        acting = [a for a in self.agents if self.info(a).get("active", True)]
        assert set(acting) <= set(actions) <= set(self.agents)
        for agent in acting:
            assert self.action_space(agent).contains(actions[agent]), (agent, actions[agent])
        rewards = {agent: self.pay(agent, actions) for agent in self.agents}
        self.note(actions)
        self.t += 1
        ended = {agent: self.ends(agent) for agent in self.agents}
        terminated = {agent: ended[agent] and not self.cut(agent) for agent in self.agents}
        truncated = {agent: ended[agent] and self.cut(agent) for agent in self.agents}
        new = [agent for agent in self.possible_agents if self.joins(agent) == self.t]
        here = self.agents + new
        observations = {agent: self.see(agent) for agent in here}
        infos = {agent: self.info(agent) for agent in here}
        for flags, nothing in ((rewards, 0.0), (terminated, False), (truncated, False)):
            flags |= dict.fromkeys(new, nothing)
        self.agents = [agent for agent in here if agent in new or not ended[agent]]
        return observations, rewards, terminated, truncated, infos


def box(n: int) -> gym.Space:
    return Box(-10, 10, (n,), np.float32)


def one_hot(i: int, n: int) -> np.ndarray:
    return np.eye(n, dtype=np.float32)[i]


class OneStep(ProbeGame):
    """Pays what is seen, and 1 more for the action that fits it."""

    agents_and_spaces = {f"a_{i}": (box(1), Discrete(2)) for i in range(2)}  # noqa: RUF012

    def start(self) -> None:
        self.x = {a: self.rng.choice([-1, 1]) for a in self.possible_agents}

    def see(self, agent: str) -> Any:
        return np.float32([self.x[agent]])

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        return float(self.x[agent] + (actions[agent] == (self.x[agent] > 0)))


ONE_STEP = Probe(
    OneStep,
    tuple(
        Known(agent, np.float32([x]), x + 1.0, int(x > 0))
        for agent in ("a_0", "a_1")
        for x in (-1, 1)
    ),
)


class TwoSteps(ProbeGame):
    """The second step pays the first action; what was chosen is seen in between."""

    agents_and_spaces = {"a": (box(3), Discrete(2))}  # noqa: RUF012
    length = 2

    def start(self) -> None:
        self.chosen = 0

    def note(self, actions: dict[str, Any]) -> None:
        self.chosen = self.chosen if self.t else int(actions["a"])

    def see(self, agent: str) -> Any:
        return np.float32([self.t == 0, self.t == 1, self.chosen])

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        return float(self.chosen if self.t else 0)


TWO_STEPS = Probe(
    TwoSteps,
    (
        Known("a", np.float32([1, 0, 0]), 0.5, 1),
        Known("a", np.float32([0, 1, 1]), 1.0),
        Known("a", np.float32([0, 1, 0]), 0.0),
    ),
)


class TimeLimit(ProbeGame):
    """Pays 1 at every step. One agent is cut off at any time, for the other the end is the end.

    The cut comes at random, so that a critic with memory learns of every step that may follow it.
    """

    agents_and_spaces = {  # noqa: RUF012
        "cut": (box(1), Discrete(2)),
        "mortal": (box(4), Discrete(2)),
    }
    length = 4

    def see(self, agent: str) -> Any:
        return np.float32([1]) if agent == "cut" else one_hot(self.t % 4, 4)

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        return 1.0

    def ends(self, agent: str) -> bool:
        return self.rng.random() < 0.25 if agent == "cut" else self.t == self.length

    def cut(self, agent: str) -> bool:
        return agent == "cut"


TIME_LIMIT = Probe(
    TimeLimit,
    (
        Known("cut", np.float32([1]), 1 / (1 - 0.75)),
        *(Known("mortal", one_hot(t, 4), sum(0.75**k for k in range(4 - t))) for t in range(4)),
    ),
    gamma=0.75,
    tolerance=0.25,
)


class OwnReward(ProbeGame):
    """Agents of one group want opposite actions, and only one of them can earn anything."""

    agents_and_spaces = {f"a_{i}": (box(2), Discrete(2)) for i in range(2)}  # noqa: RUF012

    def see(self, agent: str) -> Any:
        return one_hot(int(agent[-1]), 2)

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        action = int(actions[agent])
        return float(action if agent == "a_0" else -action)


OWN_REWARD = Probe(
    OwnReward,
    (Known("a_0", one_hot(0, 2), 1.0, 1), Known("a_1", one_hot(1, 2), 0.0, 0)),
)


class UnequalSpaces(ProbeGame):
    """A speaker and a listener with spaces of their own; each is paid for what it sees."""

    agents_and_spaces = {  # noqa: RUF012
        "speaker_0": (box(3), Discrete(3)),
        "listener_0": (Discrete(2), gym.spaces.MultiDiscrete([2, 2])),
    }

    def start(self) -> None:
        self.x, self.y = self.rng.integers(3), self.rng.integers(2)

    def see(self, agent: str) -> Any:
        return one_hot(self.x, 3) if agent == "speaker_0" else int(self.y)

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        if agent == "speaker_0":
            return float(actions[agent] == self.x)
        return 2.0 * float((actions[agent] == [self.y, 1 - self.y]).all())


UNEQUAL_SPACES = Probe(
    UnequalSpaces,
    (
        *(Known("speaker_0", one_hot(x, 3), 1.0, x) for x in range(3)),
        *(Known("listener_0", np.int64(y), 2.0, np.array([y, 1 - y])) for y in range(2)),
    ),
    tolerance=0.25,
    env_steps=9600,
)


class Continuous(ProbeGame):
    """The best action lies inside the bounds, and where depends on what is seen."""

    agents_and_spaces = {"a": (box(1), Box(-2, 2, (1,), np.float32))}  # noqa: RUF012

    def start(self) -> None:
        self.x = self.rng.choice([-1, 1])

    def see(self, agent: str) -> Any:
        return np.float32([self.x])

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        return -((float(actions[agent][0]) - 0.5 * self.x) ** 2)


CONTINUOUS = Probe(
    Continuous,
    tuple(Known("a", np.float32([x]), 0.0, np.array([0.5 * x])) for x in (-1, 1)),
    tolerance=0.25,
    env_steps=16000,
    settings={"entropy_coef": 0.0},
)


class Bound(ProbeGame):
    """The best actions lie on the bounds: on the upper one, or on the lower one."""

    agents_and_spaces = {"a": (box(1), Box(0.1, 0.7, (1,), np.float64))}  # noqa: RUF012

    def start(self) -> None:
        self.x = self.rng.choice([-1, 1])

    def see(self, agent: str) -> Any:
        return np.float32([self.x])

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        return float(self.x * actions[agent][0])


BOUND = Probe(
    Bound,
    (
        Known("a", np.float32([1]), 0.7, np.array([0.7])),
        Known("a", np.float32([-1]), -0.1, np.array([0.1])),
    ),
    tolerance=0.25,
    env_steps=16000,
    settings={"entropy_coef": 0.0},
)


class Composite(ProbeGame):
    """An action of three parts, each of which is paid for; the move that pays most is forbidden."""

    agents_and_spaces = {  # noqa: RUF012
        "a": (
            box(1),
            Dict(
                move=Discrete(3),
                rest=gym.spaces.Tuple([Box(-1, 1, (1,)), Box(-1, 1, (1,), np.int8)]),
            ),
        )
    }

    def start(self) -> None:
        self.x = int(self.rng.choice([-1, 1]))

    def see(self, agent: str) -> Any:
        return np.float32([self.x])

    def info(self, agent: str) -> dict[str, Any]:
        return {"action_mask": np.array([1, 1, 0], np.int8)}

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        move, (aim, level) = actions[agent]["move"], actions[agent]["rest"]
        assert move != 2, "a forbidden move was played"
        hits = float(move == (self.x > 0)) + float(level[0] == self.x)
        return hits - (float(aim[0]) - 0.5 * self.x) ** 2


COMPOSITE = Probe(
    Composite,
    tuple(
        Known(
            "a",
            np.float32([x]),
            2.0,
            {"move": int(x > 0), "rest": (np.array([0.5 * x]), np.array([x]))},
        )
        for x in (-1, 1)
    ),
    tolerance=0.25,
    env_steps=12800,
    settings={"entropy_coef": 0.0},
)


class Masked(ProbeGame):
    """The action that pays most is forbidden; masks come with the observation, or by infos."""

    agents_and_spaces = {  # noqa: RUF012
        "seen": (
            Dict(observation=box(1), action_mask=Box(0, 1, (4,), np.int8)),
            Discrete(4),
        ),
        "told": (box(1), Discrete(4)),
    }

    def start(self) -> None:
        self.best = int(self.rng.integers(2))  # of the actions 0 and 1; 2 pays 0; 3 is forbidden

    def mask(self) -> np.ndarray:
        return np.array([1, 1, 1, 0], np.int8)

    def see(self, agent: str) -> Any:
        x = np.float32([2 * self.best - 1])
        return {"observation": x, "action_mask": self.mask()} if agent == "seen" else x

    def info(self, agent: str) -> dict[str, Any]:
        return {"action_mask": self.mask()} if agent == "told" else {}

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        assert actions[agent] != 3, "a forbidden action was played"
        return float(actions[agent] == self.best)


MASKED = Probe(
    Masked,
    tuple(
        Known(agent, seen, 1.0, int(x > 0))
        for x in (-1, 1)
        for agent, seen in (
            ("seen", {"observation": np.float32([x]), "action_mask": np.int8([1, 1, 1, 0])}),
            ("told", np.float32([x])),
        )
    ),
)


class EarlyDeath(ProbeGame):
    """Pays 1 at every step to those alive; one agent dies after the first, one lives for three."""

    agents_and_spaces = {f"a_{i}": (box(4), Discrete(2)) for i in range(2)}  # noqa: RUF012

    def see(self, agent: str) -> Any:
        return np.append(one_hot(self.t % 3, 3), np.float32(agent == "a_1"))

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        return 1.0

    def ends(self, agent: str) -> bool:
        return self.t == (1 if agent == "a_0" else 3)


EARLY_DEATH = Probe(
    EarlyDeath,
    (
        Known("a_0", np.float32([1, 0, 0, 0]), 1.0),
        Known("a_1", np.float32([1, 0, 0, 1]), 1.75),
        Known("a_1", np.float32([0, 1, 0, 1]), 1.5),
        Known("a_1", np.float32([0, 0, 1, 1]), 1.0),
    ),
)


class LateJoin(ProbeGame):
    """Pays 1 at every step to those in the game; one agent joins late, and sees zeros then.

    Zeros are also what stands for an agent that is not in the game, worth something else.
    """

    agents_and_spaces = {f"a_{i}": (box(3), Discrete(2)) for i in range(2)}  # noqa: RUF012
    length = 4

    def joins(self, agent: str) -> int:
        return 2 if agent == "a_1" else 0

    def see(self, agent: str) -> Any:
        if agent == "a_1" and self.t == 2:
            return np.zeros(3, np.float32)
        return np.float32([1, self.t / 4, agent == "a_1"])

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        return 1.0


LATE_JOIN = Probe(
    LateJoin,
    (
        Known("a_0", np.float32([1, 0, 0]), 1.875),
        Known("a_0", np.float32([1, 0.5, 0]), 1.5),
        Known("a_0", np.float32([1, 0.75, 0]), 1.0),
        Known("a_1", np.zeros(3, np.float32), 1.5),
        Known("a_1", np.float32([1, 0.75, 1]), 1.0),
    ),
)


class TurnBased(ProbeGame):
    """The first player moves, then the second one; both are paid when the second has moved.

    The first player's move decides who loses 1 to the other; the second can add 0.5 for itself.
    """

    agents_and_spaces = {f"p_{i}": (box(3), Discrete(2)) for i in range(2)}  # noqa: RUF012
    length = 2

    def start(self) -> None:
        self.chosen = 0

    def info(self, agent: str) -> dict[str, Any]:
        return {"active": agent == f"p_{self.t}"}

    def note(self, actions: dict[str, Any]) -> None:
        self.chosen = self.chosen if self.t else int(actions["p_0"])

    def see(self, agent: str) -> Any:
        return np.float32([self.t, self.chosen, agent == "p_1"])

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        if self.t == 0:
            return 0.0
        first_wins = 1.0 if self.chosen else -1.0
        return first_wins if agent == "p_0" else 0.5 * int(actions["p_1"]) - first_wins


TURN_BASED = Probe(
    TurnBased,
    (
        Known("p_0", np.float32([0, 0, 0]), 1.0, 1),
        Known("p_1", np.float32([1, 1, 1]), -0.5, 1),
    ),
    env_steps=9600,
)


class DictObservation(ProbeGame):
    """What to do stands in one part of the observation, what it is worth in the others."""

    agents_and_spaces = {  # noqa: RUF012
        "a": (Dict(k=Discrete(3), x=box(1), deep=gym.spaces.Tuple([Discrete(2)])), Discrete(3))
    }

    def start(self) -> None:
        self.k, self.x, self.y = (
            self.rng.integers(3),
            self.rng.choice([-1, 1]),
            self.rng.integers(2),
        )

    def see(self, agent: str) -> Any:
        return {"k": int(self.k), "x": np.float32([self.x]), "deep": (int(self.y),)}

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        return float(self.x + self.y + (actions["a"] == self.k))


DICT_OBSERVATION = Probe(
    DictObservation,
    tuple(
        Known(
            "a",
            {"k": np.int64(k), "x": np.float32([x]), "deep": (np.int64(y),)},
            x + y + 1.0,
            k,
        )
        for k in range(3)
        for x in (-1, 1)
        for y in (0, 1)
    ),
    tolerance=0.3,
    env_steps=9600,
)


class Memory(ProbeGame):
    """A cue is shown at the start, or none, and nothing afterwards; later steps pay what fits it.

    After the start an episode ends with each step by chance. Where there is no cue the start looks
    like any later step, so a memory that is not emptied takes it for the episode before.
    """

    agents_and_spaces = {"a": (box(1), Discrete(3))}  # noqa: RUF012

    def start(self) -> None:
        self.cue, self.over = int(self.rng.choice([-1, 0, 0, 1])), False

    def see(self, agent: str) -> Any:
        return np.float32([self.cue if self.t == 0 else 0])

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        return float(self.t > 0 and actions[agent] == self.cue + 1)

    def note(self, actions: dict[str, Any]) -> None:
        self.over = self.t > 0 and bool(self.rng.integers(2))

    def ends(self, agent: str) -> bool:
        return self.over


_REMEMBERED = 1 / (1 - 0.5 * 0.5)
"""Value of 1 for each of the steps to come, where one more comes with probability 0.5."""
_NOTHING = np.zeros(1, np.float32)
MEMORY = Probe(
    Memory,
    (
        *(Known("a", np.float32([cue]), 0.5 * _REMEMBERED) for cue in (-1, 1)),
        *(
            Known("a", _NOTHING, _REMEMBERED, cue + 1, before=(np.float32([cue]), *blank))
            for cue in (-1, 0, 1)
            for blank in ((), (_NOTHING,))
        ),
    ),
    env_steps=25600,
    tolerance=0.25,
)
MEMORY_PROBES = {"memory": MEMORY}


class Together(ProbeGame):
    """Each agent sees one of two signs and is paid their product, and 1 for an action that fits.

    What it sees says nothing of the product: only a critic that sees both signs knows the value.
    """

    agents_and_spaces = {f"a_{i}": (box(1), Discrete(2)) for i in range(2)}  # noqa: RUF012

    def start(self) -> None:
        self.x = {a: int(self.rng.choice([-1, 1])) for a in self.possible_agents}

    def see(self, agent: str) -> Any:
        return np.float32([self.x[agent]])

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        return float(self.x["a_0"] * self.x["a_1"] + (actions[agent] == (self.x[agent] > 0)))


TOGETHER = Probe(
    Together,
    tuple(
        Known(a, np.float32([x]), x * y + 1.0, int(x > 0), others={b: np.float32([y])})
        for a, b in (("a_0", "a_1"), ("a_1", "a_0"))
        for x in (-1, 1)
        for y in (-1, 1)
    ),
    tolerance=0.25,
    env_steps=9600,
)


class Hidden(ProbeGame):
    """The reward stands in the global state alone."""

    agents_and_spaces = {"a_0": (box(1), Discrete(2)), "b_0": (box(2), Discrete(2))}  # noqa: RUF012
    state_space = box(2)

    def start(self) -> None:
        self.x = self.rng.choice([-1, 1], 2)

    def state(self) -> np.ndarray:
        return np.float32(self.x)

    def see(self, agent: str) -> Any:
        return np.ones(1 if agent == "a_0" else 2, np.float32)

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        return float(self.x[int(agent == "b_0")] + actions[agent])


HIDDEN = Probe(
    Hidden,
    tuple(
        Known(agent, np.ones(1 + i, np.float32), x[i] + 1.0, 1, state=np.float32(x))
        for i, agent in enumerate(("a_0", "b_0"))
        for x in ((-1, -1), (-1, 1), (1, -1), (1, 1))
    ),
    tolerance=0.25,
    env_steps=9600,
)
CENTRAL_PROBES = {"other's observation": TOGETHER, "global state": HIDDEN}

PROBES: dict[str, Probe] = {
    "one step": ONE_STEP,
    "discount": TWO_STEPS,
    "truncation": TIME_LIMIT,
    "own reward": OWN_REWARD,
    "unequal spaces": UNEQUAL_SPACES,
    "continuous": CONTINUOUS,
    "continuous bound": BOUND,
    "masked": MASKED,
    "composite": COMPOSITE,
    "early death": EARLY_DEATH,
    "late join": LATE_JOIN,
    "turn-based": TURN_BASED,
    "dict observation": DICT_OBSERVATION,
}


class CutsAreDeaths(TimeLimit):
    """Broken: done is taken for terminated."""

    def cut(self, agent: str) -> bool:
        return False


class DeathsAreCuts(EarlyDeath):
    """Broken: a death is taken for a time limit."""

    truncates = True


class MoverSignFlipped(TurnBased):
    """Broken: the reward of the player that has just moved has the wrong sign."""

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        reward = super().pay(agent, actions)
        return -reward if agent == f"p_{self.t}" else reward


class OnlyTheMoverIsPaid(TurnBased):
    """Broken: what is paid to a player that waits gets lost."""

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        return super().pay(agent, actions) if agent == f"p_{self.t}" else 0.0


class RewardsAreShared(OwnReward):
    """Broken: all agents get the team's mean reward."""

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        both = [super(RewardsAreShared, self).pay(a, actions) for a in self.possible_agents]
        return sum(both) / 2


BROKEN: dict[str, tuple[str, Callable[[], ParallelEnv]]] = {
    "done for terminated": ("truncation", CutsAreDeaths),
    "terminated for done": ("early death", DeathsAreCuts),
    "sign of the mover": ("turn-based", MoverSignFlipped),
    "loser not paid": ("turn-based", OnlyTheMoverIsPaid),
    "shared reward": ("own reward", RewardsAreShared),
}
