"""This file is the vector of parallel environments in worker processes, or in this one."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from pettingzoo import ParallelEnv

from kitae_marl.data.stacking import AgentDict
from kitae_marl.types import GroupSpec
from kitae_marl.vector.options import VectorOptions
from kitae_marl.vector.protocol import OwnVector, Seeds, Step
from kitae_marl.vector.stepping.blocks import decode
from kitae_marl.vector.stepping.dicts import ActionWriter, Views
from kitae_marl.vector.workers import channel
from kitae_marl.vector.workers.answers import Inbox, fetch_states, render_one
from kitae_marl.vector.workers.pool import Pool
from kitae_marl.vector.workers.recovery import Recovery
from kitae_marl.vector.workers.start import start
from kitae_marl.vector.workers.transport import Worker

_HINTS = {
    "new": "call reset() first",
    "failed": "call reset() after an error",
    "stepping": "call step_wait() first",
    "ready": "call step_async() first",
}


class SubProcVecParallelEnv(OwnVector):
    """Many parallel environments, stepped together in worker processes.

    See :class:`kitae_marl.VecParallelEnv` for what ``reset`` and ``step`` return: live
    views that the next call overwrites. Faults of environments are logged to the logger
    ``kitae_marl.vector``. All keyword arguments are fields of
    :class:`kitae_marl.vector.options.VectorOptions`, which says what each of them does.

    What cannot be promised outside Linux: that a worker hung in the game's C code ends when the
    parent is killed with SIGKILL, and that no shared memory block stays behind then.

    Args:
        env_fns: one function per environment, each returning a PettingZoo ``ParallelEnv``; lambdas
            and closures are fine, as they are now: later changes of what they use do not count.
            With ``n_workers=0`` environments themselves, which are stepped as they are.

    Attributes:
        num_envs: number of environments.
        possible_agents: all agents, in the game's order.
        groups: agents with equal spaces, stacked together.
        metadata: the JSON-like part of the first environment's metadata.
        with_state: whether global states are delivered.
        closed: whether ``close`` was called.

    Raises:
        ValueError: if there is no environment or an option is unknown.
        TypeError: if a function cannot be pickled.
        VectorEnvError: one of its kinds, if environments cannot be made or differ in spaces.
    """

    transport: type[Worker] | None = None
    """Class of the workers, to be named by a subclass; None: processes."""

    def __init__(
        self,
        env_fns: Sequence[Callable[[], Any] | ParallelEnv[str, Any, Any]],
        *,
        n_workers: int | None = None,
        with_state: bool | None = False,
        keep_infos: bool = False,
        step_timeout: float = 60.0,
        start_timeout: float = 120.0,
        close_timeout: float = 5.0,
        max_restarts: int = 3,
        on_crash: str = "restart",
        on_exception: str = "raise",
        on_nonfinite: str = "raise",
        max_episode_steps: int | None = None,
        strict_bounds: bool = False,
        worker_env: Mapping[str, str] | None = None,
    ) -> None:
        self._options = VectorOptions(
            n_workers=n_workers,
            with_state=with_state,
            keep_infos=keep_infos,
            step_timeout=step_timeout,
            start_timeout=start_timeout,
            close_timeout=close_timeout,
            max_restarts=max_restarts,
            on_crash=on_crash,
            on_exception=on_exception,
            on_nonfinite=on_nonfinite,
            max_episode_steps=max_episode_steps,
            strict_bounds=strict_bounds,
            worker_env=dict(worker_env or {}),
        )
        self._open(env_fns)

    def _open(self, env_fns: Sequence[Callable[[], Any] | ParallelEnv[str, Any, Any]]) -> None:
        """Start the workers and lay the arrays over the memory that they share."""
        options = self._options
        self.closed = True  # until all is well
        self.num_envs = len(env_fns)
        self._pool = Pool(env_fns, options, self.transport)
        self._finalizer = weakref.finalize(self, self._pool.release_unless_forked)
        try:
            blocks, self.metadata, description = start(self._pool, options.start_timeout)
            if options.with_state and blocks.state is None:
                raise ValueError("with_state=True expects a game with a state_space, got none.")
        except BaseException:
            self._finalizer()
            raise
        self._blocks = blocks
        self._description = decode(description)
        self.possible_agents = list(self._description.agents)
        self.groups: tuple[GroupSpec, ...] = blocks.groups
        self.closed = False
        self.with_state = options.with_state is not False and blocks.state is not None
        self._views = Views(blocks, self.with_state)
        self._actions = ActionWriter(blocks.groups, blocks.action, blocks.per_group(blocks.active))
        self._inbox, self._seeds = Inbox(self.num_envs), Seeds(self.num_envs)
        self._recovery = Recovery(self._pool, blocks, self._views, options, self._inbox.read)
        self._n_steps, self._state = 0, "new"

    def observation_space(self, agent: str) -> gym.Space:
        """Return the space of one agent's observation in one environment."""
        return self._description.observation_spaces[agent]

    def action_space(self, agent: str) -> gym.Space:
        """Return the space of one agent's action in one environment."""
        return self._description.action_spaces[agent]

    @property
    def state_space(self) -> gym.Space | None:
        """Space of one environment's global state, None where the game has none."""
        return self._description.state_space

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers; empty for the in-process vector."""
        return self._pool.pids

    @property
    def metrics(self) -> dict[str, float]:
        """Counters of faults, times per step and the state of the running episodes.

        ``faults/worker_restarts`` counts environments that had to be started again,
        ``faults/nonfinite`` episodes cut for NaN or infinity, ``faults/out_of_bounds`` environment
        steps on which an observation was seen outside its Box; ``env/step_ms_mean`` and
        ``env/step_ms_max`` are over the environments' last steps; ``episode/running_steps_max``
        is the longest running episode, ``episode/running_return_mean`` the mean over environments
        and agents of the rewards summed so far.
        """
        blocks = self._blocks
        return {
            "faults/worker_restarts": float(self._recovery.total),
            "faults/nonfinite": float(self._inbox.cuts),
            "faults/out_of_bounds": float(self._inbox.outside),
            "env/step_ms_mean": 1e3 * float(blocks.seconds.mean()),
            "env/step_ms_max": 1e3 * float(blocks.seconds.max()),
            "episode/running_steps_max": float(blocks.steps.max()),
            "episode/running_return_mean": float(blocks.running_return.mean()),
        }

    @property
    def step_seconds(self) -> np.ndarray:
        """Seconds that the last step took in each environment, ``[E]``."""
        return self._blocks.seconds.copy()

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[AgentDict, dict[str, Any]]:
        """Begin a new episode in every environment.

        Args:
            seed: environment i gets ``seed + i``, its later episodes
                ``episode_seed(seed, i, episode)``. None draws one from entropy the first time,
                and derives it from the one before afterwards.
            options: handed to every environment's ``reset``, in this call only; None hands over
                those of :meth:`set_options`.

        Returns:
            Observations and infos.
        """
        self._refuse_closed()
        if self._state == "stepping":  # nobody waited for it
            answers, _ = self._pool.wait(self._pool.workers, self._options.step_timeout, "step")
            self._inbox.read(answers)
        seed = self._seeds.next(seed)
        self._state = "failed"
        failures, answers = self._recovery.reset(seed, options)
        self._recovery.recover(failures, self._inbox.read(answers), self._n_steps)
        self._state = "ready"
        self._views.find_masks()
        infos = self._infos(False, [])
        infos["reset"] = np.ones(self.num_envs, np.bool_)
        return self._views.observation, infos

    def set_options(self, options: dict[str, Any] | None) -> None:
        """Give every episode that begins from now on these options, such as a level.

        They are handed to ``env.reset`` where an episode ended and the next one begins, where an
        environment is started again after a fault, and where :meth:`reset` is given none. Running
        episodes go on as they are.

        Args:
            options: a dict that can be pickled; None for none.

        Raises:
            TypeError: if it is neither a dict nor None.
            RuntimeError: between ``step_async`` and ``step_wait``.
        """
        if self._state == "stepping":
            self._refuse("set_options")
        self._refuse_closed()
        if options is not None and not isinstance(options, dict):
            raise TypeError(f"expected options as a dict or None, got {options!r}.")
        self._recovery.set_options(options)

    def step_async(self, actions: Mapping[str, Any]) -> None:
        """Begin a step; see :meth:`step`."""
        if self._state != "ready":
            self._refuse("step")
        self._actions.write(actions)
        self._state = "stepping"
        self._pool.step()

    def step_wait(self) -> Step:
        """End the step that :meth:`step_async` began."""
        if self._state != "stepping":
            self._refuse("step_wait")
        self._state = "failed"
        answers, failures = self._pool.wait(self._pool.workers, self._options.step_timeout, "step")
        self._n_steps += 1
        flags = 0
        for _, frame in answers:
            flags |= frame.flags
        restarted: list[int] = []
        if failures or flags & ~channel.ENDED:
            reports = self._inbox.read(answers)
            restarted = self._recovery.recover(failures, reports, self._n_steps)
            if flags & channel.MASKED or restarted:
                self._views.find_masks()
        self._state = "ready"
        views = self._views
        infos = self._infos(bool(flags & channel.ENDED or restarted), restarted)
        return views.observation, views.reward, views.terminated, views.truncated, infos

    def _infos(self, ended: bool, restarted: list[int]) -> dict[str, Any]:
        """Assemble the infos of one call."""
        infos = self._views.infos(ended)
        if restarted:
            infos["worker_restarted"] = np.zeros(self.num_envs, np.bool_)
            infos["worker_restarted"][restarted] = True
        if self._options.keep_infos:
            self._inbox.add_to(infos, ended)
        return infos

    def state(self) -> np.ndarray:
        """Return the global states ``[E, ...]``, a live view.

        Raises:
            ValueError: if the game has no state.
        """
        if self._state != "ready":
            self._refuse("state")
        if self._blocks.state is None:
            raise ValueError("expected a game with a state_space, got one without.")
        if not self.with_state:
            self._state = "failed"
            fetch_states(self._pool, self._options.step_timeout)
            self._state = "ready"
        return self._blocks.state

    def render(self, env_index: int = 0) -> Any:
        """Return a frame ``[H, W, 3]`` of one environment; of games that render ``ansi``, a text.

        Raises:
            ValueError: if the environment was made with neither ``render_mode``.
        """
        if self._state != "ready":
            self._refuse("render")
        index = range(self.num_envs)[env_index]
        return render_one(self._pool, index, self._options.step_timeout)

    def _refuse(self, what: str) -> None:
        """Say why a call is not possible now."""
        self._refuse_closed()
        raise RuntimeError(f"{what}() is not possible now; {_HINTS[self._state]}.")

    def close(self) -> None:
        """Close all environments and end all workers; calling it again does nothing."""
        if self.closed:
            return
        self.closed = True
        deadline = time.monotonic() + self._options.close_timeout
        try:
            if self._state == "stepping":
                self._pool.wait(self._pool.workers, self._options.close_timeout / 2, "close")
            self._pool.close(max(0.1, deadline - time.monotonic()))
        finally:
            self._state = "failed"
            self._finalizer.detach()
            self._pool.release()

    def __enter__(self) -> SubProcVecParallelEnv:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        sizes = f"{self.num_envs} environments, {len(self.worker_pids)} workers"
        return f"SubProcVecParallelEnv({sizes}, {len(self.possible_agents)} agents)"
