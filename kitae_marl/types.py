"""Shared types: what flows between environments, algorithms and loops.

Axis letters, used in every shape of the package: ``T`` time, ``E`` environment, ``A`` agent of a
group, ``B`` row of a minibatch, ``K`` anything else that is stated beside it. This module imports
no JAX.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import gymnasium as gym

if TYPE_CHECKING:
    from kitae_envs.teams import Tally

    from kitae_marl.config.run import Config

AgentPyTree: TypeAlias = dict[str, Any]
"""Values by agent name: arrays ``[E, ...]`` or nested dicts or tuples of them."""


Policy: TypeAlias = Callable[[AgentPyTree, Mapping[str, Any]], AgentPyTree]
"""``(observations, infos) -> actions`` by agent, arrays ``[E, ...]``; ``Agent.select_action``."""


class AlgoType(enum.Enum):
    """Whether an algorithm learns from its newest rollout alone or from a replay of old ones."""

    ON_POLICY = "on_policy"
    OFF_POLICY = "off_policy"


@dataclass(frozen=True)
class GroupSpec:
    """Agents that are stacked together: equal spaces, one network each or one for all.

    Attributes:
        name: name of the group, the common stem of its agents' names.
        agents: its agents, in the game's order; axis ``A`` of every stacked array.
        observation_space: the space that each of them observes.
        action_space: the space that each of them acts in.
        share_params: one set of parameters for all (True) or one for each agent.
        state_space: space of the global state that the critic sees; None: it sees observations.
    """

    name: str
    agents: tuple[str, ...]
    observation_space: gym.Space
    action_space: gym.Space
    share_params: bool = True
    state_space: gym.Space | None = None

    @property
    def n_agents(self) -> int:
        """Number of agents in the group."""
        return len(self.agents)

    def __hash__(self) -> int:
        return hash((self.name, self.agents, self.share_params))


class Experience(NamedTuple):
    """What a rollout stores, every field ``{group: [T, E, A, ...]}``; an unused field is ``()``.

    Attributes:
        observation: what the agents saw, action masks left out.
        action: what the policy sampled and the environment got.
        reward: reward of the step, also for agents that did not act.
        terminated: the agent's episode ended in this step by the rules of the game.
        truncated: the agent's episode was cut in this step, for instance by a time limit.
        next_observation: the true next observation, at the end of an episode the final one.
        extras: what the algorithm stores beside ``action``; PPO its log-probability.
        action_mask: which actions were allowed, ``[T, E, A, K]``; ``()`` for games without masks.
        active: the agent was alive and to act; other rows never enter a loss or a statistic.
        next_active: whether the agent is to act on the observation that follows.
        state: global state, ``[T, E, ...]`` without group and agent axis.
        next_state: the true next global state.
        carry: memory of recurrent policies before the row; where ``reset``, not yet emptied.
        reset: ``[T, E]`` without group, the row is the first of an episode.
        next_reset: ``[T, E]``, the row that follows is the first of another episode.
    """

    observation: Any = ()
    action: Any = ()
    reward: Any = ()
    terminated: Any = ()
    truncated: Any = ()
    next_observation: Any = ()
    extras: Any = ()
    action_mask: Any = ()
    active: Any = ()
    next_active: Any = ()
    state: Any = ()
    next_state: Any = ()
    carry: Any = ()
    reset: Any = ()
    next_reset: Any = ()


class TrainState(NamedTuple):
    """What learning changes, of one group; with independent parameters every leaf has axis 0 = A.

    Attributes:
        params: ``{"actor": ..., "critic": ...}``; acting reads ``"actor"`` alone.
        opt_state: state of the optimiser.
        n_updates: updates done so far, an int32 scalar.
        critic_carry: memory of a recurrent critic after the last rollout, ``[E, A, ...]`` where
            parameters are shared, else ``[A, E, ...]``.
        moments: running statistics by name, those in use: ``"observation"``, which acting reads,
            ``"state"`` and ``"target"``.
        actors: parameters of further actors by name, those in use: ``"magnet"``, which the policy
            is held near, and ``"average"``, the mean of what the actor was.
    """

    params: Any
    opt_state: Any
    n_updates: Any
    critic_carry: Any = ()
    moments: Any = ()
    actors: Any = ()


def _whole(state: Any) -> Any:
    """Return the state: acting may read all of it."""
    return state


class Algorithm(NamedTuple):
    """A learning algorithm: a record of factories of pure, jittable functions over all groups.

    Each factory takes ``(groups, config)``, the tuple of GroupSpec and the run's Config, of which
    ``config.learner`` holds the algorithm's own settings; what it makes is said below. A state is
    any pytree: parameters, optimiser, target networks, statistics, and the replay where there is
    one, so that a checkpoint of the state is all that a continuation needs. Drivers ask nothing
    else: they collect ``config.learner.n_steps`` joint steps by ``explore`` and call ``learn``.

    ``kitae_marl.register`` makes one known by its name.

    Attributes:
        name: registry name, as in ``--algo``.
        algo_type: whether it learns from its newest rollout alone or from a replay.
        settings: the class of its settings, derived from ``kitae_marl.LearnerConfig``.
        carry: makes ``carry(n_envs)``, the memory of ``explore`` before the first step,
            ``{group: [E, A, ...]}``; ``()`` for policies without memory.
        train_state: makes ``train_state(key) -> state``, all that learning changes.
        explore: makes ``explore(state, key, observation, action_mask, carry) -> (action, extras,
            carry)``; arrays ``{group: [E, A, ...]}``. ``extras``, ``{group: ...}`` or ``()``, is
            what the algorithm wants stored beside the action; it comes back in the Experience. Who
            drives it empties the memory at the start of episodes and keeps that of agents that
            wait (``data.lifting.remember``).
        select: makes ``select(state, observation, action_mask, carry) -> (action, carry)``, the
            action to play when not learning.
        learn: makes ``learn(state, key, experience) -> (state, metrics)``, one update from the
            newest ``n_steps`` joint steps, an Experience ``[T, E, A, ...]``; metrics are scalars
            by name. Where the new state is not finite the driver keeps the old one.
        acting: ``acting(state) -> state``, the part of a state that ``explore`` and ``select``
            read; the fewer arrays, the faster a call.
        central: whether it learns from the game's global state, where the game has one.
        probabilities: makes ``probabilities(state, observation, action_mask, carry) -> (by group,
            carry)``, ``[E, A, K]``: how probable ``explore`` takes each action, where all action
            spaces are Discrete; None: it cannot say.
        export: ``export(group, config, state) -> (about, arrays)``, the policy of one group for
            play without JAX; None: its policies cannot be exported.
        sample: makes ``sample(state, key, observation, action_mask, carry) -> (action, carry)``,
            varied actions to play when not learning; None: those of ``explore``.
        judge: makes ``judge(state, observation, action_mask) -> (probabilities, value)``, ``{group:
            [E, A, n]}`` and ``{group: [E, A]}``: what it thinks before it plays, for people to see,
            of Discrete actions; None: what it exports says it.
    """

    name: str
    algo_type: AlgoType
    settings: type[Any]
    carry: Callable[..., Any]
    train_state: Callable[..., Any]
    explore: Callable[..., Any]
    select: Callable[..., Any]
    learn: Callable[..., Any]
    acting: Callable[[Any], Any] = _whole
    average: Callable[[Any], Any] | None = None
    central: bool = False
    probabilities: Callable[..., Any] | None = None
    export: Callable[..., Any] | None = None
    sample: Callable[..., Any] | None = None
    judge: Callable[..., Any] | None = None

    def sampling(self, groups: Any, config: Any) -> Callable[..., Any]:
        """Make ``sample``, of ``explore`` where the algorithm has none of its own."""
        if self.sample is not None:
            return self.sample(groups, config)
        explore = self.explore(groups, config)

        def sample(*inputs: Any) -> tuple[Any, Any]:
            action, _, carry = explore(*inputs)  # nothing is learned from what it samples
            return action, carry

        return sample


class AgentSpaces(Protocol):
    """Agents and their spaces, which is all that making an agent reads of an environment.

    PettingZoo's ``ParallelEnv`` and every vector of ours are such.
    """

    possible_agents: list[str]

    def observation_space(self, agent: str) -> gym.Space:
        """Space of one agent's observation in one environment."""
        ...

    def action_space(self, agent: str) -> gym.Space:
        """Space of one agent's action in one environment."""
        ...


