"""This file steps the environments of one worker: the hot path, auto-reset and statistics.

The same collector runs in a worker process and in the in-process vector environment. Everything
that can be done once per worker and step, instead of once per environment or agent, is.

The order of a step is fixed. First all games are stepped, into private arrays. Then all that they
returned is checked at once. Then episodes that ended are stored and the next ones begun, so that
reward and flags are the old episode's and the observation is the new one's. Only then everything is
copied into shared memory (:meth:`Collector._commit`). A worker that dies before leaves there what
the step before delivered, which the parent can then show as the end of an episode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import Any

from kitae_marl.vector.options import VectorOptions
from kitae_marl.vector.protocol import episode_seed
from kitae_marl.vector.stepping.blocks import Blocks
from kitae_marl.vector.stepping.dicts import ActionReader
from kitae_marl.vector.stepping.faults import DataFault, report_exception
from kitae_marl.vector.stepping.in_place import InPlaceEnv, PlayResult, RowArrays
from kitae_marl.vector.stepping.inspection import Inspector
from kitae_marl.vector.stepping.observations import ObservationStage
from kitae_marl.vector.stepping.records import EVERYBODY, Record
from kitae_marl.vector.stepping.results import five_parts, infos_by_agent, two_parts
from kitae_marl.vector.stepping.rows import InfoReader, Rows, agent_without_action
from kitae_marl.vector.stepping.states import state_stage

LONG_EPISODE = 100_000
"""Without ``max_episode_steps`` an episode of this length is worth a warning."""


class Collector:
    """The environments ``rows`` of a vector environment, stepped one after the other.

    Args:
        blocks: the shared arrays.
        rows: which rows of them belong to these environments.
        env_fns: makers of the environments.
        envs: the environments, already made.
        options: see :class:`VectorOptions`.
        number: number of the worker.

    Attributes:
        reports: faults of the last call, see :mod:`kitae_marl.vector.stepping.faults`.
        logs: texts of the last call that a user should read.
        cuts: episodes cut in the last call because of NaN or infinity.
        outside: what was seen outside its Box in the last call, in words, by row.
        later_options: handed to ``env.reset`` where an episode ended and the next one begins.
    """

    def __init__(
        self,
        blocks: Blocks,
        rows: slice,
        env_fns: Sequence[Callable[[], Any]],
        envs: Sequence[Any],
        options: VectorOptions,
        number: int,
    ) -> None:
        self.blocks, self.rows, self.options = blocks, rows, options
        self.records = [Record(env, rows.start + i, blocks.names) for i, env in enumerate(envs)]
        self.stage = ObservationStage(blocks, rows)
        self._inspector = Inspector(self.stage, blocks.names, options.strict_bounds)
        self.infos = InfoReader(blocks, rows, options.keep_infos)
        self.reports: list[dict[str, Any]] = []
        self.logs: list[str] = []
        self.cuts = 0
        self.outside: dict[int, str] = {}
        self.later_options: dict[str, Any] | None = None
        self._env_fns = list(env_fns)
        self._current = blocks.current[number : number + 1]
        self._cancelled = blocks.cancelled[number : number + 1]
        self._actions = ActionReader(blocks, rows)
        self.numbers = Rows(blocks, rows)
        self._states = state_stage(blocks, rows)
        # Those that are gathered in every step; without, they are when the parent asks for them.
        self._stepped_states = None if options.with_state is False else self._states
        self._limit = options.max_episode_steps or LONG_EPISODE
        self._base_seed = 0
        self._told: set[str] = set()
        self._told_of_masks = False
        self._unrewarded = [0.0] * len(blocks.names)
        for row, record in enumerate(self.records):
            self._offer_arrays(row, record)

    def _offer_arrays(self, row: int, record: Record) -> None:
        """Let an environment that can write in place do so from now on."""
        env, views = record.env, None
        # Infos that are kept are made by ``step`` alone, so there the long way is taken.
        if isinstance(env, InPlaceEnv) and env.can_write_in_place() and not self.infos.keep:
            views = self.stage.arrays_of(row)
        record.in_place = None
        if views is not None:
            arrays = RowArrays(views, self.infos.idle_of(row), record.column)
            record.in_place = env if env.use_arrays(arrays) else None
        self.stage.set_in_place(row, record.in_place is not None)

    def reset(
        self, seed: int, episodes: dict[int, int], options: dict[str, Any] | None = None
    ) -> None:
        """Begin the given episodes; environments that are not named keep theirs.

        Args:
            seed: seed of the vector environment.
            episodes: number of the new episode, by index of the environment.
            options: handed to ``env.reset``.
        """
        chosen = [row for row, record in enumerate(self.records) if record.index in episodes]
        self.stage.begin()
        self.begin_reports()
        self.numbers.begin_reset(chosen)
        self._base_seed = seed
        for row in range(len(self.records)):
            self.stage.repeat(row)
        for row in chosen:
            self.records[row].episode = episodes[self.records[row].index]
            self._restart(row, options)
        self._check_first(chosen, None)
        if self._stepped_states is not None:
            self._report_states(range(len(self.records)), "reset")
        self._commit()

    def step(self) -> bool:
        """Step every environment once with the actions in the shared block.

        Returns:
            Whether an episode ended anywhere.
        """
        self.stage.begin()
        self.begin_reports()
        self.numbers.begin_step()
        rewards: list[Any] = []
        actions = self._actions.read()
        seconds, current = self.numbers.seconds, self._current
        ended: list[int] = []
        before = perf_counter()
        for row, record in enumerate(self.records):
            current[0] = 1 + record.index
            try:
                if self._step_row(row, record, actions[row], rewards):
                    ended.append(row)
            except Exception as error:
                self._fail(row, error, "step")
                self.stage.repeat(row)
                rewards[row * len(record.names) :] = [0.0] * len(record.names)
            now = perf_counter()
            seconds[row] = now - before
            before = now
        current[0] = 0
        failed, cut = self._check(rewards)
        self.numbers.add_rewards()
        if ended or cut:
            ended = [row for row in ended if row not in failed and row not in cut]
            self._finish(ended, cut)
        self._commit()
        return bool(ended or cut)

    def begin_reports(self) -> None:
        """Forget what was reported for the call before."""
        self.reports.clear()
        self.logs.clear()
        self.outside.clear()
        self.cuts = 0

    def _step_row(self, row: int, record: Record, actions: list[Any], rewards: list[Any]) -> bool:
        """Step one environment; return whether its episode ended."""
        record.steps += 1
        if record.in_place is not None:
            self._play(row, record, record.in_place.play(actions), rewards)
        else:
            self._read(row, record, actions, rewards)
        if record.steps >= self._limit and record.alive:
            self._reach_limit(row, record)
        return not record.alive

    def _play(
        self, row: int, record: Record, result: PlayResult | None, rewards: list[Any]
    ) -> None:
        """Take what a step returned beside the observations that it has written."""
        if result is None:
            rewards += self._unrewarded
            return
        rewards += result.rewards
        if result.terminated or result.truncated:
            record.alive = ()
            self.numbers.leave(row, result.terminated, result.truncated)

    def _read(self, row: int, record: Record, actions: list[Any], rewards: list[Any]) -> None:
        """Step an environment and take its dicts apart."""
        if record.full:
            chosen = dict(zip(record.names, actions))  # noqa: B905 (the lengths are ours)
        else:
            chosen = {agent: actions[column] for agent, column in record.members}
        result = record.env.step(chosen)
        if type(result) is not tuple or len(result) != 5:
            result = five_parts(result)
        observations, reward, terminated, truncated, infos = result
        values = record.values(observations, reward, terminated, truncated)
        if values is None:
            values = self._settle(row, record, observations, reward, terminated, truncated)
        self.stage.put(row, values[0])
        rewards += values[1]
        if type(infos) is not dict:
            infos = infos_by_agent(infos)
        try:
            said = self.infos.watching or any(infos.values())
        except ValueError:  # of what is no dict; the reader says of whom
            said = True
        if said:
            self.infos.read(row, record, infos)

    def _settle(self, row: int, record: Record, *results: Any) -> tuple[list[Any], list[Any]]:
        """Return observations and rewards by column of a step on which agents leave or join."""
        outcome = record.settle(*results)
        self.numbers.apply(row, record, outcome)
        for agent in outcome.vanished:
            self.logs.append(
                f"env {record.index}: agent {agent!r} left env.agents without a termination or "
                "truncation; it is treated as terminated (said once per agent)."
            )
        for flags in outcome.everybody:
            if flags not in self._told:
                self._told.add(flags)
                self.logs.append(
                    f"{EVERYBODY!r} in {flags} is no agent and is left out; every agent has a flag "
                    "of its own (said once)."
                )
        observations = [
            outcome.observations.get(name, nothing)
            for name, nothing in zip(record.names, self.stage.nothing, strict=True)
        ]
        return observations, [outcome.rewards.get(name, 0.0) for name in record.names]

    def _reach_limit(self, row: int, record: Record) -> None:
        """Truncate an episode that is too long, or warn that it is long."""
        if self.options.max_episode_steps is not None:
            self.numbers.truncate(row)
            record.alive = ()
        elif record.steps == LONG_EPISODE:
            self.logs.append(
                f"env {record.index}: its episode has lasted {LONG_EPISODE} steps; if it never "
                "ends by itself, give max_episode_steps."
            )

    def _fail(self, row: int, error: Exception, phase: str) -> None:
        """Report a fault; the environment must be built anew before it is used again."""
        record = self.records[row]
        self._current[0] = 0
        self.reports.append(
            report_exception(
                error, env_index=record.index, phase=phase, step=record.steps, seed=record.seed
            )
        )
        record.broken = True

    def _check(self, rewards: list[Any]) -> tuple[set[int], set[int]]:
        """Check what the environments gave; ask for the global states that the step led to.

        Returns:
            The rows that failed, and those whose episode is to be cut instead.
        """
        numbers = self.numbers
        found, infinite, outside = self._inspector.inspect_step(
            rewards, numbers.reward, numbers.in_game
        )
        self._tell_outside(outside)
        faults: dict[int, Exception] = {**found}
        if self._stepped_states is not None:
            wrong, unbounded = self._gather_states(range(len(self.records)))
            faults, infinite = {**wrong, **faults}, {**unbounded, **infinite}
        if not faults and not infinite:
            return set(), set()
        cut: set[int] = set()
        if self.options.on_nonfinite == "truncate":
            cut = infinite.keys() - faults.keys()
        for row, fault in {**infinite, **faults}.items():
            if row not in cut:
                self._fail(row, fault, "step")
            self.stage.repeat(row)
            numbers.reward[row] = 0.0
            if self._stepped_states is not None:
                self._stepped_states.repeat(row)
        self.stage.fill()
        if self._stepped_states is not None:
            self._stepped_states.fill()
        return faults.keys() | infinite.keys() - cut, cut

    def _check_first(self, begun: Iterable[int], rows: Sequence[int] | None) -> None:
        """Check first observations of episodes; gather those of these rows, or of all (None)."""
        faults, outside = self._inspector.inspect_first(self.numbers.in_game, rows)
        self._tell_outside(outside)
        for row in begun:
            if row in faults and not self.records[row].broken:
                self._fail(row, faults[row], "reset")

    def _tell_outside(self, outside: dict[int, DataFault]) -> None:
        """Note observations outside their Box, on which training goes on."""
        for row, fault in outside.items():
            record = self.records[row]
            place = f"env {record.index}, step {record.steps} of its episode"
            self.outside.setdefault(row, f"{place}: {fault}")

    def _finish(self, ended: list[int], cut: set[int]) -> None:
        """Store what is left of the episodes that ended, and begin the next ones."""
        for row in cut:
            self.cuts += 1
            self.numbers.cut(row)
        self.infos.kept_final = [None] * len(self.records)
        begun = [*ended, *cut]
        for row in begun:
            self.numbers.end(row, finished=row not in cut)
            # Before _restart, which puts the new episode's observation in the same place.
            self.stage.keep_final(row)
            if self._stepped_states is not None:
                self._stepped_states.keep_final(row)
            self.infos.kept_final[row] = self.infos.kept[row]
            self.records[row].episode += 1
            self._restart(row, self.later_options)
        # Checked as of a reset: an episode that has just begun cannot be cut in its turn.
        self._check_first(begun, begun)
        if self._stepped_states is not None:
            self._report_states(begun, "reset")

    def _restart(self, row: int, options: dict[str, Any] | None) -> None:
        """Begin a row's next episode; its first observations wait in the stage."""
        record, seed = self.records[row], self._base_seed
        first = record.episode == 0
        record.seed = (
            seed + record.index if first else episode_seed(seed, record.index, record.episode)
        )
        self.numbers.clear(row, record.episode)
        self.infos.clear(row)
        self._current[0] = 1 + record.index
        try:
            if record.broken:
                record.env = self._env_fns[row]()
                record.broken = False
                self._offer_arrays(row, record)
            if record.in_place is not None:
                record.in_place.begin(record.seed, options)
                record.begin_in_place()
                self.numbers.enter(row, record)
                self._current[0] = 0
                return
            result = record.env.reset(seed=record.seed, options=options)
            observations, infos = two_parts(result)
            record.begin(observations)
            self.infos.read(row, record, infos)
        except Exception as error:
            self._fail(row, error, "reset")
            return
        values = self.stage.nothing.copy()
        for agent, column in record.members:
            values[column] = observations[agent]
        self.numbers.enter(row, record)
        self.stage.put(row, values)
        self._current[0] = 0

    def _commit(self) -> None:
        """Copy everything into shared memory.

        No code of an environment runs from the look at ``cancelled`` on. So a worker that dies or
        is given up leaves what the step before delivered, but for the microseconds of the copy.
        """
        if self._cancelled[0]:  # the parent lost patience; what it has seen must stay as it is
            raise SystemExit("the parent gave this worker up")
        self.stage.commit()
        if self._stepped_states is not None:
            self._stepped_states.commit()
        self.numbers.commit()
        self.infos.commit(self.numbers.in_game, self.blocks.active[self.rows])
        if self._inspector.looks and not self._told_of_masks:
            self._tell_of_masks()

    def _tell_of_masks(self) -> None:
        """Say once that an agent who is to act has no legal action."""
        found = agent_without_action(self.blocks, self.rows)
        if found is not None:
            row, agent = found
            self._told_of_masks = True
            self.logs.append(
                f"env {self.records[row].index}: agent {agent!r} is to act and its action mask "
                "forbids every action, so that all of them are as likely; say in "
                "infos[agent]['active'] who waits (said once)."
            )

    def write_states(self) -> None:
        """Write every environment's global state into shared memory."""
        states = self._states
        if states is not None:
            self._report_states(range(len(self.records)), "step")
            states.commit()

    def _report_states(self, rows: Sequence[int], phase: str) -> None:
        """Gather states of which none can be cut; report what is wrong with them."""
        faults, infinite = self._gather_states(rows)
        for row, fault in {**infinite, **faults}.items():
            self._fail(row, fault, phase)

    def _gather_states(
        self, rows: Sequence[int]
    ) -> tuple[dict[int, Exception], dict[int, DataFault]]:
        """Ask games for their global states.

        Returns:
            What went wrong, and what is not finite, by row.
        """
        states, faults = self._states, {}
        if states is None:
            return {}, {}
        for row in rows:
            record = self.records[row]
            if record.broken:
                states.repeat(row)
                continue
            self._current[0] = 1 + record.index
            try:
                states.read(row, record)
            except Exception as error:
                faults[row] = error
                states.repeat(row)
        self._current[0] = 0
        every = len(rows) == len(self.records)
        for row, fault in states.fill(None if every else rows).items():
            faults.setdefault(row, fault)
        return faults, states.nonfinite()
