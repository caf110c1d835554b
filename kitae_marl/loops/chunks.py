"""The host's side of the compiled loop: chunks of whole updates, logs and checkpoints between."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax

from kitae_marl.errors import TrainingDivergedError
from kitae_marl.loops import compiling, devices
from kitae_marl.loops.clock import COMPILE, PROGRAM, REST, Clock
from kitae_marl.loops.compiled import MAX_CHUNK
from kitae_marl.loops.long_calls import GivenUpError, LongCall
from kitae_marl.loops.metrics import count_skipped, log_compiled
from kitae_marl.loops.opposed import CompiledTable
from kitae_marl.loops.program import CompiledLoop
from kitae_marl.types import Checkpointer, Run, RunWriter, opposition_of

CHUNK_SECONDS = 1.0
"""About how long a chunk takes; logs and checkpoints are written between two of them."""
STOP_SECONDS = 3.0
"""How long a chunk may still run after a signal; a longer one is given up and not counted."""


def train_in_chunks(
    seeds: Sequence[int],
    agents: Sequence[Run],
    env: Any,
    n_env_steps: int,
    start_step: int,
    checkpointers: Sequence[Checkpointer | None],
    writers: Sequence[RunWriter | None],
) -> None:
    """Run chunks of the compiled loop, about a second each; log, save and stop between them.

    Args:
        seeds: of the games, one for each run; so are the agents, checkpointers and writers.
        agents: what learns. As soon as one of them is ``stopping``, all stop: before the program is
            compiled, after the chunk, or where it would last too long as they were before it.
        env: a vector of compiled games; of it only ``game``, ``num_envs`` and the ``opposition`` of
            the one run are used.
        n_env_steps: joint steps of each whole run.
        start_step: the first joint step, the same for all runs.
        checkpointers: their ``save(step, agent)`` is called between chunks.
        writers: get the means of the finished episodes, and the metrics, of every update.

    Raises:
        TrainingDivergedError: after 10 updates in a row of a run that were not finite; other runs
            are trained to their end before.
    """
    for agent in agents:
        agent.require_n_envs(env.num_envs)

    def is_stopping() -> bool:
        return any(agent.stopping for agent in agents)

    # Where several processes run a chunk, none leaves the others alone.
    alone = jax.process_count() == 1
    patience = STOP_SECONDS if alone else math.inf
    phases = Clock()
    try:
        with compiling.announced("the training program", *writers):
            loop = CompiledLoop(
                env.game, agents, seeds, start_step, lambda: alone and is_stopping()
            )
    except GivenUpError:
        return
    phases.lap(COMPILE)
    _say_memory(loop, writers[0])
    runs = [_Results(*run) for run in zip(agents, checkpointers, writers, strict=True)]
    step, n_updates = start_step - 1, 1
    table, opposition = None, opposition_of(env)
    if opposition is not None:
        table = CompiledTable(loop, env.game, agents[0].groups)
        opposition.begin(step, agents[0], table)
    while step + loop.n_steps <= n_env_steps and not all(run.diverged for run in runs):
        clock = time.perf_counter()
        left = (n_env_steps - step) // loop.n_steps
        if opposition is not None:
            left = min(left, max(1, opposition.until_due(step) // loop.n_steps))
        n_updates, stop = devices.agree(min(n_updates, MAX_CHUNK, left), is_stopping())
        if stop:
            break
        phases.lap(REST)
        try:
            metrics = LongCall(partial(loop.run, n_updates)).wait(is_stopping, patience)
        except GivenUpError:
            break
        phases.lap(PROGRAM)
        seconds = phases.take()
        for run, own, state, game in zip(runs, metrics, loop.states(), loop.games(), strict=True):
            run.take(own, n_updates, step, loop.n_steps, state, game, seconds)
        step += n_updates * loop.n_steps
        if table is not None and opposition is not None:
            opposition.after(step, agents[0], table)
        per_update = (time.perf_counter() - clock) / n_updates
        n_updates = max(1, int(CHUNK_SECONDS / per_update))
    if table is not None and opposition is not None:
        opposition.end(step, agents[0], table)
    diverged = [number for number, run in enumerate(runs) if run.diverged]
    for number in diverged:
        raise TrainingDivergedError(str(runs[number].diverged), runs=tuple(diverged))


def _say_memory(loop: CompiledLoop, writer: RunWriter | None) -> None:
    """Tell the user what the loop needs."""
    if writer is not None:
        words = compiling.in_words
        rollout, program = words(loop.rollout_bytes), words(loop.program_bytes)
        writer.tell(f"memory: {rollout} for a rollout, {program} in all")


class _Results:
    """One of the runs that are trained together: where its results go."""

    def __init__(
        self, agent: Run, checkpointer: Checkpointer | None, writer: RunWriter | None
    ) -> None:
        self.agent, self.checkpointer, self.writer = agent, checkpointer, writer
        self.diverged: TrainingDivergedError | None = None
        self._skipped = 0

    def take(
        self,
        metrics: dict[str, Any],
        n_updates: int,
        step: int,
        n_steps: int,
        state: Any,
        game: Any,
        seconds: dict[str, float],
    ) -> None:
        """Take over what a chunk has done from joint step ``step`` on: log, save.

        ``seconds`` are those of the whole chunk, by tag; each update gets its share of them.
        """
        if self.diverged:
            return
        agent, n_envs = self.agent, self.agent.config.n_envs
        agent.learned(state, step + n_updates * n_steps, game)
        for i in range(n_updates):
            step += n_steps
            if self.writer is not None:
                for tag, spent in seconds.items():
                    self.writer.add_scalar(tag, spent / n_updates, step * n_envs)
            update = log_compiled(metrics, i, step * n_envs, agent.groups, self.writer)
            try:
                self._skipped = count_skipped(update, self._skipped, step * n_envs)
            except TrainingDivergedError as error:
                self.diverged = error
                return
        if self.checkpointer is not None and not self._skipped:
            self.checkpointer.save(step, agent)
