"""This file has what options are made of: markers of tyro, and kinds of values."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from kitae_marl.config.counts import LONGEST, read_count
from kitae_marl.config.learner import Sharing

__all__ = [
    "REGISTRY",
    "Counts",
    "GameId",
    "GameIds",
    "JsonObject",
    "KeepSetting",
    "MetricNames",
    "OwnSettings",
    "PlayerNames",
    "Positional",
    "RunName",
    "RunNames",
    "Step",
    "arg",
]

GameId = Annotated[str, arg(metavar="ID")]
GameIds = Annotated[tuple[str, ...], arg(metavar="[ID ...]", help_behavior_hint="(default: none)")]
RunName = Annotated[str, arg(metavar="RUN")]
RunNames = Annotated[tuple[str, ...], arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)")]
PlayerNames = Annotated[
    tuple[str, ...],
    arg(metavar="PLAYER PLAYER [PLAYER ...]", help_behavior_hint="(required)"),
]
MetricNames = Annotated[
    tuple[str, ...],
    arg(metavar="METRIC[,METRIC ...]", help_behavior_hint="(default: by the game)"),
    tyro.conf.UseAppendAction,
]


def _json_object(text: list[str]) -> dict[str, Any]:
    """Read a JSON object from the command line."""
    try:
        value = json.loads(text[0])
    except json.JSONDecodeError as error:
        raise ValueError(
            f"expected a JSON object such as '{{\"N\": 5}}', got {text[0]!r}"
        ) from error
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object such as '{{\"N\": 5}}', got {text[0]!r}")
    return value


def _step(text: list[str]) -> int | Literal["best"] | None:
    """Read which checkpoint of a run is meant."""
    if text[0] in ("best", "None"):
        return "best" if text[0] == "best" else None
    try:
        return read_count(text[0])
    except ValueError:
        raise ValueError(f"expected an environment step or best, got {text[0][:99]!r}") from None


def _keep(text: list[str]) -> int | str:
    """Read which checkpoints stay; the config says what is wrong with it."""
    number = text[0].isdecimal() and len(text[0]) <= LONGEST
    return int(text[0]) if number else text[0]


def _counts(text: list[str]) -> tuple[int, ...]:
    """Read whole numbers by commas."""
    return tuple(read_count(part) for part in text[0].split(","))


Counts = Annotated[
    tuple[int, ...],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT[,INT ...]",
        instance_from_str=_counts,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [",".join(map(str, value))],
    ),
    arg(help_behavior_hint="(default: none)"),
]
Step = Annotated[
    int | Literal["best"] | None,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="STEP|best",
        instance_from_str=_step,
        is_instance=lambda value: value is None or isinstance(value, int) or value == "best",
        str_from_instance=lambda value: [str(value)],
    ),
]
KeepSetting = Annotated[
    int | str,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="all|N|every:N",
        instance_from_str=_keep,
        is_instance=lambda value: isinstance(value, int | str),
        str_from_instance=lambda value: [str(value)],
    ),
]
JsonObject = Annotated[
    dict[str, Any],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=_json_object,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    ),
]


def _is_settings(value: Any) -> bool:
    """Whether a value may be the settings of a user's own algorithm, as a config holds them."""
    return value is None or isinstance(value, dict) or dataclasses.is_dataclass(value)


def _settings_text(value: Any) -> list[str]:
    """Write such settings as JSON; a config holds them as the class that the algorithm declares."""
    settings = value if value is None or isinstance(value, dict) else dataclasses.asdict(value)
    return [json.dumps(settings or {})]


OwnSettings = Annotated[
    Any,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=_json_object,
        is_instance=_is_settings,
        str_from_instance=_settings_text,
    ),
]


def _sharing(text: list[str]) -> Any:
    """Read who shares parameters from the command line; the config checks what is in it."""
    try:
        return json.loads(text[0].lower() if text[0] in ("True", "False") else text[0])
    except json.JSONDecodeError:
        raise ValueError(
            "expected true, false, or patterns such as "
            f'\'{{"agent_*": "independent", "*": "shared"}}\', got {text[0]!r}'
        ) from None


REGISTRY = tyro.constructors.ConstructorRegistry()
"""How values are read that tyro cannot read by their type alone."""


@REGISTRY.primitive_rule
def _sharing_rule(info: Any) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
    """Read what shares parameters as JSON."""
    if info.type != Sharing:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="true|false|JSON",
        instance_from_str=_sharing,
        is_instance=lambda value: isinstance(value, bool | dict),
        str_from_instance=lambda value: [json.dumps(value)],
    )


@REGISTRY.primitive_rule
def _count_rule(info: Any) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
    """Read whole numbers also where they are written as 1e6, 500k or 5M."""
    if info.type is not int:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda text: read_count(text[0]),
        is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )
