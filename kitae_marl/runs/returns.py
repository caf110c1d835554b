"""This file says what to show of returns and win rates, so that it means something in any game.

In a zero-sum game the mean over agents is zero whatever they learn: there it is the return of each
side that is shown, and how often each side wins against the random policy.
"""

from __future__ import annotations

from collections.abc import Mapping

RETURN = "return/"
"""Start of the names of returns: of each agent, ``mean``, ``team``, and ``group/<group>``."""
WIN_RATE = "win_rate/"
"""Start of the names of win rates against the random policy: of each agent, and ``mean``."""
RATING = "league/rating"
"""The learner's rating among its opponents; with ``_low`` and ``_high``, its interval."""
AT_MOST = 4
"""Sides that a line shows."""


def by_agent(means: Mapping[str, float]) -> dict[str, float]:
    """Return the returns of single agents, by agent.

    Example:
        >>> by_agent({"return/a": 1.0, "return/mean": 0.0, "return/group/x": 1.0, "loss": 2.0})
        {'a': 1.0}
    """
    names = {tag.removeprefix(RETURN): x for tag, x in means.items() if tag.startswith(RETURN)}
    shared = ("mean", "team")
    return {n: x for n, x in names.items() if n not in shared and not n.startswith("group/")}


def adds_up_to_zero(means: Mapping[str, float]) -> bool:
    """Whether the returns of two or more agents add up to zero.

    Example:
        >>> adds_up_to_zero({"return/a": 0.5, "return/b": -0.5}), adds_up_to_zero({"return/a": 0.0})
        (True, False)
    """
    returns = [*by_agent(means).values()]
    return len(returns) > 1 and abs(sum(returns)) <= 1e-5 * max(1.0, *map(abs, returns))


def win_rates(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the win rates among metrics, by agent or ``mean``."""
    return {t.removeprefix(WIN_RATE): x for t, x in metrics.items() if t.startswith(WIN_RATE)}


def rating_of(metrics: Mapping[str, float]) -> dict[str, float] | None:
    """Return the learner's rating and its interval among metrics, None where it was not rated.

    Example:
        >>> rating_of({RATING: 700.0, f"{RATING}_low": 650.0, f"{RATING}_high": 751.0})
        {'value': 700.0, 'low': 650.0, 'high': 751.0}
    """
    if RATING not in metrics:
        return None
    ends = {end: metrics[f"{RATING}_{end}"] for end in ("low", "high")}
    return {"value": metrics[RATING], **ends}


def headline(means: Mapping[str, float], metrics: Mapping[str, float]) -> str:
    """Say in a few words how training goes.

    Args:
        means: mean returns of the last episodes, by tag.
        metrics: the newest value of every metric, by tag; win rates are read.

    Example:
        >>> headline({"return/mean": -3.0, "return/a": -3.0}, {})
        'return/mean -3.00'
        >>> means = {"return/mean": 0.0, "return/a": 0.25, "return/b": -0.25}
        >>> headline(means, {"win_rate/mean": 0.9})
        'wins 90% against random  return a 0.25, b -0.25'
        >>> rating = {RATING: 700.0, f"{RATING}_low": 650.0, f"{RATING}_high": 751.0}
        >>> headline(means, {"win_rate/mean": 0.9, **rating})
        'rating 700 (650 .. 751)  wins 90% against random'
    """
    mean = means.get("return/mean")
    if mean is None:
        return ""
    if adds_up_to_zero(means):
        rate = win_rates(metrics).get("mean")
        wins = "" if rate is None else f"wins {rate:.0%} against random  "
        if rating := rating_of(metrics):
            between = f"{rating['low']:.0f} .. {rating['high']:.0f}"
            return f"rating {rating['value']:.0f} ({between})  {wins.rstrip()}"
        return f"{wins}return {_listed(by_agent(means))}"
    start = f"{RETURN}group/"
    groups = {tag.removeprefix(start): x for tag, x in means.items() if tag.startswith(start)}
    sides = f"  ({_listed(groups)})" if groups else ""
    return f"return/mean {mean:.2f}{sides}"


def _listed(values: Mapping[str, float]) -> str:
    """Show a few values by name."""
    shown = [f"{name} {value:.2f}" for name, value in values.items()]
    return ", ".join(shown[:AT_MOST]) + (", ..." if len(shown) > AT_MOST else "")


def in_words(returns: Mapping[str, float]) -> str:
    """Show all returns in one line; of a zero-sum game those of the sides.

    Args:
        returns: by tag, such as ``return/mean``.
    """
    shown = {tag.removeprefix(RETURN): value for tag, value in returns.items()}
    if adds_up_to_zero(returns):
        shown = by_agent(returns)
    listed = ", ".join(f"{name} {value:.2f}" for name, value in shown.items())
    return listed or "none: no episode has ended (--max-episode-steps N truncates episodes)"
