"""Games of other packages as a :class:`~kitae_envs.core.Game`: JaxMARL's and pgx's.

They are known by their shape; neither package is imported here. ``from_pgx(pgx.make("go_9x9"))``
and ``from_jaxmarl(jaxmarl.make("MPE_simple_tag_v3"))`` build games that train, evaluate and play
like those of this package.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np

from kitae_envs.core import ByGroup, Game, Outcome, View

GROUP = "player"


def from_pgx(env: Any, *, shows_state: bool = False) -> Game:
    """Make a game of a pgx environment.

    Args:
        env: anything with pgx's ``init``, ``step``, ``observe``, ``num_players``.
        shows_state: let all agents see the arrays of pgx's state, a part ``state`` beside
            ``observation``, so that search can go on from there (``Game.state_of``); for games
            that hide nothing and have no chance after the start, such as go and othello. Games
            for two are then taken to be zero-sum, as all of pgx are.

    Returns:
        A turn-based game with agents ``player_0``, ``player_1``, ... Which of them moves first is
        pgx's choice, often a random one.

    Raises:
        TypeError: if the environment does not look like one of pgx.
    """
    _require(env, "pgx Env", ("init", "step", "observe", "num_players", "id"))
    return _PgxGame(env, shows_state)


def from_jaxmarl(env: Any, time_limit: int | None = None) -> Game:
    """Make a game of a JaxMARL environment.

    JaxMARL does not say why an episode is over. Where it is over at the time limit, that counts
    as truncation.

    Args:
        env: anything with JaxMARL's ``reset``, ``step_env``, ``agents`` and spaces.
        time_limit: steps of an episode; by default the environment's own ``max_steps``.

    Returns:
        The game, with JaxMARL's agents. It has no global state.

    Raises:
        TypeError: if the environment does not look like one of JaxMARL.
    """
    methods = ("reset", "step_env", "agents", "observation_space", "action_space")
    _require(env, "JaxMARL MultiAgentEnv", methods)
    return _JaxMarlGame(env, getattr(env, "max_steps", None) if time_limit is None else time_limit)


def _require(env: Any, kind: str, names: tuple[str, ...]) -> None:
    """Raise TypeError unless an environment has all these attributes."""
    missing = [name for name in names if not hasattr(type(env), name) and not hasattr(env, name)]
    if missing:
        raise TypeError(f"expected a {kind}, got {type(env).__name__} without {missing}.")


class _PgxGame(Game):
    """A pgx environment; its state is pgx's state."""

    turn_based = True

    def __init__(self, env: Any, shows_state: bool) -> None:
        self.env, self.perfect_information = env, shows_state
        self.zero_sum = shows_state and env.num_players == 2
        self.possible_agents = tuple(f"player_{i}" for i in range(env.num_players))
        self.id = f"pgx/{env.id}-{getattr(env, 'version', 'v0')}"  # type: ignore[misc]
        self._shape = shape = jax.eval_shape(env.init, jax.random.key(0))
        self.n_actions = shape.legal_action_mask.shape[0]
        box = _box_of(shape.observation)
        self._dtype = box.dtype
        parts = {
            "observation": box,
            "action_mask": gym.spaces.Box(0, 1, (self.n_actions,), np.int8),
        }
        if shows_state:
            parts["state"] = gym.spaces.Tuple([_box_of(leaf) for leaf in jax.tree.leaves(shape)])
        self._space = gym.spaces.Dict(parts)

    def observation_space(self, agent: str) -> gym.Space:
        return self._space

    def action_space(self, agent: str) -> gym.Space:
        return gym.spaces.Discrete(self.n_actions)

    def start(self, key: jax.Array) -> Any:
        return self.env.init(key)

    def transition(self, key: jax.Array, state: Any, action: ByGroup) -> tuple[Any, Outcome]:
        move = action[GROUP].astype(jnp.int32)[state.current_player]
        state = self.env.step(state, move, key)
        all_players = jnp.ones(len(self.possible_agents), bool)
        return state, Outcome(
            {GROUP: state.rewards.astype(jnp.float32)},
            {GROUP: all_players & state.terminated},
            {GROUP: all_players & state.truncated},
        )

    def observe(self, state: Any) -> View:
        n = len(self.possible_agents)
        with warnings.catch_warnings():
            # pgx plans to drop the argument, but without it only the mover can be shown the game
            warnings.simplefilter("ignore", DeprecationWarning)
            views = [self.env.observe(state, jnp.int32(i)) for i in range(n)]
        over = state.terminated | state.truncated
        mover = (jnp.arange(n) == state.current_player) & ~over
        mask = (mover[:, None] & state.legal_action_mask[None]).astype(jnp.int8)
        seen: dict[str, Any] = {"observation": jnp.stack(views).astype(self._dtype)}
        seen["action_mask"] = mask
        if self.perfect_information:
            arrays = map(jnp.asarray, jax.tree.leaves(state))
            arrays = (x.astype(jnp.int8) if x.dtype == bool else x for x in arrays)
            seen["state"] = tuple(jnp.broadcast_to(x, (n, *x.shape)) for x in arrays)
        return View({GROUP: seen}, {GROUP: mask}, {GROUP: mover})

    def state_of(self, observation: Any, seat: jax.Array | int) -> Any:
        """Return what all agents are shown, put together as pgx has it."""
        if not self.perfect_information:
            return super().state_of(observation, seat)
        leaves, structure = jax.tree.flatten(self._shape)
        arrays = zip(observation["state"], leaves, strict=True)
        return structure.unflatten([jnp.asarray(x).astype(leaf.dtype) for x, leaf in arrays])


