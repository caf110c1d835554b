"""This file takes what ``reset`` and ``step`` of a game returned, where it is no five dicts.

What can be understood without guessing is taken; the rest is refused by the rule that it breaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitae_marl.vector.stepping.faults import DataFault


def two_parts(result: Any) -> tuple[Any, Any]:
    """Return observations and infos of ``reset``; it may return observations alone.

    Raises:
        DataFault: if they are no dicts by agent.

    Example:
        >>> two_parts({"a": 1})
        ({'a': 1}, {})
    """
    if isinstance(result, Mapping):
        return result, {}
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise refused("reset()", "(observations, infos)", in_words(result))
    return by_agent(result[0], "observations of reset()"), infos_by_agent(result[1])


def five_parts(result: Any) -> tuple[Any, ...]:
    """Return the five parts of what ``step`` returned.

    Raises:
        DataFault: if there are not five.
    """
    if isinstance(result, tuple | list) and len(result) == 5:
        return tuple(result)
    advice = "return five dicts by agent"
    if isinstance(result, tuple | list) and len(result) == 4:
        advice += ", with terminations (the game is over) apart from truncations (broken off)"
    five = "(observations, rewards, terminations, truncations, infos)"
    raise refused("step()", five, in_words(result), advice)


def by_agent(values: Any, what: str) -> Any:
    """Return values if they are given by agent.

    Raises:
        DataFault: if they are not.
    """
    if not isinstance(values, Mapping):
        raise refused(what, "a dict by agent", in_words(values))
    return values


def infos_by_agent(infos: Any) -> Any:
    """Return infos by agent; None stands for none.

    Raises:
        DataFault: if they are no dict.
    """
    return {} if infos is None else by_agent(infos, "infos")


def require_info(agent: str, info: Any) -> None:
    """Refuse the info of an agent that is no dict.

    Raises:
        DataFault: if it is none.
    """
    if not isinstance(info, Mapping):
        raise refused(f"info of agent {agent!r}", "a dict", in_words(info), "return {} for none")


def refused(what: str, expected: str, got: str, advice: str = "return dicts by agent") -> DataFault:
    """Describe a broken rule."""
    return DataFault("GameRuleError", f"{what}: expected {expected}, got {got}; {advice}.")


def in_words(value: Any) -> str:
    """Say of what kind a value is."""
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)} values"
    return "None" if value is None else f"a value of type {type(value).__name__}"
