"""This file has the commands that find how much can be gained against a player, and solve games."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kitae_marl.cli.commands.loading import GameSetup, SeedRuns, find_all, require_trust
from kitae_marl.cli.options.exact import Exploit, Solve
from kitae_marl.config.counts import read_seconds
from kitae_marl.errors import ConfigError, NoWinnerError
from kitae_marl.runs.own_code import trust_own_code
from kitae_marl.runs.store import folders
from kitae_marl.runs.terminal import say

if TYPE_CHECKING:
    from kitae_envs.trees import GameTree

    from kitae_marl.runs.agent import Agent

SMALL = 10_000
"""Moves of one joint step, at most, in games of which evaluation says the exact answers, too."""
SAMPLED, GREEDY = "as it samples", "most probable actions"
"""How a run acts."""


def exploit(options: Exploit) -> dict[str, Any]:
    """Say how much can be gained against runs."""
    seconds = None if options.budget is None else _seconds(options.budget)
    if options.games < 2:
        raise ConfigError(f"games: expected at least 2, got {options.games}.", "games")
    found = []
    for group in find_all(options.runs, options.runs_dir, policy=options.policy):
        _require_whole(group)
        for at in group.at:
            trust_own_code(at.path, options.allow_import)
            require_trust(group.game, options.allow_import)
            agent = _loaded(at)
            name = str(at)
            if seconds is None:
                answer = _exact(agent, group.game)
                say(f"{name} on {group.game}: exact, by all {answer['positions']} positions")
                say_exact(answer)
            else:
                answer = _trained(name, agent, group.game, seconds, options)
            found.append({"run_dir": str(at.path), **at.how, **answer})
    return found[0] if len(found) == 1 else {"results": found}


def _loaded(at: Any) -> Agent:
    """Load the agent of a run."""
    from kitae_marl.runs.agent import Agent

    return Agent.load(at.path, **at.how)


def _seconds(text: str) -> float:
    """Read the budget."""
    try:
        return read_seconds(text)
    except ValueError as error:
        raise ConfigError(f"budget: {error}.", "budget") from None


def _require_whole(group: SeedRuns) -> None:
    """Raise a ConfigError for runs that do not play all seats of the game as it is."""
    if not group.game.is_plain:
        raise ConfigError(
            f"run: expected one that plays all seats of a game as it is, got {group.name} on "
            f"{group.game}.",
            "run",
        )


def _exact(agent: Agent, game: GameSetup) -> dict[str, Any]:
    """Return what best responses gain, or say why that cannot be told exactly."""
    from kitae_marl.selfplay.exact.answers import tree_of

    try:
        tree = tree_of(_rules(game))
    except (ConfigError, ValueError, TypeError) as error:
        text = str(error).rstrip(".")
        raise ConfigError(
            f"{text}; --budget 10m trains an opponent against it instead.", "game"
        ) from error
    return _answers(agent, tree)


def _rules(game: GameSetup) -> Any:
    """Return the compiled rules of a game."""
    from kitae_marl.vector.adapters.compiled_games import make_game

    return make_game(game.env_id, **game.env_kwargs)


def _answers(agent: Agent, tree: GameTree) -> dict[str, Any]:
    """Return exact answers about an agent, by its most probable actions and, where its algorithm
    says how probable each action is, as it samples.
    """
    from kitae_marl.selfplay.exact.responses import gains
    from kitae_marl.selfplay.exact.strategies import strategy_of

    names = tree.game.possible_agents
    found: dict[str, Any] = {"positions": tree.n_positions}
    ways = (
        {GREEDY: False} if agent.algorithm.probabilities is None else {SAMPLED: True, GREEDY: False}
    )
    for how, sample in ways.items():
        one = gains(tree, strategy_of(agent, tree, sample=sample))
        # What the other one gets at best is what this one loses at worst: the games are zero-sum.
        worst = [value - gain for value, gain in zip(one.values, _lost(one), strict=True)]
        found[how] = {
            "exploitability": one.exploitability,
            "values": dict(zip(names, one.values, strict=True)),
            "worst": dict(zip(names, worst, strict=True)),
        }
    return found


def _lost(one: Any) -> tuple[float, float]:
    """Return what each seat loses where the other one plays its best response."""
    first, second = (r - v for r, v in zip(one.responses, one.values, strict=True))
    return second, first


def say_exact(answer: Mapping[str, Any]) -> None:
    """Show exact answers."""
    for how in [way for way in (SAMPLED, GREEDY) if way in answer]:
        one = answer[how]
        worst = ", ".join(f"{agent} {value:.4f}" for agent, value in one["worst"].items())
        say(f"  {how:22} exploitability {one['exploitability']:.4f}; at worst {worst}")


def exact_answers(runs: SeedRuns) -> list[dict[str, Any]]:
    """Return exact answers about each of some runs, where their game is small; else none."""
    from kitae_envs.trees import game_tree

    from kitae_marl.vector.adapters.compiled_games import twin_serves

    game = runs.game
    if not game.is_plain or not twin_serves(game.env_id, game.env_kwargs):
        return []
    try:
        tree = game_tree(_rules(game), SMALL)
    except ValueError:  # of another kind, or larger
        return []
    agents = [_loaded(at) for at in runs.at]
    if tree.game.perfect_information and agents[0].player().remembers:
        return []  # there positions have no past
    return [_answers(agent, tree) for agent in agents]


def _trained(
    name: str, agent: Agent, game: GameSetup, seconds: float, options: Exploit
) -> dict[str, Any]:
    """Train an opponent against a run for some time, and let it play."""
    from kitae_marl.evaluation.statistics import over_games
    from kitae_marl.selfplay.matches import play_match

    opponent, steps = _opponent(agent, game, seconds, options)
    how: dict[str, Any] = {"sample": True, "seed": options.seed, **game.env_kwargs}
    found = {"budget_s": seconds, "env_steps": steps, "games": options.games}
    try:
        match = play_match(opponent, agent, game.env_id, options.games, **how)
    except NoWinnerError:
        return {**found, **_by_side(name, opponent, agent, game, options)}
    scores = [g.score if g.first == "a" else 1 - g.score for g in match.independent()]
    score = over_games([scores])
    say(
        f"an opponent that was trained against {name} for {seconds:.0f} s ({steps} steps) scores "
        f"{score['mean']:.3f} ({score['low']:.3f} .. {score['high']:.3f}) in {options.games} games "
        "against it, half from each seat; a draw is 1/2"
    )
    return {**found, "score": score, "compared": match.compared}


def _by_side(
    name: str, opponent: Agent, agent: Agent, game: GameSetup, options: Exploit
) -> dict[str, Any]:
    """Say what each side of an opponent gets against a run, beside what the run's own side gets."""
    from kitae_marl.selfplay.cross_play import cross_play

    players: dict[str, Any] = {"opponent": opponent, name: agent}
    how: dict[str, Any] = {"sample": True, "seed": options.seed, **game.env_kwargs}
    crossed = cross_play(players, game.env_id, max(1, options.games // 4), **how)
    gained = {}
    for number, (side, means) in enumerate(crossed.returns.items()):
        theirs = means[0, 1] if number == 0 else means[1, 0]
        gained[side] = {"opponent": float(theirs), "own": float(means[1, 1])}
        say(f"  as {side} the opponent gets {theirs:.3f} against {name}, {name} {means[1, 1]:.3f}")
    return {"returns": gained}


def _opponent(agent: Agent, game: GameSetup, seconds: float, options: Exploit) -> tuple[Agent, int]:
    """Train an opponent against an agent that does not change."""
    from kitae_marl.config.opponents import Opponents
    from kitae_marl.runs.callbacks import Callback
    from kitae_marl.training import train

    class Budget(Callback):
        """Ends the training when its time is over."""

        def at_start(self, step: int, env: Any, agent: Any) -> None:
            self.end = time.monotonic() + seconds

        def after_update(self, step: int, metrics: Any, agent: Any) -> bool:
            return time.monotonic() >= self.end

    # The step size stays, for nobody knows how many steps there will be.
    trained = train(
        game.env_id,
        opponents=Opponents({"run": 1.0}, players={"run": agent}),
        env_kwargs=game.env_kwargs,
        anneal=False,
        learning_rate=1e-3,
        env_steps=10**9,
        n_envs=options.n_envs,
        seed=options.seed,
        max_episode_steps=game.max_episode_steps,
        callbacks=[Budget()],
    )
    return trained.agent, trained.summary["env_steps"]


def solve(options: Solve) -> dict[str, Any]:
    """Find a player against whom nobody gains, and keep it."""
    from kitae_marl.selfplay.exact import answers

    name = options.run or f"solved_{options.env_id.rpartition('/')[2].rpartition('-')[0]}"
    path = folders.run_path(options.runs_dir, name)
    folders.require_free(path, overwrite=options.overwrite)

    def tell(iteration: int, found: float) -> None:
        if iteration % 500 == 0:
            say(f"  {iteration} iterations, exploitability {found:.6f}")

    solved = answers.solve(
        options.env_id, options.target, options.max_iterations, tell, **options.env_kwargs
    )
    solved.agent.save(path, overwrite=options.overwrite)
    how = f"{solved.iterations} iterations of CFR+" if solved.iterations else "from its end"
    values = dict(zip(solved.agent.possible_agents, solved.values, strict=True))
    shown = ", ".join(f"{agent} {value:.4f}" for agent, value in values.items())
    say(f"{options.env_id} solved, {how}: exploitability {solved.exploitability:.6f}")
    if solved.exploitability > options.target:
        say(f"that is above the target of {options.target:g}; give more --max-iterations")
    say(f"what both seats get: {shown}")
    say(f"the player is in {path}; kitae-marl exploit {name}, and in a seat it is frozen:{name}")
    return {
        "run_dir": str(path),
        "exploitability": solved.exploitability,
        "iterations": solved.iterations,
        "values": values,
    }