def _box_of(array: Any) -> gym.spaces.Box:
    """Return the space of an array of pgx, of which only the shape and dtype are read."""
    dtype: np.dtype[Any] = np.dtype(np.int8 if array.dtype == bool else array.dtype)
    low, high = (0, 1) if array.dtype == bool else (-np.inf, np.inf)
    if dtype.kind in "iu" and array.dtype != bool:
        limits = np.iinfo(dtype.name)
        low, high = limits.min, limits.max
    return gym.spaces.Box(low, high, array.shape, dtype.type)


class _Wrapped(NamedTuple):
    """State of a JaxMARL game.

    Attributes:
        inner: JaxMARL's state.
        observation: JaxMARL's observations, by agent.
        out: bool ``[A]``, agents that are done, in the order of ``possible_agents``.
        age: int32, steps taken.
    """

    inner: Any
    observation: Any
    out: jax.Array
    age: jax.Array


class _JaxMarlGame(Game):
    """A JaxMARL environment."""

    def __init__(self, env: Any, time_limit: int | None) -> None:
        self.env = env
        self.time_limit = time_limit
        self._names = {str(agent): agent for agent in env.agents}
        self.possible_agents = tuple(self._names)
        self.id = f"jaxmarl/{getattr(env, 'name', type(env).__name__)}-v0"  # type: ignore[misc]
        self._observation_spaces = {
            a: _as_gymnasium(env.observation_space(name)) for a, name in self._names.items()
        }
        self._action_spaces = {
            a: _as_gymnasium(env.action_space(name)) for a, name in self._names.items()
        }
        self._places = {
            group: np.array([self.possible_agents.index(a) for a in agents])
            for group, agents in self.groups.items()
        }
        self._has_masks = self._find_masks()

    def observation_space(self, agent: str) -> gym.Space:
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> gym.Space:
        return self._action_spaces[agent]

    def _find_masks(self) -> bool:
        """Whether the environment says which actions are legal."""
        state = jax.eval_shape(self.start, jax.random.key(0)).inner
        try:
            masks = jax.eval_shape(self.env.get_avail_actions, state)
        except (NotImplementedError, AttributeError):
            return False
        return masks is not None

    def start(self, key: jax.Array) -> _Wrapped:
        observation, inner = self.env.reset(key)
        out = jnp.zeros(len(self.possible_agents), bool)
        return _Wrapped(inner, self._only_agents(observation), out, jnp.zeros((), jnp.int32))

    def transition(
        self, key: jax.Array, state: _Wrapped, action: ByGroup
    ) -> tuple[_Wrapped, Outcome]:
        actions = {
            self._names[agent]: action[group][i]
            for group, agents in self.groups.items()
            for i, agent in enumerate(agents)
        }
        observation, inner, rewards, dones, _ = self.env.step_env(key, state.inner, actions)
        done = jnp.stack([jnp.asarray(dones[name], bool) for name in self._names.values()])
        done = done | dones["__all__"]
        reward = jnp.stack([jnp.asarray(rewards[name]) for name in self._names.values()])
        age = state.age + 1
        late = age >= self.time_limit if self.time_limit else jnp.zeros((), bool)
        after = _Wrapped(inner, self._only_agents(observation), state.out | done, age)
        return after, Outcome(
            self._by_group(reward.astype(jnp.float32)),
            self._by_group(done & ~late),
            self._by_group(done & late),
        )

    def alive(self, state: _Wrapped) -> ByGroup:
        return self._by_group(~state.out)

    def observe(self, state: _Wrapped) -> View:
        seen, masks, active = {}, {}, self.alive(state)
        legal = self.env.get_avail_actions(state.inner) if self._has_masks else {}
        for group, agents in self.groups.items():
            rows = [state.observation[self._names[agent]] for agent in agents]
            dtype = self._observation_spaces[agents[0]].dtype
            seen[group] = jnp.stack(rows).astype(dtype)
            masks[group] = ()
            if self._has_masks:
                mask = jnp.stack([legal[self._names[agent]] for agent in agents])
                masks[group] = (mask.astype(bool) & active[group][:, None]).astype(jnp.int8)
        return View(seen, masks, active)

    def _only_agents(self, observation: Any) -> Any:
        """Leave out entries of an observation that belong to no agent, such as ``world_state``."""
        return {name: observation[name] for name in self._names.values()}

    def _by_group(self, values: jax.Array) -> ByGroup:
        """Cut ``[A]`` into groups."""
        return {group: values[places] for group, places in self._places.items()}


def _as_gymnasium(space: Any) -> gym.Space:
    """Turn a space of JaxMARL (or gymnax) into Gymnasium's."""
    if hasattr(space, "n"):
        return gym.spaces.Discrete(int(space.n))
    if all(hasattr(space, name) for name in ("low", "high", "shape")):
        dtype: np.dtype[Any] = np.dtype(getattr(space, "dtype", np.float32))
        low, high = (np.broadcast_to(bound, space.shape) for bound in (space.low, space.high))
        if dtype.kind == "f":
            return gym.spaces.Box(low.astype(dtype), high.astype(dtype), dtype=dtype.type)
        limits = np.iinfo(dtype.name)
        low, high = (np.clip(bound, limits.min, limits.max).astype(dtype) for bound in (low, high))
        return gym.spaces.Box(low, high, dtype=dtype.type)
    raise TypeError(f"expected a Discrete or Box space, got {type(space).__name__}.")
