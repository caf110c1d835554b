"""This file carries out commands in a worker: make environments, reset, step, render.

The worker process calls it with frames from its socket, the in-process vector environment calls
it directly: the same code serves both.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
from pettingzoo import ParallelEnv

from kitae_marl.vector.adapters.as_parallel import adapted_game
from kitae_marl.vector.logs import collected
from kitae_marl.vector.options import VectorOptions
from kitae_marl.vector.stepping.blocks import Blocks, decode, describe_env
from kitae_marl.vector.stepping.collector import Collector
from kitae_marl.vector.stepping.faults import DataFault, plain, report_exception
from kitae_marl.vector.workers import channel
from kitae_marl.vector.workers.channel import StartOrder


class Servant:
    """The environments of one worker, and the commands it understands.

    Args:
        attach: returns the shared bytes for ``(name, size)``.
        own_process: whether the process belongs to this worker, so that its global random
            generators may be seeded.
    """

    def __init__(self, attach: Callable[[str, int], np.ndarray], own_process: bool = False) -> None:
        self._attach = attach
        self._own_process = own_process
        self._env_fns: list[Callable[[], Any]] = []
        self._envs: list[Any] = []
        self._first = self._number = 0
        self._options = VectorOptions()
        self._collector: Collector | None = None
        self._handlers = {
            channel.START: self._start,
            channel.MAP: self._map,
            channel.RESET: self._reset,
            channel.STATE: self._write_state,
            channel.RENDER: self._render,
            channel.CLOSE: self._close,
            channel.OPTIONS: self._set_options,
        }

    def handle(self, kind: int, payload: bytes | bytearray) -> tuple[int, bytes]:
        """Carry out one command and return flags and payload of the answer."""
        if kind != channel.STEP:
            return self._handlers[kind](payload)
        collector = self._mapped
        ended = collector.step()
        flags, answer = self._answer(channel.ENDED if ended else 0)
        if not flags & ~channel.ENDED:
            # From here on the step counts, even if this process dies before it answers.
            collector.blocks.committed[self._number] = 1 + flags
        return flags, answer

    @property
    def _mapped(self) -> Collector:
        """The collector; an error before the shared memory is mapped."""
        if self._collector is None:
            raise RuntimeError("expected MAP before this command; the protocol was not followed.")
        return self._collector

    def _answer(self, flags: int = 0) -> tuple[int, bytes]:
        """Answer with what the collector has to report, usually nothing."""
        collector = self._collector
        if collector is None:
            return flags, b""
        infos = collector.infos
        report: dict[str, Any] = {}
        if infos.dropped_now:
            collector.logs.append(
                f"infos {sorted(infos.dropped_now)} are not JSON-like and are not kept (said once)."
            )
            infos.dropped_now = set()
        if collector.reports or collector.logs or collector.cuts:
            report = {"reports": collector.reports, "logs": collector.logs, "cuts": collector.cuts}
        if collector.outside:
            example = next(iter(collector.outside.values()))
            report |= {"outside": len(collector.outside), "example": example}
        if infos.keep:
            report["infos"], report["final_infos"] = infos.kept, infos.kept_final
        if infos.newly_used:
            infos.newly_used = False
            flags |= channel.MASKED
        if report:
            return flags | channel.PAYLOAD, json.dumps(report).encode()
        return flags, b""

    def _start(self, payload: bytes | bytearray) -> tuple[int, bytes]:
        """Carry out an order that was pickled."""
        return self.make(cloudpickle.loads(payload))

    def make(self, order: StartOrder) -> tuple[int, bytes]:
        """Make the environments and describe them."""
        self._first, self._number, self._options = order.first, order.number, order.options
        reports, descriptions, places = [], [], {}

        def report(error: Exception, index: int) -> None:
            reports.append(report_exception(error, env_index=index, phase="start", step=0, seed=0))

        with collected() as said:
            try:
                self._env_fns = _makers(order)
            except Exception as error:  # mostly a module that cannot be imported here
                report(error, order.first)
            for index, env_fn in enumerate(self._env_fns, order.first):
                try:
                    env = env_fn()
                    _require_new(env, places, index)
                    self._envs.append(env)
                    descriptions.append(describe_env(env))
                except Exception as error:
                    report(error, index)
        distinct = sorted(set(descriptions))
        answer: dict[str, Any] = {
            "reports": reports,
            "logs": [*dict.fromkeys(record.getMessage() for record in said)],
            "descriptions": distinct,
            "of": [distinct.index(text) for text in descriptions],
            "metadata": {},
        }
        if self._envs:
            answer["metadata"] = _plain_items(getattr(self._envs[0], "metadata", None))
        return channel.PAYLOAD, json.dumps(answer).encode()

    def _map(self, payload: bytes | bytearray) -> tuple[int, bytes]:
        """Attach the shared memory and get ready to step."""
        order = json.loads(payload)
        memory = self._attach(order["name"], order["size"])
        blocks = Blocks(decode(order["description"]), order["n_envs"], memory)
        first = self._first
        self._collector = Collector(
            blocks,
            slice(first, first + len(self._envs)),
            self._env_fns,
            self._envs,
            self._options,
            self._number,
        )
        self._envs = []  # the records hold them from here on
        return 0, b""

    def _reset(self, payload: bytes | bytearray) -> tuple[int, bytes]:
        """Begin episodes, of all or of some environments."""
        order = cloudpickle.loads(payload)
        collector = self._mapped
        if self._own_process and order["whole"]:
            # Games that wrongly draw from the global generators become reproducible at least for
            # the same number of workers.
            random.seed(order["seed"] + self._first)
            np.random.seed((order["seed"] + self._first) % 2**32)  # noqa: NPY002
        collector.later_options = order["later_options"]
        collector.reset(order["seed"], order["episodes"], order["options"])
        return self._answer()

    def _set_options(self, payload: bytes | bytearray) -> tuple[int, bytes]:
        """Take over the options of episodes that begin from now on."""
        self._mapped.later_options = cloudpickle.loads(payload)
        return 0, b""

    def _write_state(self, payload: bytes | bytearray) -> tuple[int, bytes]:
        """Write the global states into the shared block."""
        collector = self._mapped
        collector.begin_reports()
        collector.write_states()
        return self._answer()

    def _render(self, payload: bytes | bytearray) -> tuple[int, bytes]:
        """Answer with a frame: a line of JSON with its shape, then its bytes; or with a text."""
        index = json.loads(payload)["env_index"]
        collector = self._mapped
        record = collector.records[index - collector.rows.start]
        try:
            frame = record.env.render()
        except Exception as error:
            report = report_exception(
                error, env_index=index, phase="step", step=record.steps, seed=record.seed
            )
            return channel.PAYLOAD, json.dumps({"reports": [report]}).encode() + b"\n"
        if isinstance(frame, str):  # of render_mode="ansi"
            return channel.PAYLOAD, json.dumps({"text": frame}).encode() + b"\n"
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3:
            got = getattr(frame, "shape", type(frame).__name__)
            return channel.PAYLOAD, json.dumps({"got": str(got)}).encode() + b"\n"
        head = json.dumps({"shape": frame.shape}).encode() + b"\n"
        return channel.PAYLOAD, head + np.ascontiguousarray(frame).tobytes()

    def _close(self, payload: bytes | bytearray) -> tuple[int, bytes]:
        """Close every environment; what they raise is reported, not raised."""
        envs = [record.env for record in self._collector.records] if self._collector else self._envs
        logs = []
        for env in envs:
            try:
                env.close()
            except Exception as error:
                logs.append(f"close() of an environment raised {type(error).__name__}: {error}")
        return channel.PAYLOAD, json.dumps({"logs": logs}).encode()


def _makers(order: StartOrder) -> list[Callable[[], Any]]:
    """Unpack the makers of environments; one that was given is made by returning it."""
    if isinstance(order.makers, bytes):
        makers = cloudpickle.loads(order.makers)
        return [lambda make=make: adapted_game(make()) for make in makers]
    return [lambda env=env: adapted_game(env) for env in order.makers]


def _require_new(env: Any, places: dict[int, int], index: int) -> None:
    """Refuse a game that is another environment's already, itself or below its wrappers.

    Args:
        env: the environment just made.
        places: of the games made before it in this worker, by ``id``, the index of the environment;
            this one is added.
        index: index of the environment.

    Raises:
        DataFault: naming the environment that has the game.
    """
    game = _game_below(env)
    first = places.setdefault(id(game), index)
    if first != index:
        raise DataFault(
            "GameRuleError",
            f"expected a game of its own, got the very {type(game).__name__} object of env "
            f"{first}, which would be stepped by both; let every function make a new game: "
            "[make_game] * 4 with make_game() creating it, not [lambda: game] * 4.",
        )


def _game_below(env: Any) -> Any:
    """Return the game below the wrappers of an environment."""
    return env.unwrapped if isinstance(env, ParallelEnv) else env


def _plain_items(values: Any) -> dict[str, Any]:
    """Keep the JSON-like entries of what should be a dict."""
    kept: dict[str, Any] = {}
    if not isinstance(values, dict):
        return kept
    for key, value in values.items():
        try:
            kept[str(key)] = plain(value)
        except TypeError:
            continue
    return kept
