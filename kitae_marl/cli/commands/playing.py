"""This file has the commands that play whole episodes, always in the original games."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitae_marl.cli.commands.exact import exact_answers, say_exact
from kitae_marl.cli.commands.loading import (
    GameSetup,
    SeedRuns,
    checkpoint_step,
    find_all,
    load_policy,
    open_game,
    require_one_game,
    require_trust,
)
from kitae_marl.cli.options.fields import Step
from kitae_marl.cli.options.playing import Brackets, Compare, Evaluate, Playing, PlayingRuns
from kitae_marl.errors import ConfigError
from kitae_marl.runs.store.search import LAST, RunAt, run_at
from kitae_marl.runs.terminal import counted, say

if TYPE_CHECKING:
    from kitae_marl.evaluation import Evaluation
    from kitae_marl.evaluation.protocol import EvaluationProtocol
    from kitae_marl.types import Policy
    from kitae_marl.vector.protocol import VecParallelEnv


def evaluate(options: Evaluate) -> dict[str, Any]:
    """Evaluate runs; those that differ by seed alone are one result."""
    gathered = _found(options.run, options)
    results = [_evaluate_group(group, options) for group in gathered]
    if len(results) == 1:
        return results[0]
    return {"results": results, "score": _over_games(results)}


def _found(names: Sequence[str], options: PlayingRuns) -> list[SeedRuns]:
    """Find runs that play, as the options say."""
    how = options.seats, options.max_episode_steps, options.env_kwargs
    return find_all(names, options.runs_dir, *how, step=options.step, policy=options.policy)


def _evaluate_group(group: SeedRuns, options: Evaluate) -> dict[str, Any]:
    """Evaluate runs of one kind, the random policy and the oracle beside them."""
    from kitae_marl.evaluation import normalized_score, summarize

    game = group.game
    with _opened(game, options) as env:
        protocol = _protocol(game, env, options)
        evaluations = _play_all(group, protocol, env, options)
        with_oracle = options.oracle and game.is_plain
        references = protocol.play_references(
            env, game.env_id, game.env_kwargs, with_oracle=with_oracle
        )
    own, oracle = summarize(evaluations), None
    if references.oracle is not None:
        oracle = {"policy": references.oracle_definition, **references.oracle.summary()}
    result = {
        "name": group.name,
        **_how_played(game, options, group.step),
        "which_policy": group.policy,
        **own,
        "each": [
            {"run_dir": str(at.path), "step": checkpoint_step(at), **one.summary()}
            for at, one in zip(group.at, evaluations, strict=True)
        ],
        "random": references.random.summary(),
        "oracle": oracle,
        "score": None,
    }
    scale = _scale(result)
    if scale is not None:
        result["score"] = normalized_score(own["returns"]["mean"], *scale)
    say(f"{group.name} on {game}: {_counts(own)}, {_how_in_words(options, group)}")
    _say_result(result)
    exact = exact_answers(group) if options.against is None else []
    for at, answer in zip(group.at, exact, strict=False):
        say(f"{at.path.name}, exactly, by all {answer['positions']} positions:")
        say_exact(answer)
    return {**result, "exact": exact}


def _how_played(game: GameSetup, options: PlayingRuns, step: Step) -> dict[str, Any]:
    """Say what was played and how, as JSON."""
    how = {"against": options.against, "sample": options.sample, "step": step}
    return {**game.as_json(), **how, "simulations": options.simulations}


def _how_in_words(options: PlayingRuns, runs: SeedRuns) -> str:
    """Say how it was played, in words."""
    actions = "most probable actions (--sample: as in training)"
    if options.sample:
        actions = "actions sampled as in training"
    if options.simulations is not None:
        actions += f", {counted(options.simulations, 'simulation')} before each"
    if runs.step is not None:
        actions += f", checkpoint {runs.step}"
    if runs.policy != LAST:
        actions += f", {runs.policy} policy"
    return f"{actions}; each side against {options.against}" if options.against else actions


def _counts(summary: Mapping[str, Any]) -> str:
    """Say how many runs and episodes were played."""
    return f"{counted(summary['runs'], 'run')}, {counted(summary['episodes'], 'episode')}"


def _say_result(result: dict[str, Any]) -> None:
    """Show the result of runs of one kind."""
    random, oracle = result["random"], result["oracle"]
    say(f"return per episode: {result['definition']}")
    say(f"mean with its 95 % interval {result['spread']}; IQM: mean of the middle half")
    zero_sum = "outcomes" in result and result["against"] is None
    for tag, row in result["returns"].items():
        if zero_sum and tag in ("mean", "team"):  # zero whatever was learned
            continue
        other = f"    random {random['returns'][tag]['mean']:9.3f}"
        best = f"    oracle {oracle['returns'][tag]['mean']:9.3f}" if oracle else ""
        say(f"  {tag:20s} {shown(row)}    IQM {row['iqm']:9.3f}{other}{best}")
    if result["runs"] > 1:
        for one in result["each"]:
            say(f"  {Path(one['run_dir']).name:20s} {shown(one['returns']['mean'])}")
    for agent, counts in result.get("outcomes", {}).items():
        say(f"  {agent:20s} {counts['win']} won, {counts['draw']} drawn, {counts['loss']} lost")
    _say_repeated(result)
    if oracle:
        say(f"oracle: {oracle['policy']}")
    if result["score"]:
        say(f"score, 0 as random and 1 as the oracle: {shown(result['score'])}")
    say(f"mean length {result['length']:.1f}")


def _say_repeated(result: dict[str, Any]) -> None:
    """Say how many of the episodes are repetitions, which say nothing new."""
    episodes, distinct = result["episodes"], result["distinct_episodes"]
    varied = "" if result["sample"] else "; --sample lets the run's actions vary"
    if distinct == 1 < episodes:
        say(
            f"all {episodes} episodes are one and the same, for neither game nor players leave "
            f"anything to chance: what they say is that of one episode{varied}"
        )
    elif distinct < episodes:
        counted_only = "; intervals count only these" if result["unit"] == "episodes" else ""
        say(f"{distinct} of {episodes} episodes differ{counted_only}{varied}")


def _over_games(results: Sequence[dict[str, Any]]) -> dict[str, float] | None:
    """Sum up the scores of all runs, if each result is of a game of its own with an oracle."""
    from kitae_marl.evaluation import normalized_score, over_games

    games = [[result[name] for name in GameSetup._fields] for result in results]
    scales = [_scale(result) for result in results]
    if any(game in games[:i] for i, game in enumerate(games)) or None in scales:
        say("no score over all games: it needs one result of each game, and an oracle for each")
        return None
    strata = [
        [normalized_score(one["returns"]["mean"], *scale)["mean"] for one in result["each"]]
        for result, scale in zip(results, scales, strict=True)
        if scale is not None
    ]
    score = over_games(strata)
    say(
        f"score over {len(results)} games: IQM {score['iqm']:.3f} "
        f"{between(score['iqm_low'], score['iqm_high'])}, each game's runs resampled apart"
    )
    return score


def _scale(result: dict[str, Any]) -> tuple[float, float] | None:
    """Return the mean returns of the random policy, scored 0, and of the oracle, scored 1.

    None where there is no oracle, or both are the same.
    """
    if result["oracle"] is None:
        return None
    low, high = (float(result[s]["returns"]["mean"]["mean"]) for s in ("random", "oracle"))
    return None if low == high else (low, high)


def shown(row: dict[str, float]) -> str:
    """Write a mean with its interval."""
    return f"{row['mean']:9.3f} {between(row['low'], row['high'])}"


def between(low: float, high: float) -> str:
    """Write an interval; of one episode or one run there is none."""
    return "(no interval)" if math.isnan(low) else f"({low:.3f} .. {high:.3f})"


def compare(options: Compare) -> dict[str, Any]:
    """Compare two sets of runs of one game."""
    from kitae_marl.evaluation import compare as compare_evaluations
    from kitae_marl.evaluation import summarize

    sides = [_one_kind(name, options) for name in (options.run_a, options.run_b)]
    game = require_one_game(sides)
    if options.out is not None:
        from kitae_marl.evaluation.plots import check_out

        check_out(options.out)
    with _opened(game, options) as env:
        protocol = _protocol(game, env, options)
        played = [_play_all(side, protocol, env, options) for side in sides]
    a, b = (summarize(side) for side in played)
    result = {
        **_how_played(game, options, options.step),
        "run_a": [str(path) for path in sides[0].paths],
        "run_b": [str(path) for path in sides[1].paths],
        "step_a": sides[0].step,
        "step_b": sides[1].step,
        "policy_a": sides[0].policy,
        "policy_b": sides[1].policy,
        **compare_evaluations(*played),
        "a": a,
        "b": b,
    }
    for letter, side, summary in zip("AB", sides, (a, b), strict=True):
        how = _how_in_words(options, side)
        say(f"{letter}: {side.name} on {game}: {_counts(summary)}, {how}")
    _say_comparison(result)
    if options.out is not None:
        from kitae_marl.evaluation.plots import plot_comparison

        plot_comparison(options.out, [side.name for side in sides], result)
        say(f"drawn into {options.out}")
        result["out"] = str(options.out)
    return result


def _one_kind(name: str, options: Compare) -> SeedRuns:
    """Find the runs of one side."""
    gathered = _found([name], options)
    if len(gathered) > 1:
        raise ConfigError(f"expected runs that differ by seed alone, got others too in {name}.")
    return gathered[0]


def _say_comparison(result: dict[str, Any]) -> None:
    """Show a comparison."""
    say(f"return per episode: {result['definition']}")
    say(f"P: probability that A gets more than B; 95 % intervals {result['spread']}")
    zero_sum = "outcomes" in result["a"] and "outcomes" in result["b"] and not result["against"]
    for tag, row in result["returns"].items():
        if zero_sum and tag in ("mean", "team"):  # zero on both sides, whatever was learned
            continue
        p, d = row["probability_of_improvement"], row["iqm_difference"]
        say(
            f"  {tag:20s} P {p['estimate']:.3f} {between(p['low'], p['high'])}    IQM A - B "
            f"{d['estimate']:.3f} {between(d['low'], d['high'])}"
        )
    if result["warning"]:
        say(f"warning: {result['warning']}")


def brackets(options: Brackets) -> dict[str, Any]:
    """Measure brackets, or list those that are known."""
    from kitae_marl.evaluation.brackets import bracket_table, measure

    if not options.env_id:
        for row in bracket_table():
            best = "" if row["oracle"] is None else f"    oracle {row['oracle']['mean']:9.3f}"
            against = f"  (each side against {row['against']})" if row["against"] else ""
            say(f"{row['id']:36s} random {row['random']['mean']:9.3f}{best}{against}")
        return {"brackets": bracket_table()}
    measured = []
    for env_id in options.env_id:
        game = GameSetup(env_id, options.env_kwargs, {}, options.max_episode_steps)
        with _opened(game, options) as env:
            entry = measure(env, env_id, options.env_kwargs, options.episodes, options.seeds)
        measured.append(entry)
        say(f"{env_id}: {entry['episodes']} episodes; {entry['definition']}")
        for name in ("random", "oracle"):
            for tag, row in (entry[name] or {"returns": {}})["returns"].items():
                say(f"  {name:8s} {tag:20s} {shown(row)}")
        say(f"oracle: {entry['oracle_definition'] or 'none'}")
    return {"brackets": measured}


@contextmanager
def _opened(game: GameSetup, options: Playing) -> Iterator[VecParallelEnv]:
    """Open as many environments of a game as the episodes need."""
    if options.episodes < 1 or options.n_envs < 1 or not options.seeds:
        raise ConfigError(
            "expected at least one episode, one environment and one seed, got --episodes "
            f"{options.episodes}, --n-envs {options.n_envs} and --seeds {list(options.seeds)}."
        )
    if min(options.seeds) < 0:
        raise ConfigError(f"seeds: expected numbers from 0 on, got {min(options.seeds)}.", "seeds")
    runs_dir, allow_import = Path("runs"), False
    if isinstance(options, PlayingRuns):
        runs_dir, allow_import = options.runs_dir, options.allow_import
        require_trust(game, allow_import)
    n_envs = min(options.n_envs, options.episodes)
    env = open_game(
        game,
        n_envs,
        n_workers=options.n_workers,
        runs_dir=runs_dir,
        allow_import=allow_import,
    )
    try:
        yield env
    finally:
        env.close()


def _play_all(
    group: SeedRuns, protocol: EvaluationProtocol, env: VecParallelEnv, options: PlayingRuns
) -> list[Evaluation]:
    """Play with the agent of each run."""
    for at in group.at:
        checkpoint_step(at)  # a missing one is said before anything is played
    simulations = options.simulations
    return [protocol.play(_policy(at, env, options, simulations), env) for at in group.at]


def _policy(
    at: RunAt, env: VecParallelEnv, options: PlayingRuns, simulations: int | None = None
) -> Policy:
    """Load a run as a policy, with what the options say of sampling and importing."""
    return load_policy(
        at,
        env,
        sample=options.sample,
        simulations=simulations,
        allow_import=options.allow_import,
    )


def _protocol(game: GameSetup, env: VecParallelEnv, options: PlayingRuns) -> EvaluationProtocol:
    """Say how to play, with the opponent that was asked for."""
    from kitae_marl.evaluation import oracle_for
    from kitae_marl.evaluation.protocol import EvaluationProtocol
    from kitae_marl.players.policies import random_policy

    if options.against is not None:
        _require_sides(game, env, options.against)
    opponent: Policy | None = None
    if options.against == "random":
        opponent = random_policy(env, options.seeds[0] + 1)
    elif options.against == "oracle":
        oracle = None if not game.is_plain else oracle_for(game.env_id, game.env_kwargs)
        if oracle is None:
            raise ConfigError(
                f"against: expected a game with a scripted oracle, got {game}.", "against"
            )
        opponent = oracle.make(env)
    elif options.against is not None:
        opponent = _policy(run_at(options.against, options.runs_dir), env, options)
    return EvaluationProtocol(options.episodes, options.seeds, opponent)


def _require_sides(game: GameSetup, env: VecParallelEnv, against: str) -> None:
    """Raise a ConfigError where seats left a single side: what it would meet is its own agents."""
    if not game.seats or len(env.groups) > 1:
        return
    seat = against if against == "random" else f"frozen:{'RUN' if against == 'oracle' else against}"
    seats = shlex.quote(json.dumps(dict.fromkeys(game.seats, seat)))
    raise ConfigError(
        f"against: expected a run that plays several sides, got one that plays "
        f"{env.possible_agents} in {game}; give the others the opponent's seat instead: "
        f"--seats {seats}.",
        "against",
    )
