"""This file holds what the doctor found of a game, and writes it as lines of text."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Report:
    """What ``check_parallel_env`` found.

    Attributes:
        name: the id, or the name of the class.
        groups: one line for each group: its agents, what they observe and do.
        episodes: how many ended, and their shortest, mean and longest length.
        unfinished: how many episodes were left before their end, and after how many steps.
        dying: agents that left while others played on.
        joining: agents that came after the start of an episode.
        waiting: agents that were in the game without being to act.
        masks: where the action masks are, ``observation`` or ``info``; empty without any.
        empty_masks: times that an agent who was to act had no legal action.
        late_rewards: rewards given to agents that had left.
        ends: how many episodes ended by termination and how many by truncation of everybody.
        seeding: what ``reset(seed)`` determines, in words.
        ms_per_step: median milliseconds of a joint step.
        ms_per_reset: median milliseconds of a reset.
        where: packages by their share of the time, in percent.
        corrected: what the game gets wrong and the lean construction puts right.
        problems: broken rules; with any of these the game should not be trained on.
        notes: what deserves a look, though training goes on with it.
        wrappers: wrappers that would help.
        n_envs: recommended number of environments.
        n_workers: recommended number of worker processes, where the game runs in Python.
        twin: whether ``train`` takes a compiled twin of the game, without workers, by itself.
        command: a command line that trains with these numbers; empty for a game without id.
    """

    name: str
    groups: tuple[str, ...]
    episodes: tuple[int, int, float, int]
    unfinished: tuple[int, int]
    dying: tuple[str, ...]
    joining: tuple[str, ...]
    waiting: tuple[str, ...]
    masks: str
    empty_masks: int
    late_rewards: int
    ends: tuple[int, int]
    seeding: str
    ms_per_step: float
    ms_per_reset: float
    where: tuple[tuple[str, int], ...]
    corrected: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    wrappers: tuple[str, ...]
    n_envs: int
    n_workers: int
    twin: bool
    command: str

    @property
    def ok(self) -> bool:
        """Whether no rule was broken."""
        return not self.problems

    def lines(self) -> list[str]:
        """The report as lines of text."""
        number, shortest, mean, longest = self.episodes
        left, n_steps = self.unfinished
        ended = (
            f"  episodes   {number} of {shortest} to {longest} steps, mean {mean:.1f}; "
            f"{self.ends[0]} ended by termination, {self.ends[1]} by truncation of everybody"
        )
        shares = ", ".join(f"{package} {share}%" for package, share in self.where)
        head = [
            f"{self.name}: {self._verdict()}",
            *(f"  problem    {problem}" for problem in self.problems),
            *(f"  note       {note}" for note in self.notes),
            *(f"  agents     {group}" for group in self.groups),
        ]
        if not number and not left:  # nothing was played
            return head
        return [
            *head,
            *([ended] if number else ()),
            *([f"  unfinished {left} left after {n_steps} steps"] if left else ()),
            f"  die early  {names(self.dying)}",
            f"  join late  {names(self.joining)}",
            f"  wait       {names(self.waiting)}",
            f"  masks      {'in the ' + self.masks if self.masks else 'none'}"
            + (f"; {self.empty_masks} without a legal action" if self.empty_masks else ""),
            f"  rewards    {self.late_rewards} given to agents that had left",
            f"  seeding    {self.seeding}",
            f"  time       {self.ms_per_step:.3g} ms a step, {self.ms_per_reset:.3g} ms a reset: "
            f"{shares}",
            *(f"  corrected  {text}" for text in self.corrected),
            *(
                f"  wrapper    --wrap {text}: small grey pictures that show motion"
                for text in self.wrappers
            ),
            *self._advice(),
        ]

    def _verdict(self) -> str:
        """All in a few words."""
        if not self.ok:
            return "PROBLEMS"
        endless = self.unfinished[0] and not self.episodes[0]
        return "no rule broken, but NO EPISODE ENDED" if endless else "no rule broken"

    def _advice(self) -> list[str]:
        """How to train on the game."""
        workers = f"n_workers={self.n_workers}"
        if self.twin:
            return [
                f"  train with n_envs={self.n_envs}, on the compiled twin, as train does by itself",
                f"  {self.command}",
                f"  in Python (--backend python): {workers}",
            ]
        lines = [f"  train with n_envs={self.n_envs}, {workers}", f"  {self.command}"]
        return lines if self.command else lines[:1]

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-like values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.loads(json.dumps({"ok": self.ok, **values}))


def names(agents: tuple[str, ...]) -> str:
    """Name agents; many are counted."""
    if len(agents) > 6:
        return f"{', '.join(agents[:3])} and {len(agents) - 3} more"
    return ", ".join(agents) or "nobody"