@runtime_checkable
class Closing(Protocol):
    """What can be closed, such as an environment."""

    def close(self) -> Any:
        """Close it."""
        ...


@runtime_checkable
class Writer(Protocol):
    """Where scalars go: a tensorboardX ``SummaryWriter``, or the run's logger."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any:
        """Record one value at one step (environment steps, all environments together)."""
        ...


@runtime_checkable
class FlushesSteps(Protocol):
    """A writer that is told when all values of a step have come."""

    def flush_step(self, global_step: int) -> Any:
        """End the row of one step."""
        ...


@runtime_checkable
class RunWriter(Writer, Protocol):
    """A writer that puts one row together for each update; the run's logger is one."""

    def add_mean(self, tag: str, mean: float, count: int) -> None:
        """Record the mean of ``count`` values as if they had been added one by one."""
        ...

    def flush_step(self, global_step: int) -> dict[str, float]:
        """Write the means of what was recorded since the last call; return them by tag."""
        ...

    def tell(self, text: str) -> None:
        """Show the user one line, where progress is shown."""
        ...


@runtime_checkable
class LeavesOut(Protocol):
    """A writer that measures speed, and leaves out of it what is done but once."""

    def leave_out(self, seconds: float) -> None:
        """Leave time that was spent on compiling out of speeds and of what they foretell."""
        ...


