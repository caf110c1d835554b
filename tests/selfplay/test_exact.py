"""What a policy gets at worst, beside a plain walk through all games of tic-tac-toe."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, cast

import numpy as np
import pytest
from kitae_envs import make
from kitae_envs.trees import game_tree

from kitae_marl.errors import ConfigError
from kitae_marl.selfplay.exact.answers import worst_case

TICTACTOE = "classic/tictactoe-v3"
LINES = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]
AGENTS = ["player_1", "player_2"]
Board = tuple[int, ...]


def outcome(board: Board) -> int | None:
    """Return who has won, 1 or -1; 0 for a draw, None while it is played."""
    for a, b, c in LINES:
        if board[a] and board[a] == board[b] == board[c]:
            return board[a]
    return None if 0 in board else 0


def after(board: Board, square: int) -> Board:
    """Return the board after the move of the one whose turn it is: 1 begins."""
    mark = 1 if board.count(0) % 2 else -1
    return (*board[:square], mark, *board[square + 1 :])


@cache
def best(board: Board) -> int:
    """Return the value of a board for the first player."""
    done = outcome(board)
    if done is not None:
        return done
    values = [best(after(board, i)) for i in range(9) if not board[i]]
    return max(values) if board.count(0) % 2 else min(values)


def perfect(board: Board) -> int:
    """Return the first of the best squares."""
    sign = 1 if board.count(0) % 2 else -1
    return max((i for i in range(9) if not board[i]), key=lambda i: sign * best(after(board, i)))


def arbitrary(seed: int) -> Any:
    """Return a rule that plays any square, the same on the same board."""

    def choose(board: Board) -> int:
        free = [i for i in range(9) if not board[i]]
        return free[hash((seed, *board)) % len(free)]

    return choose


def worst(choose: Any, sign: int, board: Board = (0,) * 9) -> int:
    """Return what a rule gets at worst as the player of this sign."""
    done = outcome(board)
    if done is not None:
        return sign * done
    if (1 if board.count(0) % 2 else -1) == sign:
        return worst(choose, sign, after(board, choose(board)))
    return min(worst(choose, sign, after(board, i)) for i in range(9) if not board[i])


def policy_of(choose: Any) -> Any:
    """Return a rule over boards as a policy over what the agents observe."""

    def policy(observations: Any, infos: Any) -> dict[str, np.ndarray]:
        actions = {}
        for agent, seen in observations.items():
            planes = np.asarray(seen["observation"]).reshape(-1, 9, 2)
            own, other = planes[..., 0], planes[..., 1]
            sign = 1 if agent == "player_1" else -1
            boards = (sign * (own.astype(int) - other)).tolist()
            turn = np.asarray(infos["active"][agent])
            actions[agent] = np.array(
                [choose(tuple(b)) if t else 0 for b, t in zip(boards, turn, strict=True)]
            )
        return actions

    return policy


@pytest.mark.parametrize("seat", AGENTS)
@pytest.mark.parametrize("rule", [perfect, *map(arbitrary, range(4))])
def test_it_is_what_a_walk_through_all_games_finds(rule: Any, seat: str) -> None:
    sign = 1 if seat == "player_1" else -1
    found = worst_case(policy_of(rule), make(TICTACTOE), seat)
    assert found.value == worst(rule, sign)
    board: Board = (0,) * 9  # the way that is told leads there
    moves = iter(found.actions)
    while (done := outcome(board)) is None:
        is_own = (1 if board.count(0) % 2 else -1) == sign
        board = after(board, rule(board) if is_own else next(moves))
    assert sign * done == found.value


def test_who_cannot_be_beaten_gets_a_draw_from_both_seats() -> None:
    game = make(TICTACTOE)
    assert [worst_case(policy_of(perfect), game, seat).value for seat in AGENTS] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("env_id", "seat", "message"),
    [
        ("mpe/simple_tag-v3", "agent_0", "two alike players"),
        ("kitae/kuhn_poker-v0", "player_0", "see everything"),
        (TICTACTOE, "player_9", "expected one of"),
    ],
)
def test_other_games_and_seats_are_refused(env_id: str, seat: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        worst_case(lambda observations, infos: {}, make(env_id), seat)


def test_a_game_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    small = partial(game_tree, max_positions=20)
    monkeypatch.setattr("kitae_marl.selfplay.exact.answers.game_tree", small)
    with pytest.raises(ConfigError, match="at most 20 positions"):
        worst_case(policy_of(arbitrary(0)), make(TICTACTOE), "player_2")


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (9, "expected an action of"),
        (-1, "expected an action of"),
        (0.0, "whole numbers .* for player_1"),
        (None, "player_1 among them"),
    ],
)
def test_what_the_policy_chooses_is_checked(action: Any, message: str) -> None:
    def policy(observations: Any, infos: Any) -> Any:
        n = len(infos["active"]["player_1"])
        return {"player_2": 0} if action is None else {"player_1": np.full(n, action)}

    with pytest.raises(ValueError, match=message):
        worst_case(policy, "classic/tictactoe-v3", "player_1")


def test_policies_and_games_of_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="or a policy"):
        worst_case(cast(Any, "runs/first"), "classic/tictactoe-v3", "player_1")
    with pytest.raises(TypeError, match="expected the id of a game"):
        worst_case(lambda *seen: {}, cast(Any, 3), "player_1")
