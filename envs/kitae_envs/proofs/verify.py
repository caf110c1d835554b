"""Prove that a compiled game is the game it claims to be.

The original is played at random; before every move the compiled game is put into the original's
state (goals, deals and positions are read from it), both make the same move, and everything that
came of it is compared for every agent. Board and card games must agree exactly, which by induction
makes whole games equal; tic-tac-toe and Leduc are played out in full. Games of particles must
agree within a tolerance at each step. First states and random games are compared in distribution.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import kitae_envs
from kitae_envs.core import Game, TimeStep
from kitae_envs.proofs.originals import Move, Original, original_of, play
from kitae_envs.proofs.report import Check, Mismatch, Report
from kitae_envs.proofs.samples import KS_LIMIT, PAIR_LIMIT, gap, pair_gap
from kitae_envs.sampling import sample_actions

QUICK = {"xla_backend_optimization_level": 0}
"""Compile in half the time what runs once."""
CHUNK = 16_384
"""Moves that are compared at once."""


def verify(
    id: str,
    *,
    episodes: int | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    exhaustive: bool = False,
    starts: int = 2000,
    game: Game | None = None,
    **kwargs: Any,
) -> Report:
    """Compare a compiled game with its original.

    Args:
        id: the game.
        episodes: random games of the original; by default 100, or 1,000 for board games.
        seed: of the random games.
        tolerance: by default 1e-5 for games of particles, 0 for all others.
        exhaustive: play every move of every position; tic-tac-toe and Leduc only.
        starts: first states of the original to compare in distribution; 0: none.
        game: the compiled game, if it is not the one that ``make(id, **kwargs)`` builds.
        **kwargs: keyword arguments of the game.

    Returns:
        The report; ``report.ok`` says whether all is equal.

    Raises:
        ValueError: if the game has no original, or cannot be played out in full.
    """
    name = kitae_envs.resolve(id) or id
    original = original_of(name)
    if original is None:
        raise ValueError(f"expected a game with an original, got {id!r}, which has none.")
    if exhaustive and original.every_move is None:
        raise ValueError(f"{name} is too large to be played out in full; leave exhaustive out.")
    compiled = kitae_envs.make(name, **kwargs) if game is None else game
    if tolerance is None:
        tolerance = 1e-5 if name.startswith("mpe/") else 0.0
    report = Report(name, kwargs, tolerance, exhaustive)
    env = original.build(**kwargs)
    with _silence():
        if not _same_spaces(compiled, env, report):
            return report
        returns: list[list[float]] = []
        moves = _moves(original, env, report, episodes, seed, returns)
        program = _program(compiled)
        while chunk := list(itertools.islice(moves, CHUNK)):
            _compare(compiled, program, chunk, report)
        if starts and not report.mismatches:
            _compare_starts(compiled, original, env, report, starts, seed)
        if starts and report.ok:
            _compare_returns(compiled, returns, report)
    env.close()
    return report


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep PettingZoo from printing about illegal moves, which are made on purpose."""
    logger = importlib.import_module("pettingzoo.utils.env_logger").EnvLogger
    logger.suppress_output()
    try:
        yield
    finally:
        logger.unsuppress_output()


def _same_spaces(game: Game, env: Any, report: Report) -> bool:
    """Compare agents and spaces."""

    def compare(name: str, agent: str, expected: Any, got: Any) -> None:
        if expected != got:
            report.mismatches.append(Mismatch(name, agent, 0, str(expected), str(got)))

    compare("agents", "", tuple(env.possible_agents), game.possible_agents)
    if not report.mismatches:
        for a in game.possible_agents:
            compare("observation space", a, env.observation_space(a), game.observation_space(a))
            compare("action space", a, env.action_space(a), game.action_space(a))
        compare("state space", "", getattr(env.unwrapped, "state_space", None), game.state_space)
    return not report.mismatches


def _moves(
    original: Original,
    env: Any,
    report: Report,
    episodes: int | None,
    seed: int,
    returns: list[list[float]],
) -> Iterator[Move]:
    """Play the original move by move; append each agent's return in legal games to ``returns``."""
    if report.exhaustive and original.every_move is not None:
        yield from original.every_move(env, original)
        return
    rng = np.random.default_rng(seed)
    for episode in range(episodes or (100 if report.tolerance else 1000)):
        wild = episode % 2 == 1
        played = play(original, env, rng, wild)
        yield from played
        report.episodes += 1
        if not wild:
            returns.append([sum(m.reward[a] for m in played) for a in env.possible_agents])


def _program(game: Game) -> Callable[..., Any]:
    """Return the compiled game's side: what is seen before a batch of moves, and what after it."""
    return jax.jit(
        lambda *inputs: (jax.vmap(game.observe)(inputs[1]), jax.vmap(game.step)(*inputs)),
        compiler_options=QUICK,
    )


