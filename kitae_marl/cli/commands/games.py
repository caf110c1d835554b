"""This file has the commands about games: listing, checking and measuring them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from kitae_marl.cli.options.games import Bench, Doctor, List, Verify
from kitae_marl.errors import ConfigError
from kitae_marl.runs.terminal import say


def list_games(options: List) -> dict[str, Any]:
    """List the ids."""
    from kitae_marl.vector.catalogue.games import catalogue, table

    rows = catalogue(options.match)
    for line in table(rows) if rows else ():
        say(line)
    if any(row.id == "envpool:ID" for row in rows):
        say("kitae-marl list envpool: lists EnvPool's more than a thousand games, in half a minute")
    if not rows:
        say(f"no id contains {options.match!r}")
    return {"games": [row._asdict() for row in rows]}


def doctor(options: Doctor) -> dict[str, Any]:
    """Check a game by playing it."""
    from kitae_marl.vector.catalogue.doctor import check_parallel_env

    report = check_parallel_env(
        options.env_id,
        episodes=options.episodes,
        seed=options.seed,
        max_episode_steps=options.max_episode_steps,
        strict_bounds=options.strict_bounds,
        **options.env_kwargs,
    )
    for line in report.lines():
        say(line)
    return report.to_json()


def verify(options: Verify) -> dict[str, Any]:
    """Compare a compiled game with its original; the command exits with 1 where they differ."""
    from kitae_envs.proofs.verify import verify as compare

    report = compare(
        options.env_id,
        episodes=options.episodes,
        exhaustive=options.exhaustive,
        seed=options.seed,
        **options.env_kwargs,
    )
    say(str(report))
    return {
        "id": report.id,
        "ok": report.ok,
        "episodes": report.episodes,
        "moves": report.moves,
        "largest_difference": report.largest,
        "distributions": report.distributions,
    }


def bench(options: Bench) -> dict[str, Any]:
    """Measure speed."""
    from kitae_marl.cli.bench import bench_compiled, bench_train, bench_vector

    started = time.perf_counter()
    benches: dict[str, Callable[[Any], dict[str, Any]]] = {
        "vector": bench_vector,
        "train": bench_train,
        "compiled": bench_compiled,
    }
    if options.what == "compiled" and (options.stock or options.n_workers is not None):
        raise ConfigError("stock, n_workers: expected without bench compiled: it has no workers.")
    if options.what == "compiled" and options.max_episode_steps is not None:
        raise ConfigError("max_episode_steps: expected without bench compiled, whose games end.")
    if options.train and options.what != "compiled":
        raise ConfigError(f"train: expected with bench compiled only, got bench {options.what}.")
    if options.opponents and not options.train:
        raise ConfigError("opponents: expected with bench compiled --train only.", "opponents")
    result = benches[options.what](options)
    for name, value in result.items():
        say(f"  {name:32s} {value}")
    say(f"measured for {time.perf_counter() - started:.0f} s")
    return result
