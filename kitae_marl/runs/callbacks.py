"""This file says what a user may have called during training, and does what follows each update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from kitae_marl.config.counts import whole
from kitae_marl.errors import OWN_CODE, ConfigError, UnknownEnvironmentError
from kitae_marl.runs.logger import Logger
from kitae_marl.runs.returns import RETURN, WIN_RATE, adds_up_to_zero
from kitae_marl.runs.store.checkpoint import RunCheckpointer
from kitae_marl.types import Run
from kitae_marl.vector.ids import imported
from kitae_marl.vector.protocol import VecParallelEnv

ASKED = -1
"""Value of an agent's ``stopping`` where a callback has asked for the end; signals are above 0."""

MEAN = f"{RETURN}mean"
"""By what evaluations are compared to find the best, where it is among their metrics."""


class Callback:
    """Called while agents are trained; derive your own and override what you need.

    Steps are environment steps, of all environments together. ``agent`` may be looked at and played
    with, but not be trained or changed; keep copies of it (``agent.player()``), for the next update
    takes the memory of its arrays. Where a method returns True, training ends in
    order after this update: the state is saved, and ``--resume`` goes on from there. What a method
    raises ends the training as an error, once the last update is saved.

    The loop on the host calls ``after_update`` after every update. The compiled loop calls it
    between two chunks of updates, about once a second, with the state after the last one; where
    several runs are trained in one program, once for each of their agents, and one that asks for
    the end ends all. Updates that were skipped because they were not finite are not told.

    A class may keep what it needs: ``at_start`` is given the environments, so that a curriculum can
    set the options of later episodes (``env.set_options``).

    Example:
        >>> class UntilGood(Callback):
        ...     def after_update(self, step, metrics, agent):
        ...         return metrics.get("return/mean", float("-inf")) > 0.9
        >>> UntilGood().after_update(128, {"return/mean": 0.95}, None)
        True
    """

    def at_start(self, step: int, env: VecParallelEnv, agent: Any) -> None:
        """Called before the first step, also where a run goes on.

        Args:
            step: environment steps so far.
            env: the environments that the agent is trained on. It may look at them and call
                ``set_options``; it may not step or reset them.
            agent: the agent.
        """

    def after_update(self, step: int, metrics: Mapping[str, float], agent: Any) -> bool | None:
        """Called after an update.

        Args:
            step: environment steps so far.
            metrics: the newest value of every metric of ``metrics.csv``, by name.
            agent: the agent.
        """

    def after_evaluation(self, step: int, metrics: Mapping[str, float], agent: Any) -> bool | None:
        """Called after an evaluation (``evaluate_every``), with what it came to, by name."""

    def at_end(self, step: int, metrics: Mapping[str, float], agent: Any) -> None:
        """Called once at the end of a training that raised nothing, all being saved."""


class Hooks(NamedTuple):
    """What is called while runs are trained.

    Attributes:
        callbacks: in this order.
        evaluate: ``evaluate(agent) -> metrics``, numbers by name; None: no evaluation.
        evaluate_every: environment steps between two evaluations.
        win_rates: ``win_rates(agent, env_step, last=...) -> metrics``, asked for games whose
            returns add up to zero; it says itself when a measurement is due. None: never.
        opponents: trained agents that play seats, by what the config calls them; copies of them
            are kept in the run's folder.
    """

    callbacks: tuple[Callback, ...] = ()
    evaluate: Callable[[Any], Mapping[str, float]] | None = None
    evaluate_every: int = 0
    win_rates: Callable[..., Mapping[str, float]] | None = None
    opponents: Mapping[str, Run] = MappingProxyType({})


def make_hooks(
    callbacks: Sequence[Callback],
    evaluate: Callable[[Any], Mapping[str, float]] | None,
    evaluate_every: int | None,
) -> Hooks:
    """Return what ``Agent.train`` was given, checked.

    Raises:
        TypeError: if a callback is no :class:`Callback`, or ``evaluate`` no function.
        ValueError: if one of ``evaluate`` and ``evaluate_every`` is given without the other, or the
            latter is below 1.
    """
    if isinstance(callbacks, str | Callback) or not isinstance(callbacks, Sequence):
        raise TypeError(
            f"expected callbacks as a list of objects, got {callbacks!r}; write [...] around it."
        )
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(
                f"expected callbacks derived from kitae_marl.Callback, got {callback!r}; give an "
                "object of such a class."
            )
    if evaluate is None and evaluate_every is None:
        return Hooks(tuple(callbacks))
    if not callable(evaluate):
        raise TypeError(f"expected evaluate as a function of the agent, got {evaluate!r}.")
    every = whole(evaluate_every)
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ValueError(
            f"expected evaluate_every as environment steps between two evaluations, an integer of "
            f"at least 1, got {every!r}."
        )
    return Hooks(tuple(callbacks), evaluate, every)


def find_callback(text: str) -> Callback | type[Callback]:
    """Import what is named as ``module:name``: a callback, or a class of them without arguments.

    Raises:
        ConfigError: if there is no such module, or nothing of that name in it.
        TypeError: if it is no :class:`Callback`.
    """
    try:
        found = imported(text)
    except UnknownEnvironmentError as error:  # its words fit whatever is named so
        raise ConfigError(f"callback: {error}", "callback") from None
    if isinstance(found, Callback) or (isinstance(found, type) and issubclass(found, Callback)):
        return found
    kind = f"the class {found.__name__}" if isinstance(found, type) else type(found).__name__
    raise TypeError(
        f"expected {text} to be an object or a class derived from kitae_marl.Callback, got {kind}."
    )


