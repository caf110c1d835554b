"""Shared types: what flows between environments, algorithms and loops.

Axis letters, used in every shape of the package: ``T`` time, ``E`` environment, ``A`` agent of a
group, ``B`` row of a minibatch, ``K`` anything else that is stated beside it. This module imports
no JAX.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import gymnasium as gym

AgentPyTree: TypeAlias = dict[str, Any]
"""Values by agent name: arrays ``[E, ...]`` or nested dicts or tuples of them."""

GroupPyTree: TypeAlias = dict[str, Any]
"""Values by group name: arrays ``[..., E, A, ...]`` or nested dicts or tuples of them."""


Policy: TypeAlias = Callable[[AgentPyTree, Mapping[str, Any]], AgentPyTree]
"""``(observations, infos) -> actions`` by agent, arrays ``[E, ...]``; ``Agent.select_action``."""


class AlgoType(enum.Enum):
    """Whether an algorithm learns from its newest rollout alone or from a replay of old ones."""

    ON_POLICY = "on_policy"
    OFF_POLICY = "off_policy"


class Experience(NamedTuple):
    """What a rollout stores, every field ``{group: [T, E, A, ...]}``; an unused field is ``()``.

    Attributes:
        observation: what the agents saw, action masks left out.
        action: what the policy sampled and the environment got.
        reward: reward of the step, also for agents that did not act.
        terminated: the agent's episode ended in this step by the rules of the game.
        truncated: the agent's episode was cut in this step, for instance by a time limit.
        next_observation: the true next observation, at the end of an episode the final one.
        log_prob: log-probability of ``action`` under the policy that sampled it.
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
    log_prob: Any = ()
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
    """

    params: Any
    opt_state: Any
    n_updates: Any
    critic_carry: Any = ()
    moments: Any = ()


class Algorithm(NamedTuple):
    """A learning algorithm: a name and four factories of pure, jittable functions over all groups.

    Each factory takes ``(groups, config)``, the tuple of GroupSpec and the run's Config.

    Attributes:
        name: registry name, as in ``--algo``.
        algo_type: on-policy or off-policy.
        carry_factory: makes ``carry(n_envs)``, the memory of ``explore`` before the first step,
            ``{group: [E, A, ...]}``; ``()`` for feed-forward policies.
        train_state_factory: makes ``train_state(key) -> {group: TrainState}``.
        explore_factory: makes ``explore(state, key, observation, action_mask, carry) ->
            (action, log_prob, carry)``; arrays ``{group: [E, A, ...]}``. Who drives it empties the
            memory at the start of episodes and keeps that of waiting agents (``lifting.remember``).
        process_experience_factory: makes ``process_experience(state, key, experience) ->
            processed``, what ``update_step`` reads.
        update_step_factory: makes ``update_step(state, key, processed) -> (state, info)``, where
            info maps metric names to scalars.
        select_factory: makes ``select(state, observation, action_mask, carry) ->
            (action, carry)``, the most probable action.
    """

    name: str
    algo_type: AlgoType
    carry_factory: Callable[..., Any]
    train_state_factory: Callable[..., Any]
    explore_factory: Callable[..., Any]
    process_experience_factory: Callable[..., Any]
    update_step_factory: Callable[..., Any]
    select_factory: Callable[..., Any]


class Writer(Protocol):
    """Where scalars go: a tensorboardX ``SummaryWriter``, or the run's logger."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any:
        """Record one value at one step (environment steps, all environments together)."""
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


class Checkpointer(Protocol):
    """Keeps the state of a run. ``save`` is called after every update."""

    def save(self, step: int, agent: Any) -> Any:
        """Save if due; ``step`` is the joint step just finished."""
        ...


class Buffer(Protocol):
    """Where the loop on the host stores what it collects; ``RolloutBuffer`` is one."""

    def add(self, part: Mapping[str, Any]) -> None:
        """Copy fields of the current step."""
        ...

    def advance(self) -> None:
        """Go to the next joint step."""
        ...

    def experience(self) -> Experience:
        """Return what is stored, arrays ``[T, E, A, ...]``."""
        ...

    def clear(self) -> None:
        """Forget what is stored."""
        ...

    @property
    def full(self) -> bool:
        """Whether no further step fits."""
        ...


@runtime_checkable
class IAgent(Protocol):
    """What ``vectorized_train`` needs of an agent; all values by agent name.

    Attributes:
        groups: how the agents are stacked in the buffer.

    Recurrent agents also have ``carry``, the memory before the next step, ``{group: [E, A, ...]}``.
    """

    groups: tuple[GroupSpec, ...]

    def explore(
        self, observations: AgentPyTree, infos: Mapping[str, Any]
    ) -> tuple[AgentPyTree, AgentPyTree]:
        """Sample ``(actions, log_probs)``; the actions may go to the environment as they are."""
        ...

    def select_action(self, observations: AgentPyTree, infos: Mapping[str, Any]) -> AgentPyTree:
        """Return the most probable actions."""
        ...

    def make_buffer(self, n_envs: int) -> Buffer:
        """Return an empty store for the experience of ``n_envs`` environments."""
        ...

    def should_update(self, step: int, buffer: Buffer) -> bool:
        """Whether to update after the joint step ``step``."""
        ...

    def update(self, buffer: Buffer) -> dict[str, float]:
        """Learn from the buffer and empty it; return the metrics by name."""
        ...


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