class Checkpointer(Protocol):
    """Keeps the state of a run. ``save`` is called after every update that was not skipped; of
    compiled games between two chunks of updates.
    """

    def save(self, step: int, agent: Any) -> Any:
        """Save if due; ``step`` is the joint step just finished."""
        ...


class Seating(NamedTuple):
    """Who plays in which environment.

    Attributes:
        names: opponent in each environment ``[E]``; empty where the learner plays all seats.
        team: number of the learner's team, int32 ``[E]``; -1 where it plays all seats.
        states: acting states of members of the pool, one for each of its slots.
    """

    names: list[str]
    team: Any
    states: list[Any]


class Result(NamedTuple):
    """Games of one environment, or of some, against one opponent; see ``runs.store.league.Games``.

    Attributes:
        opponent: its name.
        team: number of the learner's team.
        tally: what came of them, numbers.
    """

    opponent: str
    team: int
    tally: Tally


class Table(Protocol):
    """Environments at which a learner meets opponents, as each driver has them.

    Attributes:
        goes_on: whether games go on that were running when a checkpoint was saved.
    """

    goes_on: bool

    def results(self) -> list[Result]:
        """Return what came of the games since this was asked last."""
        ...

    def sit(self, seating: Seating) -> bool:
        """Say who sits where in the games that go on; return whether they were played so."""
        ...

    def seat(self, seating: Seating) -> None:
        """Give opponents their seats from here on; their games begin."""
        ...


class Opposition(Protocol):
    """Who plays against a learner while it is trained: called by the loops between updates."""

    def keep(self, path: Any, checkpointer: Any, logger: Any, *, exact: bool = False) -> None:
        """Say where games and snapshots are kept (None: nowhere), and who is told of them.

        With ``exact`` the run goes on to the last bit, or not at all.
        """
        ...

    def begin(self, step: int, agent: Any, table: Table) -> None:
        """Seat opponents before the first step after the joint step ``step``."""
        ...

    def until_due(self, step: int) -> int:
        """Return the joint steps until :meth:`after` is to be called; at least 1."""
        ...

    def after(self, step: int, agent: Any, table: Table) -> None:
        """Count games, take snapshots and seat opponents anew where that is due."""
        ...

    def end(self, step: int, agent: Any, table: Table) -> None:
        """Count the games since the last time; training ends here."""
        ...


@runtime_checkable
class Opposed(Protocol):
    """Environments in which a learner meets opponents; those of the host are a Table, too.

    Attributes:
        opposition: who plays there; None: nobody is seated by the loop.
    """

    opposition: Opposition | None


def opposition_of(env: Any) -> Opposition | None:
    """Return who plays against a learner in environments; None: nobody."""
    return env.opposition if isinstance(env, Opposed) else None


class Buffer(Protocol):
    """Where the loop on the host stores what it collects; ``RolloutBuffer`` is one."""

    @property
    def full(self) -> bool:
        """Whether no further step fits."""
        ...

    def begin(self, before: Experience) -> None:
        """Copy what is known of a joint step before the environment makes it."""
        ...

    def finish(self, after: Experience) -> None:
        """Copy what came of the step that was begun."""
        ...

    def experience(self) -> Experience:
        """Return what is stored, arrays ``[T, E, A, ...]``."""
        ...

    def clear(self) -> None:
        """Forget what is stored."""
        ...


