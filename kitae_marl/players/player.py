"""This file is for what chooses actions with given parameters, in training and in play."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import jax
import numpy as np
from gymnasium.spaces import Discrete

from kitae_marl.algos import get_algorithm, require_sound
from kitae_marl.config.run import Config
from kitae_marl.data.keys import EVALUATE, EXPLORE, key_for
from kitae_marl.data.lifting import remember
from kitae_marl.data.spaces import leaves
from kitae_marl.data.stacking import AgentDict, active_agents, map_leaves, split_masks, starts
from kitae_marl.players.single import Single
from kitae_marl.types import AgentPyTree, GroupSpec, TrainState

KEYS_AHEAD = 256
"""Keys derived in one call: deriving one inside each policy call costs a third of that call."""
_NO_KEYS = np.zeros((0, 2), np.uint32)


class Player:
    """The policies of all agents, with a memory of their own; it learns nothing.

    It speaks dicts keyed by agent, ``{agent: [E, ...]}``, and serves any number of environments.

    Args:
        possible_agents: all agents, in the game's order.
        groups: how they are stacked and who shares parameters.
        config: settings of the run.
        root_key: the key that what it samples is derived from.

    Attributes:
        algorithm: the record of pure functions it runs.
        first_carry: ``first_carry(n_envs)``, memory before the first step.
        memory: of what ``select_action`` has seen, ``{group: [E, A, ...]}``; ``()`` before.
        state: ``{group: TrainState}`` without what acting does not read.
    """

    def __init__(
        self,
        possible_agents: list[str],
        groups: tuple[GroupSpec, ...],
        config: Config,
        root_key: jax.Array,
    ) -> None:
        # One synchronous call is faster than one that is queued, at the size of a policy call.
        jax.config.update("jax_cpu_enable_async_dispatch", False)
        self.possible_agents, self.groups, self.config = possible_agents, groups, config
        self.algorithm = get_algorithm(config.algo)
        require_sound(self.algorithm, groups, config)
        self.memory: Any = ()
        self._selected = 0
        self._agents_of = {group.name: group.agents for group in groups}
        self._first_arrays = [(g.agents[0], leaves(g.observation_space)[0]) for g in groups]
        self.root_key = root_key
        self._compile()

    def _compile(self) -> None:
        """Call the algorithm's factories and jit each function, once."""
        algorithm, groups, config = self.algorithm, self.groups, self.config
        select_once = algorithm.select(groups, config)
        vary_once = algorithm.sampling(groups, config)
        explore = remember(algorithm.explore(groups, config))

        def with_key_data(function: Any) -> Any:
            def keyed(state: Any, key: np.ndarray, *inputs: Any) -> Any:
                return function(state, jax.random.wrap_key_data(jax.numpy.asarray(key)), *inputs)

            return keyed

        def keys(root: jax.Array, purpose: Any, first: Any) -> jax.Array:
            steps = first + jax.numpy.arange(KEYS_AHEAD, dtype=np.uint32)
            many = jax.vmap(lambda step: key_for(root, purpose, step))(steps)
            return jax.random.key_data(many)

        self._explore = jax.jit(with_key_data(explore))
        self._vary = jax.jit(with_key_data(remember(vary_once)))
        self._select = jax.jit(remember(select_once))
        self._without_memory = select_once, with_key_data(vary_once)
        self._keys = jax.jit(keys)
        self.first_carry = algorithm.carry(groups, config)
        self._recurrent = bool(jax.tree.leaves(jax.eval_shape(lambda: self.first_carry(1))))

    @property
    def root_key(self) -> jax.Array:
        """The key that what it samples is derived from."""
        return self._root_key

    @root_key.setter
    def root_key(self, root_key: jax.Array) -> None:
        self._root_key = root_key
        self._keys_ahead: dict[int, tuple[int, np.ndarray]] = {}

    @property
    def remembers(self) -> bool:
        """Whether what it does depends on what it saw before."""
        return self._recurrent

    @property
    def state(self) -> dict[str, TrainState]:
        """Parameters of the actors, and running statistics of observations."""
        return self._state

    @state.setter
    def state(self, state: dict[str, TrainState]) -> None:
        self._state = self.algorithm.acting(state)

    def explore(
        self, step: int, carry: Any, observations: AgentPyTree, infos: Mapping[str, Any]
    ) -> tuple[AgentDict, AgentDict, Any]:
        """Sample actions to learn from, all agents of all environments in one compiled call.

        Args:
            step: joint steps done.
            carry: memory before, ``{group: [E, A, ...]}``; ``()``: none yet.
            observations: ``{agent: [E, ...]}``; they have been read when the call returns.
            infos: as the environment returned them with the observations.

        Returns:
            ``(actions, extras, carry)``, the first two NumPy arrays by agent; extras may be ().
        """
        features, masks = split_masks(observations, infos, self.groups)
        key = self._key(EXPLORE, step)
        memory = self._memory(carry, features, infos)
        action, extras, carry = self._explore(self._state, key, features, masks, *memory)
        return self._by_agent(action), self._by_agent(extras), carry

    def select_action(
        self,
        observations: AgentPyTree,
        infos: Mapping[str, Any] | None = None,
        *,
        sample: bool = False,
    ) -> AgentDict:
        """Choose actions to play: the most probable ones, or sampled ones with ``sample``.

        Args:
            observations: ``{agent: [E, ...]}``.
            infos: as the environment returned them with the observations; read for action masks,
                who is active, and where an episode has begun: there memory begins anew, as it does
                when the number of environments changes.
            sample: sample, as in training.

        Raises:
            ValueError: for observations of a single environment, without an axis of environments.
        """
        infos = infos or {}
        self._require_environments(observations)
        features, masks = split_masks(observations, infos, self.groups)
        inputs = features, masks, *self._memory(self.memory, features, infos)
        if sample:
            step, self._selected = self._selected, self._selected + 1
            stacked, self.memory = self._vary(self._state, self._key(EVALUATE, step), *inputs)
        else:
            stacked, self.memory = self._select(self._state, *inputs)
        return self._by_agent(stacked)

    def probabilities(
        self, observations: AgentPyTree, infos: Mapping[str, Any] | None = None
    ) -> AgentDict:
        """Return how probable each action is, as sampled in training, ``{agent: [E, K]}``.

        Memory advances as by :meth:`select_action`, which says what the arguments are.

        Raises:
            ValueError: if actions are not Discrete or the algorithm cannot say it; for observations
                of a single environment, without an axis of environments.

        Example:
            >>> from kitae_marl import Agent, Config, make_vec_env
            >>> env = make_vec_env("gymnasium:CartPole-v1", 2, n_workers=0)
            >>> agent = Agent(env, Config(env_id="gymnasium:CartPole-v1"))
            >>> found = agent.probabilities(*env.reset(seed=0))["agent_0"]
            >>> env.close()
            >>> found.shape, bool(np.allclose(found.sum(axis=1), 1))
            ((2, 2), True)
        """
        infos = infos or {}
        self._require_environments(observations)
        features, masks = split_masks(observations, infos, self.groups)
        memory = self._memory(self.memory, features, infos)
        stacked, self.memory = self._probabilities(self._state, features, masks, *memory)
        return self._by_agent(stacked)

    @cached_property
    def _probabilities(self) -> Callable[..., Any]:
        """What computes probabilities, made when somebody asks for them."""
        others = [g.name for g in self.groups if not isinstance(g.action_space, Discrete)]
        if others or self.algorithm.probabilities is None:
            got = f"others in {others}" if others else f"{self.algorithm.name}, which cannot say it"
            raise ValueError(
                "expected Discrete actions, and an algorithm that says how probable each of them "
                f"is, got {got}."
            )
        return jax.jit(remember(self.algorithm.probabilities(self.groups, self.config)))

    def __repr__(self) -> str:
        names = self.possible_agents
        agents = ", ".join(names[:4]) + ", ..." * (len(names) > 4)
        return f"Player({self.config.env_id}, {self.config.algo}: {agents})"

    def act(
        self,
        agent: str | int,
        observation: Any,
        mask: np.ndarray | None = None,
        *,
        sample: bool = False,
    ) -> Any:
        """Choose one action of one agent in one environment, as PettingZoo's own loop asks for it.

        Args:
            agent: its name.
            observation: nested like its observation space; a Dict may hold an ``action_mask``.
            mask: which actions it may take now, where the observation does not say so.
            sample: sample, as in training; else the most probable action.

        Returns:
            An action of the game's space: an ``int`` of a Discrete, else NumPy arrays.

        Raises:
            ValueError: for an unknown agent, and for an observation or a mask that is none of its;
                for policies with memory, which need to know where an episode begins.

        Example:
            >>> from kitae_marl import Agent, Config, make_vec_env
            >>> env = make_vec_env("gymnasium:CartPole-v1", 1, n_workers=0)
            >>> agent = Agent(env, Config(env_id="gymnasium:CartPole-v1"))
            >>> env.close()
            >>> agent.act("agent_0", [0.0, 0.0, 0.0, 0.0]) in (0, 1)
            True
        """
        if self._recurrent:
            raise ValueError(
                "expected a policy without memory (gru_size=0), got one that remembers: it must be "
                "told where an episode begins; use player = agent.player() and "
                "player.select_action({agent: observation[None], ...}, infos), with infos of reset "
                "{'reset': np.ones(1, bool)} at the first step."
            )
        key = None
        if sample:
            step, self._selected = self._selected, self._selected + 1
            key = self._key(EVALUATE, step)
        return self._single.act(self._state, agent, observation, mask, key)

    def judge(self, agent: str, observation: Any, mask: Any = None) -> tuple[np.ndarray, float]:
        """Return what an agent thinks before it plays: probabilities of its actions, and a value.

        Args and errors as for ``act``, and:

        Raises:
            ValueError: if its algorithm judges nothing (``Algorithm.judge``).
        """
        if self.algorithm.judge is None:
            raise ValueError(
                f"expected an algorithm that judges positions, got {self.config.algo}; what "
                "export_policy(agent, out) writes says probabilities and values of others."
            )
        return self._single.judge(self._state, agent, observation, mask)

    @cached_property
    def _single(self) -> Single:
        """What acts for one agent at a time, made when somebody asks for it."""
        judge = self.algorithm.judge and self.algorithm.judge(self.groups, self.config)
        return Single(self.groups, *self._without_memory, judge)

    def _require_environments(self, observations: AgentPyTree) -> None:
        """Raise a ValueError if observations are of one environment; asked at every step.

        Without this a network may take agents for numbers that they observe, without an error.
        """
        if not isinstance(observations, Mapping):
            raise ValueError(
                f"expected observations by agent, a dict, got {type(observations).__name__}."
            )
        for agent, leaf in self._first_arrays:
            try:
                shape = np.shape(leaf.of(observations.get(agent)))
            except ValueError:
                continue  # its mask may be left out, and another part missing is told by stacking
            if shape == leaf.shape and agent in observations:
                raise ValueError(
                    f"expected observations [E, ...] with an axis of environments, got shape "
                    f"{shape} of agent {agent!r}, one observation; add the environment "
                    "axis, observations[agent][None], or use Agent.act, which plays one "
                    "observation of one agent."
                )

    def player(self, *, seed: int | None = None) -> Player:
        """Return another one that plays with copies of the parameters, from the start.

        Args:
            seed: seed of what it samples; None: the same key as this one's.
        """
        other = self.with_state(jax.tree.map(jax.numpy.array, self._state))
        other.root_key = self.root_key if seed is None else jax.random.key(seed)
        return other

    def with_state(self, state: Any) -> Player:
        """Return another one that plays with other parameters, from the start."""
        other = copy.copy(self)
        other.memory, other._selected = (), 0
        other.state = state
        return other

    def with_simulations(self, simulations: int) -> Player:
        """Return another one that looks at so many positions before each move; 0: at none.

        Raises:
            ConfigError: if its algorithm does not search.
        """
        config = self.config.with_simulations(simulations)
        other = Player(self.possible_agents, self.groups, config, self.root_key)
        other.state = self._state
        return other

    def _memory(self, carry: Any, features: Any, infos: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """Return memory, where it begins anew, and for whom it advances; all () if feed-forward."""
        if not self._recurrent:
            return (), (), ()
        n_envs = jax.tree.leaves(features)[0].shape[0]
        if not carry or jax.tree.leaves(carry)[0].shape[0] != n_envs:
            carry = self.first_carry(n_envs)
        return carry, starts(infos, n_envs), active_agents(infos, self.groups, n_envs)

    def _by_agent(self, stacked: Any) -> AgentDict:
        """Fetch stacked arrays and view them by agent; fetching means the inputs have been read."""
        fetched = {name: map_leaves(np.asarray, x) for name, x in dict(stacked).items()}
        return AgentDict(fetched, self._agents_of)

    def _key(self, purpose: int, step: int) -> np.ndarray:
        """Return ``key_for(root, purpose, step)`` as data; many are derived in one call."""
        first, keys = self._keys_ahead.get(purpose, (0, _NO_KEYS))
        if not first <= step < first + len(keys):
            first, keys = step, np.asarray(self._keys(self._root_key, purpose, np.uint32(step)))
            self._keys_ahead[purpose] = first, keys
        return keys[step - first]
