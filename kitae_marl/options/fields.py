"""What the options of the command line are made of: markers of tyro and kinds of values."""

from __future__ import annotations

import json
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, arg

__all__ = ["JsonObject", "Positional", "arg"]


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