@runtime_checkable
class IAgent(Protocol):
    """What ``vectorized_train`` needs of an agent; all values by agent name.

    Attributes:
        groups: how the agents are stacked in the buffer.

    An agent may also be :class:`Recurrent` or :class:`Stoppable`.
    """

    groups: tuple[GroupSpec, ...]

    def explore(
        self, observations: AgentPyTree, infos: Mapping[str, Any]
    ) -> tuple[AgentPyTree, AgentPyTree]:
        """Sample ``(actions, extras)``; the actions may go to the environment as they are.

        Extras are what the agent wants stored beside the actions, ``{}`` for nothing.
        """
        ...

    def select_action(self, observations: AgentPyTree, infos: Mapping[str, Any]) -> AgentPyTree:
        """Return the actions to play when not learning."""
        ...

    def make_buffer(self, n_envs: int) -> Any:
        """Return an empty :class:`Buffer` for the experience of ``n_envs`` environments."""
        ...

    def should_update(self, step: int, buffer: Any) -> bool:
        """Whether to update after the joint step ``step``."""
        ...

    def update(self, buffer: Any) -> dict[str, float]:
        """Learn from the buffer and empty it; return the metrics by name."""
        ...


@runtime_checkable
class Recurrent(Protocol):
    """An agent with a memory: ``carry`` is that before the next step, ``{group: [E, A, ...]}``."""

    carry: Any


@runtime_checkable
class Stoppable(Protocol):
    """An agent that can ask for the end of its training: ``stopping`` is then not 0."""

    stopping: int


@runtime_checkable
class HasAlgorithm(Protocol):
    """An agent that runs an :class:`Algorithm` of ours or of a user."""

    algorithm: Algorithm


@runtime_checkable
class LearnsInside(Protocol):
    """An agent that can learn inside XLA, together with the games, and takes over what comes of it.

    This alone tells such an agent; the compiled loop then asks of it all of :class:`Run`.
    """

    def learned(self, state: Any, step: int, game: Any) -> None:
        """Take over what was learned: the state after ``step`` joint steps, and the games."""
        ...


class Run(IAgent, HasAlgorithm, LearnsInside, Recurrent, Stoppable, Protocol):
    """An agent whose run can be kept and gone on with: what sessions and the compiled loop use.

    Attributes:
        config: settings of the run.
        possible_agents: all agents, in the game's order.
        groups: how they are stacked and who shares parameters.
        algorithm: the record of pure functions it runs.
        root_key: the key that every other one is derived from.
        state: what learning changes, any pytree.
        state_shapes: the same, arrays replaced by their shapes and dtypes.
        step: joint steps explored.
        learned_step: joint steps learned from, those of the last update.
        env_steps: environment steps learned from.
        origin: whose networks it began with, as JSON; None: its own.
    """

    config: Config
    possible_agents: list[str]
    groups: tuple[GroupSpec, ...]
    algorithm: Algorithm
    step: int
    learned_step: int
    origin: dict[str, Any] | None

    @property
    def root_key(self) -> Any: ...
    @property
    def env_steps(self) -> int: ...
    @property
    def state(self) -> Any: ...
    @property
    def state_shapes(self) -> Any: ...

    def begin_to_draw(self) -> None:
        """Begin to compile what draws the first parameters."""
        ...

    def draw_like(self, other: Any) -> None:
        """Draw the first parameters by the program of another agent."""
        ...

    def count_anew(self) -> None:
        """Go over to joint steps of the config's width, before training with it."""
        ...

    def require_n_envs(self, n_envs: int) -> None:
        """Raise a ValueError unless the run is one of so many environments."""
        ...

    def run_state(self) -> Any:
        """Return all that a continuation needs."""
        ...

    def saved_game(self, template: Any) -> Any:
        """Return the games of the checkpoint that the agent was loaded from; None: begin new ones.

        ``template`` is a pytree of the same structure, shapes and dtypes.
        """
        ...

    def load_checkpoint(
        self, run_dir: Any, step: int | Literal["best"] | None = None
    ) -> dict[str, Any]:
        """Take over a checkpoint; return what it says of itself."""
        ...
