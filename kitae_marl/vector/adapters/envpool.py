"""This file makes vectors of parallel environments of EnvPool's, single- and multi-player.

``envpool`` imports JAX and takes seconds to load, so it is imported when a pool is made.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from kitae_marl.errors import UnknownEnvironmentError
from kitae_marl.vector.adapters.foreign import ForeignStep, ForeignVecEnv
from kitae_marl.vector.adapters.gymnasium import AGENT
from kitae_marl.vector.ids import nearest_ids
from kitae_marl.vector.options import n_cores

logger = logging.getLogger("kitae_marl.vector")


class EnvPoolVecParallelEnv(ForeignVecEnv):
    """An EnvPool as a vector of parallel environments.

    A single-player game has the agent ``agent_0``, a game of P players ``player_0`` to
    ``player_{P-1}``. Where the pool says whose turn it is, only that player is active. Finished
    environments are reset by the step after the one that ends an episode: then nobody is active
    beside the last observation, and the action is ignored.

    Args:
        pool: a pool made by ``envpool.make_gymnasium`` whose batch is all of its environments.
        remake: makes the same pool with another seed. Without it a pool keeps the seed that it
            was made with, and ``reset(seed)`` only says so in the log.

    Raises:
        TypeError: if the pool has another interface than Gymnasium's.
        ValueError: if it is asynchronous, or its games change their number of players.
    """

    def __init__(self, pool: Any, remake: Callable[[int], Any] | None = None) -> None:
        if not hasattr(pool, "single_observation_space"):
            raise TypeError(
                f"expected an EnvPool with Gymnasium's interface, got {type(pool).__name__}; make "
                "it by envpool.make_gymnasium."
            )
        if pool.is_async:
            raise ValueError(
                "expected a pool that steps all its environments together, got one with batch_size "
                f"{pool.config['batch_size']} of {pool.config['num_envs']}; leave batch_size out."
            )
        self.pool, self._remake = pool, remake
        self._players = int(pool.config.get("max_num_players", 1))
        agents = [AGENT] if self._players == 1 else [f"player_{i}" for i in range(self._players)]
        super().__init__(
            agents,
            int(pool.config["num_envs"]),
            pool.single_observation_space,
            pool.single_action_space,
            {"name": type(pool).__name__},
        )
        self._ending = np.zeros(self.num_envs, np.bool_)
        self._mover: np.ndarray | None = None

    def _reset(self, seed: int | None, options: dict[str, Any] | None) -> ForeignStep:
        self._refuse_options(options)
        if seed is not None and self._remake is not None:
            self.pool.close()
            self.pool = self._remake(seed)
        elif seed is not None:
            logger.info("an EnvPool keeps the seed it was made with; reset(seed=%d) ignored", seed)
        observation, info = self.pool.reset()
        no = np.zeros(self.num_envs, np.bool_)
        self._ending = no.copy()
        return self._outcome(observation, np.zeros(self.num_envs * self._players), no, no, no, info)

    def _send(self, actions: np.ndarray) -> None:
        if self._mover is not None:  # a turn-based game takes the mover's action alone
            chosen = actions[np.arange(self.num_envs), self._mover]
        else:
            chosen = actions.reshape(self.num_envs * self._players, *actions.shape[2:])
        self.pool.send(np.ascontiguousarray(chosen))

    def _receive(self) -> ForeignStep:
        observation, reward, terminated, truncated, info = self.pool.recv()
        order = np.argsort(np.asarray(info["env_id"]), kind="stable")
        terminated = np.asarray(terminated, bool)[order]
        truncated = np.asarray(truncated, bool)[order] & ~terminated
        fresh, self._ending = self._ending, terminated | truncated
        return self._outcome(observation, reward, terminated, truncated, fresh, info)

    def _frame(self, env_index: int) -> Any:
        return self.pool.render(env_ids=[env_index])[0]

    def _close(self) -> None:
        self.pool.close()

    def _outcome(
        self,
        observation: Any,
        reward: Any,
        terminated: np.ndarray,
        truncated: np.ndarray,
        fresh: np.ndarray,
        info: dict[str, Any],
    ) -> ForeignStep:
        """Bring the rows of environments and players into order."""
        shape = (self.num_envs, self._players)
        envs = np.argsort(np.asarray(info["env_id"]), kind="stable")
        rows = self._player_rows(info, envs)
        stacked = self._as_declared([array[rows] for array in self._flat(observation)], shape)
        active = np.repeat(~self._ending[:, None], self._players, axis=1)
        if "current_player" in info and self._players > 1:
            self._mover = np.asarray(info["current_player"])[envs].clip(0, self._players - 1)
            active &= self._mover[:, None] == np.arange(self._players)
        mask = self._mask(info, envs)
        reward = np.asarray(reward, np.float64)[rows].reshape(shape)
        return ForeignStep(stacked, reward, terminated, truncated, fresh, active, mask)

    def _player_rows(self, info: dict[str, Any], envs: np.ndarray) -> np.ndarray:
        """The order of rows that sorts them by environment, and by player in each."""
        if self._players == 1:
            return envs
        players = info["players"]
        env_of_row = np.asarray(players["env_id"])
        if len(env_of_row) != self.num_envs * self._players:
            raise ValueError(
                f"expected {self._players} players in each of {self.num_envs} environments, got "
                f"{len(env_of_row)} rows; pools whose number of players changes are not supported."
            )
        number = np.asarray(players["id"]) if "id" in players else np.arange(len(env_of_row))
        return np.lexsort((number, env_of_row))

    def _mask(self, info: dict[str, Any], envs: np.ndarray) -> np.ndarray | None:
        """Action masks ``[E, N, n]``, of the player to move in a turn-based game."""
        mask = info.get("legal_action_mask", info.get("action_mask"))
        if mask is None or np.shape(mask)[0] != self.num_envs or np.ndim(mask) != 2:
            return None
        return np.repeat(np.asarray(mask, np.int8)[envs][:, None], self._players, axis=1)


def envpool_as_parallel(pool: Any) -> EnvPoolVecParallelEnv:
    """Adapt a pool that the user made."""
    return EnvPoolVecParallelEnv(pool)


def make_envpool(
    name: str, n_envs: int, *, n_workers: int | None = None, seed: int = 0, **kwargs: Any
) -> EnvPoolVecParallelEnv:
    """Make a pool by EnvPool's own id.

    Args:
        name: EnvPool's id, ``CartPole-v1``.
        n_envs: number of environments.
        n_workers: threads that step them; by default one per core.
        seed: seed until ``reset`` is given one.
        **kwargs: further options of the pool.

    Raises:
        ImportError: if envpool is not installed.
        UnknownEnvironmentError: if it has no such id; the message names the nearest.
    """
    envpool: Any = importlib.import_module("envpool")  # an extra

    ids = tuple(envpool.list_all_envs())
    if name not in ids:
        near = [f"envpool:{id}" for id in nearest_ids(name, ids)]
        raise UnknownEnvironmentError(
            f"EnvPool has no environment {name!r}; "
            + (f"did you mean {' or '.join(map(repr, near))}?" if near else "no id is near.")
        )
    threads = n_workers or min(n_envs, n_cores())

    def remake(seed: int) -> Any:
        return envpool.make_gymnasium(
            name, **{"num_envs": n_envs, "num_threads": threads, "seed": seed, **kwargs}
        )

    return EnvPoolVecParallelEnv(remake(seed), remake)
