"""A vector of parallel environments in worker processes."""

from __future__ import annotations

import json
import logging
import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np

from kitae_marl.errors import ClosedError
from kitae_marl.groups import AgentDict, GroupSpec
from kitae_marl.vector import channel, episode_seed, recovery
from kitae_marl.vector.actions import ActionWriter
from kitae_marl.vector.channel import Frame
from kitae_marl.vector.pool import Failure, Pool
from kitae_marl.vector.process import Worker, WorkerProcess
from kitae_marl.vector.reports import error_from, printable
from kitae_marl.vector.spaces import decode
from kitae_marl.vector.views import Views

logger = logging.getLogger("kitae_marl.vector")

Step = tuple[AgentDict, AgentDict, AgentDict, AgentDict, dict[str, Any]]


class SubProcVecParallelEnv:
    """Many parallel environments, stepped together in worker processes.

    See :class:`kitae_marl.vector.VecParallelEnv` for what ``reset`` and ``step`` return: live
    views that the next call overwrites. Faults of environments are logged to the logger
    ``kitae_marl.vector``.

    What cannot be promised outside Linux: that a worker hung in the game's C code ends when the
    parent is killed with SIGKILL, and that no shared memory block stays behind then.

    Args:
        env_fns: one function per environment, each returning a PettingZoo ``ParallelEnv``; lambdas
            and closures are fine.
        n_workers: worker processes, by default one per core (at most one per environment); 0
            steps everything in this process.
        with_state: deliver ``final_state`` and make ``state()`` free; for games that have one.
        keep_infos: deliver ``infos["env_infos"]``, the JSON-like part of the games' infos.
        step_timeout: seconds that a worker may take for one step or reset of its environments.
        start_timeout: seconds that it may take to make them.
        close_timeout: seconds that they may take to close; what then still runs is killed.
        max_restarts: how often one environment may be restarted; 10 000 steps forgive one.
        on_crash: what to do when a worker dies or hangs: ``"restart"`` its environments, each at
            a new episode, or ``"raise"``.
        on_exception: the same for exceptions of an environment.
        on_nonfinite: ``"raise"`` on NaN or infinity in an observation or reward, or
            ``"truncate"`` the episode before it.
        max_episode_steps: truncate episodes of that many steps.
        strict_bounds: raise when an observation lies outside its space, instead of one warning.
        worker_env: environment variables for the workers, over ours.

    Attributes:
        num_envs: number of environments.
        possible_agents: all agents, in the game's order.
        groups: agents with equal spaces, stacked together.
        metadata: the JSON-like part of the first environment's metadata.
        closed: whether ``close`` was called.

    Raises:
        ValueError: if there is no environment or an option is unknown.
        VectorEnvError: one of its kinds, if environments cannot be made or differ in spaces.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], Any]],
        *,
        n_workers: int | None = None,
        with_state: bool = False,
        keep_infos: bool = False,
        step_timeout: float = 60.0,
        start_timeout: float = 120.0,
        close_timeout: float = 5.0,
        max_restarts: int = 3,
        on_crash: str = "restart",
        on_exception: str = "raise",
        on_nonfinite: str = "raise",
        max_episode_steps: int | None = None,
        strict_bounds: bool = True,
        worker_env: Mapping[str, str] | None = None,
    ) -> None:
        self.closed = True
        self.num_envs = len(env_fns)
        _check_choice("on_crash", on_crash, "restart", "raise")
        _check_choice("on_exception", on_exception, "raise", "restart")
        _check_choice("on_nonfinite", on_nonfinite, "raise", "truncate")
        n_workers = _worker_count(self.num_envs, n_workers)
        self._step_timeout, self._close_timeout = step_timeout, close_timeout
        self._pool = Pool(
            env_fns,
            n_workers,
            {
                "with_state": with_state,
                "keep_infos": keep_infos,
                "strict_bounds": strict_bounds,
                "max_episode_steps": max_episode_steps,
                "on_nonfinite": on_nonfinite,
            },
            worker_env or {},
        )
        self._finalizer = weakref.finalize(self, _release, self._pool, os.getpid())
        try:
            blocks, self.metadata, description = recovery.start(self._pool, start_timeout)
            if with_state and blocks.state is None:
                raise ValueError("with_state=True expects a game with a state_space, got none.")
        except BaseException:
            self._finalizer()
            raise
        self._blocks = blocks
        self._description = decode(description)
        self.possible_agents = list(self._description.agents)
        self.groups: tuple[GroupSpec, ...] = blocks.groups
        self.closed = False
        self._views = Views(blocks, with_state)
        self._actions = ActionWriter(blocks)
        self._recovery = recovery.Recovery(
            self._pool,
            blocks,
            max_restarts=max_restarts,
            start_timeout=start_timeout,
            step_timeout=step_timeout,
            on_crash=on_crash,
            on_exception=on_exception,
        )
        self._with_state, self._keep_infos = with_state, keep_infos
        self._env_infos: list[Any] = [{}] * self.num_envs
        self._final_infos: list[Any] = [None] * self.num_envs
        self._first_seed: int | None = None
        self._n_resets = self._n_steps = self._n_cuts = 0
        self._state = "new"  # new, ready, stepping or failed
        self._in_game = np.zeros_like(blocks.in_game)

    # ------------------------------------------------------------ description

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
        return [w.pid for w in self._pool.workers if isinstance(w, WorkerProcess)]

    @property
    def metrics(self) -> dict[str, float]:
        """Counters of faults, times per step and the state of the running episodes.

        ``faults/worker_restarts`` counts environments that had to be started again,
        ``faults/nonfinite`` episodes cut for NaN or infinity; ``env/step_ms_mean`` and
        ``env/step_ms_max`` are over the environments' last steps; ``episode/running_steps_max``
        is the longest running episode, ``episode/running_return_mean`` the mean over environments
        and agents of the rewards summed so far.
        """
        seconds, running = self._blocks.seconds, self._blocks.running_return
        return {
            "faults/worker_restarts": float(self._recovery.total),
            "faults/nonfinite": float(self._n_cuts),
            "env/step_ms_mean": 1e3 * float(seconds.mean()),
            "env/step_ms_max": 1e3 * float(seconds.max()),
            "episode/running_steps_max": float(self._blocks.place[:, 1].max()),
            "episode/running_return_mean": float(running.mean()),
        }

    @property
    def step_seconds(self) -> np.ndarray:
        """Seconds that the last step took in each environment, ``[E]``."""
        return self._blocks.seconds.copy()

    # --------------------------------------------------------------- stepping

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[AgentDict, dict[str, Any]]:
        """Begin a new episode in every environment.

        Args:
            seed: environment i gets ``seed + i``, its later episodes
                ``episode_seed(seed, i, episode)``. None draws one from entropy the first time,
                and derives it from the one before afterwards.
            options: handed to every environment's ``reset``.

        Returns:
            Observations and infos.
        """
        self._refuse_closed()
        if self._state == "stepping":
            self._collect()
        seed = self._next_seed(seed)
        pool, rec = self._pool, self._recovery
        rec.begin(seed)
        fresh = [pool.respawn(worker) for worker in list(pool.workers) if worker.lost]
        self._state = "failed"
        failures, _ = rec.bring_up(fresh)
        well = [w for w in pool.workers if not w.lost]
        pool.sequence += 1
        for worker in well:
            pool.send(
                worker,
                channel.RESET,
                cloudpickle.dumps(
                    {
                        "seed": seed,
                        "whole": True,
                        "options": options,
                        "episodes": dict.fromkeys(worker.rows, 0),
                    }
                ),
            )
        answers, more = pool.wait(well, self._step_timeout, "reset")
        reports = self._read(answers)
        self._recover(failures + more, reports)
        self._state = "ready"
        self._views.find_masks()
        return self._views.observation, self._infos(False, [])

    def _next_seed(self, seed: int | None) -> int:
        """Choose the seed of a reset."""
        if seed is None:
            if self._first_seed is None:
                seed = int(np.random.SeedSequence().generate_state(1)[0]) >> 1
            else:
                self._n_resets += 1
                return episode_seed(self._first_seed, self.num_envs, self._n_resets)
        elif seed < 0:
            raise ValueError(f"expected a seed of at least 0, got {seed}.")
        self._first_seed, self._n_resets = int(seed), 0
        return self._first_seed

    def step(self, actions: Mapping[str, Any]) -> Step:
        """Step every environment once.

        Args:
            actions: ``{agent: [E, ...]}``; what agents say that are not active is ignored.

        Returns:
            Observations, rewards, terminations, truncations and infos.

        Raises:
            ValueError: if actions are wrong; nothing has been sent then.
            VectorEnvError: one of its kinds, if an environment failed; then only ``reset`` and
                ``close`` are possible.
        """
        self.step_async(actions)
        return self.step_wait()

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
        answers, failures = self._pool.wait(self._pool.workers, self._step_timeout, "step")
        self._n_steps += 1
        flags = 0
        for _, frame in answers:
            flags |= frame.flags
        restarted: list[int] = []
        if failures or flags & ~channel.ENDED:
            restarted = self._recover(failures, self._read(answers))
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
        if self._keep_infos:
            infos["env_infos"] = list(self._env_infos)
            if ended:
                infos["final_infos"] = list(self._final_infos)
        return infos

    def _read(self, answers: list[tuple[Worker, Frame]]) -> list[tuple[dict[str, Any], Worker]]:
        """Read the reports of answers; log, count and keep what they say."""
        reports = []
        for worker, frame in answers:
            if not frame.flags & channel.PAYLOAD:
                continue
            data = json.loads(frame.payload)
            reports += [(report, worker) for report in data.get("reports", ())]
            for text in data.get("logs", ()):
                logger.warning("%s", printable(text))
            self._n_cuts += data.get("cuts", 0)
            if "infos" in data:
                rows = slice(worker.rows.start, worker.rows.stop)
                self._env_infos[rows] = data["infos"]
                self._final_infos[rows] = data["final_infos"]
        return reports

    def _recover(
        self, failures: list[Failure], reports: list[tuple[dict[str, Any], Worker]]
    ) -> list[int]:
        """Raise or restart what failed; return the environments that were restarted."""
        if not failures and not reports:
            return []
        rec = self._recovery
        rec.raise_unless_wanted(failures, reports)
        rows = sorted(
            {row for f in failures for row in f.worker.rows}
            | {report["env_index"] for report, _ in reports}
        )
        in_game = self._blocks.in_game.copy()
        self._views.keep_final(rows)
        restarted = rec.restart(failures, reports, self._n_steps, self._read)
        self._views.interrupt(restarted, in_game)
        return restarted

    def _collect(self) -> None:
        """Let a step that nobody waited for end."""
        answers, _ = self._pool.wait(self._pool.workers, self._step_timeout, "step")
        self._read(answers)
        self._state = "failed"

    # ------------------------------------------------------------------ other

    def state(self) -> np.ndarray:
        """Return the global states ``[E, ...]``, a live view.

        Raises:
            ValueError: if the game has no state.
        """
        if self._state != "ready":
            self._refuse("state")
        if self._blocks.state is None:
            raise ValueError("expected a game with a state_space, got one without.")
        if not self._with_state:
            self._pool.sequence += 1
            for worker in self._pool.workers:
                self._pool.send(worker, channel.STATE)
            self._ask(self._pool.workers)
        return self._blocks.state

    def render(self, env_index: int = 0) -> np.ndarray:
        """Return a frame ``[H, W, 3]`` of one environment.

        Raises:
            ValueError: if the environment was not made with ``render_mode="rgb_array"``.
        """
        if self._state != "ready":
            self._refuse("render")
        env_index = range(self.num_envs)[env_index]
        worker = next(w for w in self._pool.workers if env_index in w.rows)
        self._pool.sequence += 1
        self._pool.send(worker, channel.RENDER, json.dumps({"env_index": env_index}).encode())
        head, _, pixels = self._ask([worker])[0].partition(b"\n")
        data = json.loads(head)
        if "shape" not in data:
            raise ValueError(
                f"expected a frame [H, W, 3] of uint8, got {data['got']}; make the environment "
                'with render_mode="rgb_array".'
            )
        return np.frombuffer(pixels, np.uint8).reshape(data["shape"]).copy()

    def _ask(self, workers: list[Worker]) -> list[bytes | bytearray]:
        """Wait for answers outside of a step; failures are errors here."""
        answers, failures = self._pool.wait(workers, self._step_timeout, "step")
        if failures:
            self._state = "failed"
            raise failures[0].error(0)
        for worker, frame in answers:
            head = bytes(frame.payload).partition(b"\n")[0] if frame.payload else b"{}"
            reports = json.loads(head).get("reports")
            if reports:
                raise error_from([(report, worker.pid, 0) for report in reports])
        return [frame.payload for _, frame in answers]

    def _refuse_closed(self) -> None:
        if self.closed:
            raise ClosedError("the vector environment was closed; make a new one.")

    def _refuse(self, what: str) -> None:
        """Say why a call is not possible now."""
        self._refuse_closed()
        hints = {
            "new": "call reset() first",
            "failed": "call reset() after an error",
            "stepping": "call step_wait() first",
            "ready": "call step_async() first",
        }
        raise RuntimeError(f"{what}() is not possible now; {hints[self._state]}.")

    def close(self) -> None:
        """Close all environments and end all workers; calling it again does nothing."""
        if self.closed:
            return
        self.closed = True
        deadline = time.monotonic() + self._close_timeout
        try:
            if self._state == "stepping":
                self._pool.wait(self._pool.workers, self._close_timeout / 2, "close")
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
        return (
            f"SubProcVecParallelEnv({self.num_envs} environments, {len(self.worker_pids)} workers, "
            f"{len(self.possible_agents)} agents)"
        )


def _release(pool: Pool, creator: int) -> None:
    """End the workers of a vector environment that nobody closed."""
    if os.getpid() == creator:  # a forked copy of us must leave our workers alone
        pool.release()


def _check_choice(name: str, value: str, *choices: str) -> None:
    """Refuse an unknown option."""
    if value not in choices:
        raise ValueError(f"expected {name} to be one of {choices}, got {value!r}.")


def _worker_count(n_envs: int, n_workers: int | None) -> int:
    """Check or choose the number of workers."""
    if n_envs < 1:
        raise ValueError("expected at least one env_fn, got none.")
    if n_workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return min(n_envs, cores or 1)
    if n_workers < 0:
        raise ValueError(f"expected n_workers of at least 0, got {n_workers}.")
    return min(n_envs, n_workers)