def import_callback(text: str) -> Callback:
    """Return the callback that ``module:name`` stands for; of a class, an object.

    Errors are those of :func:`find_callback`.
    """
    found = find_callback(text)
    if not isinstance(found, type):
        return found
    try:
        return found()
    except Exception as error:
        raise ConfigError(
            f"callback: expected {text} to be made without arguments, got "
            f"{type(error).__name__}: {error}.",
            "callback",
        ) from error


def _numbers(metrics: Any) -> dict[str, float]:
    """Return what an evaluation came to as numbers of Python, by name.

    Raises:
        TypeError: if it is no mapping of names to numbers; the message names the entry.
    """
    if not isinstance(metrics, Mapping):
        raise TypeError(
            f"expected evaluate(agent) to return numbers by name, got {type(metrics).__name__}."
        )
    numbers = {}
    for name, value in metrics.items():
        try:
            if not isinstance(name, str) or isinstance(value, str | bytes):
                raise TypeError
            numbers[name] = float(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"expected evaluate(agent) to return numbers by name, got {name!r}: {value!r}."
            ) from None
    return numbers


@contextmanager
def _naming(thing: Any, method: str) -> Iterator[None]:
    """Note on what is raised that it comes from the user's own code, and from where."""
    try:
        yield
    except Exception as error:
        of = f"{type(thing).__name__}." if isinstance(thing, Callback) else ""
        error.add_note(f"{OWN_CODE} {of}{method}")
        raise


def _asks(answer: Any) -> bool:
    """Whether what a callback returned asks for the end.

    Raises:
        TypeError: if it is neither a truth value nor None: an answer that was not meant as one.
    """
    if answer is None or isinstance(answer, bool | np.bool_):
        return bool(answer)
    raise TypeError(f"expected True, False or None of a callback, got {answer!r}.")


class AfterUpdate:
    """What follows an update of one run: evaluation, callbacks, checkpoint.

    It stands where the loops expect a checkpointer.

    Args:
        agent: the agent of the run.
        hooks: what is called.
        logger: the run's.
        checkpointer: what saves it; None keeps nothing.

    Attributes:
        measured: environment step at which win rates were measured last; None: never.
    """

    def __init__(
        self, agent: Run, hooks: Hooks, logger: Logger, checkpointer: RunCheckpointer | None
    ) -> None:
        self.checkpointer = checkpointer
        self.measured: int | None = None
        self._hooks, self._logger = hooks, logger
        self._evaluated = agent.env_steps
        best = checkpointer.best() if checkpointer is not None and hooks.evaluate else None
        # Whether evaluations say what is best: win rates are another scale, and leave it alone.
        self._judges = best is not None and not best.metric.startswith(WIN_RATE)

    def tell_start(self, env: VecParallelEnv, agent: Run) -> None:
        """Tell the callbacks that training begins."""
        now = agent.env_steps
        for callback in self._hooks.callbacks:
            with _naming(callback, "at_start"):
                callback.at_start(now, env, agent)

    def save(self, step: int, agent: Run) -> None:
        """Evaluate if that is due, call back, save if that is due; ``step`` is the joint step."""
        now = step * agent.config.n_envs
        self._measure(now, agent)
        asked = self._evaluate(now, agent)
        for callback in self._hooks.callbacks:
            with _naming(callback, "after_update"):
                answer = callback.after_update(now, dict(self._logger.newest), agent)
                asked |= _asks(answer)
        if self.checkpointer is not None:
            self.checkpointer.save(step, agent)
        if asked:
            agent.stopping = agent.stopping or ASKED

    def _measure(self, now: int, agent: Run, *, last: bool = False) -> None:
        """Measure win rates where the game is a zero-sum one and a measurement is due."""
        if self._hooks.win_rates is not None and self._logger.zero_sum:
            rates = self._hooks.win_rates(agent, now, last=last)
            if rates:
                self.measured = now
                self._logger.add_row(now, dict(rates))
                name = f"{WIN_RATE}mean"
                if not self._judges:
                    self._keep_best(agent, name, rates.get(name, math.nan))

    def _evaluate(self, now: int, agent: Run) -> bool:
        """Evaluate where a multiple of ``evaluate_every`` was passed; whether the end was asked."""
        evaluate, every = self._hooks.evaluate, self._hooks.evaluate_every
        if evaluate is None or now // every == self._evaluated // every:
            return False
        self._evaluated = now
        # An evaluation that a signal has cut short has nothing to say.
        with _naming(evaluate, "evaluate"):
            metrics = _numbers(evaluate(agent))
        if not metrics:
            return False
        self._logger.add_row(now, {f"evaluation/{name}": x for name, x in metrics.items()})
        name = MEAN if MEAN in metrics else next(iter(metrics))
        # Returns of sides that learn from each other add up to zero however good they are: there
        # win rates tell the best (``_measure``).
        self._judges = name != MEAN or not adds_up_to_zero(metrics)
        if self._judges:
            self._keep_best(agent, name, metrics[name])
        asked = False
        for callback in self._hooks.callbacks:
            with _naming(callback, "after_evaluation"):
                asked |= _asks(callback.after_evaluation(now, dict(metrics), agent))
        return asked

    def _keep_best(self, agent: Run, name: str, value: float) -> None:
        """Save the state where no evaluation before came to more."""
        if self.checkpointer is not None and math.isfinite(value):
            self.checkpointer.save_best(agent.learned_step, agent, name, value)

    def end(self, agent: Run) -> None:
        """Save the last state."""
        if self.checkpointer is not None:
            self.checkpointer.write(agent.run_state())
        self._measure(agent.env_steps, agent, last=True)

    def tell_end(self, agent: Run) -> None:
        """Tell the callbacks that training has ended."""
        now = agent.env_steps
        for callback in self._hooks.callbacks:
            with _naming(callback, "at_end"):
                callback.at_end(now, dict(self._logger.newest), agent)
