"""This file lets two players meet, from both seats, in the original game.

A *win* is what the returns of the two sides say: the side that got more in a game has won it. That
holds for games that are zero-sum, and for games whose sides are alike (equal spaces), where getting
more than the other one may be compared, though it need not be what they play for. Other games have
no winner, nor have those in which both always get the same; what the sides of such games get is
told by ``cross_play``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from kitae_marl.errors import NoWinnerError
from kitae_marl.evaluation.playing import evaluate, sides_of
from kitae_marl.evaluation.results import Evaluation
from kitae_marl.players.policies import seated
from kitae_marl.selfplay.ratings import PlayedGame
from kitae_marl.selfplay.seat_takers import NamedGame, SeatTaker, SomePlayer, seat_taker
from kitae_marl.vector.adapters.as_parallel import require_vector
from kitae_marl.vector.make import make_vec_env
from kitae_marl.vector.protocol import VecParallelEnv

Compared = Literal["wins", "returns"]
COMPARED = {
    "wins": "wins: the games are zero-sum",
    "returns": "returns: who got more in a game has won it, though the games are not zero-sum",
}
"""What a score says, in words."""
N_ENVS = 16
"""Games side by side."""
_EQUAL = 1e-6
"""Returns that differ by less are a draw."""


class Match(NamedTuple):
    """Games of two players.

    Attributes:
        players: who they are.
        games: those played; the first half with the first player in the first seat.
        distinct: how many of each half differ from the others of it.
        compared: what the scores say: ``wins`` or ``returns``.
    """

    players: tuple[str, str]
    games: list[PlayedGame]
    distinct: tuple[int, int]
    compared: Compared

    def independent(self) -> list[PlayedGame]:
        """Return the games that say something: where all of a half are one and the same, only one.

        Neither players nor game left anything to chance there, so they would be the same for ever.
        Where two of a half differ there is chance, and every game of it counts.
        """
        half = (len(self.games) + 1) // 2
        return [
            game
            for part, distinct in zip(
                (self.games[:half], self.games[half:]), self.distinct, strict=True
            )
            for game in part[: 1 if distinct == 1 else None]
        ]


def play_match(
    a: SomePlayer,
    b: SomePlayer,
    game: str | VecParallelEnv,
    n_games: int,
    *,
    seed: int = 0,
    sample: bool = False,
    n_workers: int | None = 0,
    runs_dir: str | Path = "runs",
    **env_kwargs: Any,
) -> Match:
    """Let two players meet, half of the games from each seat.

    Args:
        a: ``"random"``, ``"bot:NAME"`` (a name that there is not lists those there are), a run by
            path or name, ``"RUN@STEP"``, an ``Agent``, a ``Player``, ``frozen(...)``, or a function
            ``(observations, infos) -> actions`` over a vector of games.
        b: likewise.
        game: id of a game of two sides, which is played in the original, not on a twin; or a vector
            of such games, which is left open. Sides are two agents, or two groups of agents.
        n_games: games to play; of an odd number ``a`` has the first seat once more.
        seed: of the games and of what is drawn.
        sample: let trained players sample their actions as in training, instead of taking the most
            probable ones; ``frozen(...)`` says that itself.
        n_workers: processes that step the games; 0: this one; None: one per core.
        runs_dir: folder that holds the runs.
        **env_kwargs: arguments of the game.

    Raises:
        ConfigError: for a bot that there is not, and a player who does not know all seats.
        NoCheckpointError: for a run that there is not.
        TypeError: for what is no player, and no game.
        NoWinnerError: for a game in which a win means nothing.
        ValueError: for a game without two sides.

    Example:
        >>> match = play_match("bot:one_ply", "random", "classic/tictactoe-v3", 20)
        >>> len(match.games), match.games[0].first, match.games[10].first, match.compared
        (20, 'bot:one_ply', 'random', 'wins')
        >>> sum(g.score if g.first == "bot:one_ply" else 1 - g.score for g in match.games) > 12
        True
    """
    names = [player if isinstance(player, str) else name for player, name in ((a, "a"), (b, "b"))]
    with_names = list(zip(names, (a, b), strict=True))
    arena = Arena(game, n_games, seed, sample, n_workers, runs_dir, env_kwargs)
    try:
        return arena.play(*(arena.seat_taker(name, player) for name, player in with_names))
    finally:
        arena.close()


class Arena:
    """Where matches are played: one vector of games, and how to play them.

    Args:
        game: as for ``play_match``, as all others; or a vector of which is said what it is.

    Raises:
        ValueError: if the game has no two sides.
    """

    def __init__(
        self,
        game: str | VecParallelEnv | NamedGame,
        n_games: int,
        seed: int,
        sample: bool,
        n_workers: int | None,
        runs_dir: str | Path,
        env_kwargs: Mapping[str, Any],
    ) -> None:
        if not isinstance(n_games, int) or n_games < 1:
            raise ValueError(f"games: expected a whole number, at least 1, got {n_games!r}.")
        self._n_games, self._sample, self._runs_dir = n_games, sample, runs_dir
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed: expected a whole number, at least 0, got {seed!r}.")
        self._seeds = np.random.SeedSequence(seed)
        self._owns = isinstance(game, str)
        if isinstance(game, str):
            n_envs = min(N_ENVS, (n_games + 1) // 2)
            env = make_vec_env(game, n_envs, n_workers=n_workers, **env_kwargs)
            game = NamedGame(env, game, env_kwargs)
        named = isinstance(game, NamedGame)
        self._game = game if named else NamedGame(require_vector(game), None, {})
        self._env, self._id = self._game.env, self._game.env_id
        try:
            self._sides = self._two_sides()
        except ValueError:
            self.close()
            raise

    def close(self) -> None:
        """Close the games, if they were made here."""
        if self._owns:
            self._env.close()

    def _two_sides(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the agents of the two sides: two agents, or two groups of them."""
        agents = self._env.possible_agents
        sides = [(agent,) for agent in agents] if len(agents) == 2 else sides_of(self._env)
        if len(sides) != 2:
            raise ValueError(
                f"expected a game of two sides, got {len(sides)} in {self._id or 'this one'}: "
                f"{sides}; of such games `kitae-marl evaluate RUN --against OTHER` tells the "
                "returns."
            )
        return sides[0], sides[1]

    def seat_taker(self, name: str, player: SomePlayer) -> SeatTaker:
        """Return a player who can take either seat, made sure to know both."""
        how = {"sample": self._sample, "runs_dir": self._runs_dir}
        return seat_taker(name, player, self._game, **how)

    def play(self, a: SeatTaker, b: SeatTaker) -> Match:
        """Play one match."""
        half = (self._n_games + 1) // 2
        halves = [(a, b, half), (b, a, self._n_games - half)]
        parts = [(pair, self._play_half(*pair)) for pair in halves if pair[2]]
        returns = np.concatenate([self._side_returns(part) for _, part in parts])
        compared = self._compared(returns)
        games = [
            PlayedGame(first.name, second.name, score_of(*both), (float(both[0]), float(both[1])))
            for (first, second, _), part in parts
            for both in self._side_returns(part)
        ]
        distinct = [_distinct(part) for _, part in parts]
        return Match((a.name, b.name), games, (distinct[0], (*distinct, 0)[1]), compared)

    def returns(self, first: SeatTaker, second: SeatTaker) -> np.ndarray:
        """Play all games with these sides; return what each side got, ``[games, 2]``."""
        return self._side_returns(self._play_half(first, second, self._n_games))

    def named_sides(self) -> dict[str, tuple[str, ...]]:
        """Return the agents of both sides by the name of their group, or of the one agent."""
        groups = {group.agents: group.name for group in self._env.groups}
        return {groups.get(side, side[0]): side for side in self._sides}

    def _play_half(self, first: SeatTaker, second: SeatTaker, n_games: int) -> Evaluation:
        """Play games with one of the two in the first seat."""
        seeds = self._seeds.spawn(1)[0].generate_state(3) >> 1  # which fit into 31 bits
        policies = {}
        for side, taker, seed in zip(self._sides, (first, second), seeds[1:], strict=True):
            policy = taker.policy(side, int(seed))
            policies |= dict.fromkeys(side, policy)
        return evaluate(seated(policies), self._env, n_games, seed=int(seeds[0]))

    def _side_returns(self, played: Evaluation) -> np.ndarray:
        """Return what each side got, the mean over its agents, ``[games, 2]``."""
        return np.stack(
            [np.mean([played.returns[a] for a in side], axis=0) for side in self._sides], axis=1
        )

    def _compared(self, returns: np.ndarray) -> Compared:
        """Say what a win means, by the returns ``[games, 2]`` of a match.

        Raises:
            NoWinnerError: if it means nothing.
        """
        sizes = np.array([len(side) for side in self._sides])
        if any(np.all(np.abs((returns * w).sum(axis=1)) < _EQUAL) for w in (1, sizes)):
            return "wins"
        words = self._id or "this one"
        if np.all(np.abs(returns[:, 0] - returns[:, 1]) < _EQUAL):
            raise NoWinnerError(
                f"expected a game that somebody can win, got {words}, where both sides got the "
                "same in every game; cross_play and `kitae-marl tournament` tell how much."
            )
        first, second = self._sides
        alike = len(first) == len(second) and all(
            space(one) == space(other)
            for one, other in zip(first, second, strict=True)
            for space in (self._env.observation_space, self._env.action_space)
        )
        if not alike:
            raise NoWinnerError(
                f"expected a zero-sum game or one whose sides are alike, got {words}: returns of "
                f"{first} and {second} do not add up to 0, and what different sides get cannot be "
                "compared; cross_play and `kitae-marl tournament` tell the returns of each."
            )
        return "returns"


def score_of(first: float, second: float) -> float:
    """Score of the first."""
    if abs(first - second) < _EQUAL:
        return 0.5
    return float(first > second)


def _distinct(played: Evaluation) -> int:
    """Count the games that differ from each other."""
    return min(played.distinct()[agent] for agent in played.returns)