def _compare(game: Game, program: Callable[..., Any], moves: list[Move], report: Report) -> None:
    """Make moves in the compiled game, all at once, and compare everything."""
    template = jax.eval_shape(game.start, jax.random.key(0))
    fields = [name for name in template._fields if name in moves[0].before.state]
    values = {n: jnp.asarray(np.stack([m.before.state[n] for m in moves])) for n in fields}
    action = {
        group: jnp.asarray(np.stack([[move.action[a] for a in agents] for move in moves]))
        for group, agents in game.groups.items()
    }
    keys = jax.random.split(jax.random.key(0), len(moves))
    views, (after, step) = program(keys, template._replace(**values), action)
    check = Check(report, first=report.moves)
    report.moves += len(moves)
    for name in fields:
        expected = np.stack([move.after.state[name] for move in moves])
        check(f"state.{name}", "", expected, getattr(after, name))
    if game.state_space is not None:
        check("state()", "", np.stack([m.after.summary for m in moves]), step.next_state)
    for group, agents in game.groups.items():
        for i, agent in enumerate(agents):
            _compare_agent(check, moves, agent, _row(views, group, i), _row(step, group, i))


def _row(record: Any, group: str, i: int) -> dict[str, Any]:
    """Pick one agent out of a View or TimeStep."""
    names = [n for n in record._fields if n not in ("over", "state", "next_state")]
    values = {n: getattr(record, n)[group] for n in names}
    return {n: jax.tree.map(lambda leaf: np.asarray(leaf)[:, i], v) for n, v in values.items()}


def _compare_agent(
    check: Check, moves: list[Move], agent: str, view: dict[str, Any], step: dict[str, Any]
) -> None:
    """Compare what one agent saw before and after each move, and what it got."""
    for when, seen in (("before", view), ("after", step)):
        frames = [getattr(move, when) for move in moves]
        expected = [frame.observation[agent] for frame in frames]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *expected)
        if isinstance(stacked, dict):
            for key in stacked:
                check(f"observation[{key}]", agent, stacked[key], seen["observation"][key])
            check("action_mask", agent, stacked["action_mask"], seen["action_mask"])
        else:
            check("observation", agent, stacked, seen["observation"])
        active = np.array([frame.active[agent] for frame in frames])
        check("active", agent, active, seen["active"])
    check("reward", agent, np.array([m.reward[agent] for m in moves]), step["reward"])
    for flag in ("terminated", "truncated"):
        check(flag, agent, np.array([getattr(m, flag)[agent] for m in moves]), step[flag])


def _compare_starts(
    game: Game, original: Original, env: Any, report: Report, count: int, seed: int
) -> None:
    """Compare the distributions of first states: each coordinate, and any two of them together."""
    fields: list[dict[str, Any]] = []
    env.reset(seed=seed)
    for _ in range(count):
        env.unwrapped.reset()
        fields.append(original.read(env))
    keys = jax.random.split(jax.random.key(seed), 4 * count)
    ours = jax.jit(jax.vmap(game.start))(keys)
    theirs = {n: np.stack([f[n] for f in fields]).reshape(count, -1) for n in fields[0]}
    mine = {n: np.asarray(getattr(ours, n)).reshape(4 * count, -1) for n in theirs}
    for name in theirs:
        values = [gap(a, b) for a, b in zip(theirs[name].T, mine[name].T, strict=True)]
        report.distributions[f"first {name}"] = (max(values, default=0.0), KS_LIMIT)
    whole = (np.concatenate(list(part.values()), axis=1) for part in (theirs, mine))
    report.distributions["pairs of first values"] = (pair_gap(*whole), PAIR_LIMIT)


def _compare_returns(game: Game, returns: list[list[float]], report: Report) -> None:
    """Compare the distributions of each agent's return in random legal games."""
    if not returns:
        return
    theirs = np.array(returns)
    ours = random_returns(game, jax.random.key(1), 2048)
    for i, agent in enumerate(game.possible_agents):
        value = gap(theirs[:, i], ours[agent])
        report.distributions[f"random return of {agent}"] = (value, KS_LIMIT)


def random_returns(
    game: Game, key: jax.Array, n_games: int, limit: int = 256
) -> dict[str, np.ndarray]:
    """Play random legal games in the compiled game.

    Args:
        game: the game.
        key: for starts, chance and actions.
        n_games: number of games, played side by side.
        limit: joint steps after which a game is cut.

    Returns:
        Each agent's undiscounted return in each game, ``{agent: [n_games]}``.
    """

    @jax.jit
    def advance(key: jax.Array, state: Any, step: TimeStep, total: Any, over: jax.Array) -> Any:
        draw, chance = jax.random.split(key)
        action = sample_actions(game, draw, step)
        state, step = jax.vmap(game.step)(jax.random.split(chance, n_games), state, action)
        total = {g: total[g] + jnp.where(over[:, None], 0.0, r) for g, r in step.reward.items()}
        return state, step, total, over | step.over

    start, key = jax.random.split(key)
    state, step = jax.jit(jax.vmap(game.init))(jax.random.split(start, n_games))
    total, over = step.reward, step.over
    for t in range(limit):
        if bool(over.all()):
            break
        state, step, total, over = advance(jax.random.fold_in(key, t), state, step, total, over)
    return {
        agent: np.asarray(total[group])[:, i]
        for group, agents in game.groups.items()
        for i, agent in enumerate(agents)
    }
