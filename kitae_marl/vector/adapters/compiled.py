"""This file is the vector of compiled games: one jitted call steps every environment."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from kitae_marl.data.groups import group_specs
from kitae_marl.data.spaces import zeros
from kitae_marl.data.stacking import AgentDict, map_leaves
from kitae_marl.types import GroupSpec
from kitae_marl.vector.adapters.compiled_games import make_game
from kitae_marl.vector.protocol import OwnVector, Seeds, Step, require_n_envs
from kitae_marl.vector.stepping.dicts import ActionWriter

if TYPE_CHECKING:
    from kitae_envs.core import Game, TimeStep


class CompiledVecParallelEnv(OwnVector):
    """Many copies of one compiled game, stepped by one call of one program.

    It speaks the protocol of :class:`kitae_marl.VecParallelEnv`. Training that is given
    one of these may step ``game`` inside its own program instead; with the same seed both see the
    same games. Arrays that ``reset`` and ``step`` return are read-only and stay as they are.

    What chance does in an environment depends on the seed and on the number of the environment, not
    on ``n_envs``. It is drawn at joint step t by ``key_for(jax.random.key(seed), ENVIRONMENT, t)``,
    t being 0 at the reset.

    Args:
        game: the game, or the id of one.
        n_envs: number of environments.
        with_state: deliver ``final_state``; None: where the game has one.
        **kwargs: arguments of the game, where an id is given.

    Attributes:
        game: the game.
        num_envs: number of environments.
        possible_agents: all agents, in the game's order.
        groups: agents with equal spaces, stacked together.
        metadata: name, render modes and frames per second.
        with_state: whether ``final_state`` is delivered.
        closed: whether ``close`` was called.

    Raises:
        TypeError: for what is neither a game nor an id.
        ValueError: if ``n_envs`` is below one, the game has no ``state`` to deliver, or it does not
            return what its spaces say.
    """

    def __init__(
        self, game: Game | str, n_envs: int, *, with_state: bool | None = False, **kwargs: Any
    ) -> None:
        import jax
        from kitae_envs.checking import require_game, require_sound
        from kitae_envs.core import reset_batch, step_batch

        require_n_envs(n_envs)
        if isinstance(game, str):
            game = make_game(game, **kwargs)
        elif kwargs:
            raise TypeError(f"expected no arguments beside a built game, got {sorted(kwargs)}.")
        require_game(game)
        if with_state and game.state_space is None:
            raise ValueError("with_state=True expects a game with a state_space, got none.")
        self._game = game
        self.num_envs = n_envs
        self.possible_agents = list(game.possible_agents)
        self.groups: tuple[GroupSpec, ...] = group_specs(
            self.possible_agents, game.observation_space, game.action_space
        )
        require_sound(game)
        name = game.id.replace("-", "_").rpartition("/")[2]
        self.metadata: dict[str, Any] = {"name": name, "render_modes": ["rgb_array"]}
        self.metadata["render_fps"] = 2 if game.turn_based else 10
        self.closed = False
        self.with_state = game.state_space is not None and with_state is not False
        self._agents = {group.name: group.agents for group in self.groups}

        def advance(data: Any, key: Any, games: Any, action: Any) -> Any:
            return step_batch(game.with_data(data), key, games, action)

        self._reset = jax.jit(partial(reset_batch, game), static_argnums=1)
        self._advance = jax.jit(advance, donate_argnums=2)
        self._seeds, self._time = Seeds(n_envs), 0
        self._root: Any = None
        self._games: Any = None
        self._summary: Any = ()
        self._action = {g.name: zeros(g.action_space, n_envs, g.n_agents) for g in self.groups}
        self._active = {g.name: np.zeros((n_envs, g.n_agents), np.bool_) for g in self.groups}
        self._writer = ActionWriter(self.groups, self._action, self._active)
        self._stepping = False

    # ------------------------------------------------------------ description

    @property
    def game(self) -> Game:
        """The game, which training may step inside its own program."""
        return self._game

    def observation_space(self, agent: str) -> gym.Space:
        """Return the space of one agent's observation in one environment."""
        return self.game.observation_space(agent)

    def action_space(self, agent: str) -> gym.Space:
        """Return the space of one agent's action in one environment."""
        return self.game.action_space(agent)

    @property
    def state_space(self) -> gym.Space | None:
        """Space of one environment's global state, None where the game has none."""
        return self.game.state_space

    # --------------------------------------------------------------- stepping

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[AgentDict, dict[str, Any]]:
        """Begin a new episode in every environment.

        Args:
            seed: seed of all environments together. None draws one from entropy the first time,
                and derives it from the one before afterwards.
            options: None or empty: compiled games take none.

        Returns:
            Observations and infos.

        Raises:
            ValueError: if there are options.
        """
        import jax

        self._refuse_closed()
        self._refuse_options(options)
        self._root = jax.random.key(self._seeds.next(seed))
        self._time = 0
        self._stepping = False
        self._games, step = self._reset(self._key(), self.num_envs)
        step = self._fetch(step)
        self._returns = {g: np.zeros(r.shape, np.float64) for g, r in step.reward.items()}
        self._lengths = {g: np.zeros(r.shape, np.int64) for g, r in step.reward.items()}
        self._in_game = {g: np.ones(r.shape, np.bool_) for g, r in step.reward.items()}
        infos = self._infos(step) | {"reset": np.ones(self.num_envs, np.bool_)}
        return self._split(step.observation), infos

    def _key(self) -> Any:
        """Return the key of chance at this joint step."""
        from kitae_marl.data.keys import ENVIRONMENT, key_for

        return key_for(self._root, ENVIRONMENT, self._time)

    def step_async(self, actions: Mapping[str, Any]) -> None:
        """Begin a step; see :meth:`step`."""
        self._refuse_closed()
        if self._games is None or self._stepping:
            raise RuntimeError(
                "expected reset() before the first step, and one step_wait() for each step_async()."
            )
        self._writer.write(actions)
        self._time += 1
        self._stepping = True
        # JAX may still read the arrays after this call, when the next actions are written.
        action = map_leaves(np.copy, self._action)
        self._games, self._pending = self._advance(
            self._game.data, self._key(), self._games, action
        )

    def step_wait(self) -> Step:
        """End the step that :meth:`step_async` began."""
        self._refuse_closed()
        if not self._stepping:
            raise RuntimeError("expected step_async() before step_wait().")
        self._stepping = False
        step = self._fetch(self._pending)
        for name in self._returns:
            self._returns[name] += step.reward[name]
            self._lengths[name] += self._in_game[name]
            self._in_game[name] &= ~(step.terminated[name] | step.truncated[name])
        infos = self._infos(step)
        return (
            self._split(step.observation),
            self._split({g: r.astype(np.float64) for g, r in step.reward.items()}),
            self._split(step.terminated),
            self._split(step.truncated),
            infos,
        )

    def _fetch(self, step: TimeStep) -> TimeStep:
        """Bring a TimeStep to the host; from now on its agents are the ones to act."""
        import jax

        step = jax.device_get(step)
        self._summary = step.state
        for name, active in self._active.items():
            active[...] = step.active[name]
        return step

    def _split(self, by_group: Mapping[str, Any]) -> AgentDict:
        """Turn ``{group: [E, A, ...]}`` into ``{agent: [E, ...]}`` in the game's order."""
        return AgentDict({name: by_group[name] for name in self._agents}, self._agents)

    def _infos(self, step: TimeStep) -> dict[str, Any]:
        """Assemble the infos of one step."""
        infos: dict[str, Any] = {"active": self._split(step.active)}
        masks = {g: step.action_mask[g] for g in self._agents}
        masks = {g: mask for g, mask in masks.items() if not isinstance(mask, tuple)}
        if masks:
            infos["action_mask"] = AgentDict(masks, self._agents)
        if not step.over.any():
            return infos
        infos["_final_observation"] = step.over.copy()
        infos["final_observation"] = self._split(step.next_observation)
        if self.with_state:
            infos["final_state"] = step.next_state
        infos["_episode"] = step.over.copy()
        infos["episode"] = {
            "return": self._split({g: r.copy() for g, r in self._returns.items()}),
            "length": self._split({g: n.copy() for g, n in self._lengths.items()}),
        }
        for name in self._returns:
            self._returns[name][step.over] = 0
            self._lengths[name][step.over] = 0
            self._in_game[name][step.over] = True
        return infos

    # ------------------------------------------------------------------- rest

    def state(self) -> np.ndarray:
        """Return the global states ``[E, ...]``.

        Raises:
            RuntimeError: if the game has none, or before the first reset.
        """
        self._refuse_closed()
        if isinstance(self._summary, tuple):
            raise RuntimeError("expected a game with a global state that was reset, got none.")
        return self._summary

    def render(self, env_index: int = 0) -> np.ndarray:
        """Return a frame ``[H, W, 3]`` of one environment."""
        import jax

        self._refuse_closed()
        return self.game.frame(jax.tree.map(lambda leaf: np.asarray(leaf[env_index]), self._games))

    def close(self) -> None:
        """Forget the games; calling it again does nothing."""
        self.closed = True
        self._games = None
