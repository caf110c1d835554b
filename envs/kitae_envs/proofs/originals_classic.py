"""How to build and read PettingZoo's board and card games."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kitae_envs.proofs.originals import Fields, Move, Original, advance, look


def _classic(id: str) -> Callable[..., Any]:
    def build(**kwargs: Any) -> Any:
        return importlib.import_module("pettingzoo").make("aec", id, **kwargs)

    return build


def _turn(env: Any) -> Fields:
    raw = env.unwrapped
    over = any(raw.terminations.values()) or any(raw.truncations.values())
    seat = raw.possible_agents.index(raw.agent_selection)
    return {"turn": np.int32(seat), "over": np.bool_(over)}


def _read_tictactoe(env: Any) -> Fields:
    squares = env.unwrapped.board.squares
    marks = [sum(1 << i for i in range(9) if squares[i] == seat) for seat in (1, 2)]
    return {"marks": np.array(marks, np.int32), **_turn(env)}


def _every_tictactoe(env: Any, original: Original) -> Iterator[Move]:
    """Play every legal move and an illegal one in every reachable position."""
    open_positions, known, raw = [(0,) * 9], {(0,) * 9}, env.unwrapped
    while open_positions:
        squares = open_positions.pop()
        before = None
        taken = [i for i in range(9) if squares[i]]
        for move in [*(i for i in range(9) if not squares[i]), *taken[-1:]]:
            env.reset()
            raw.board.squares = list(squares)
            if len(taken) % 2:
                raw.agent_selection = raw._agent_selector.next()
            before = before or look(original, env)
            result = advance(original, env, before, dict.fromkeys(raw.possible_agents, move))
            yield result
            after = tuple(raw.board.squares)
            if any(result.after.active.values()) and after not in known:
                known.add(after)
                open_positions.append(after)


def _read_connect_four(env: Any) -> Fields:
    board = np.array(env.unwrapped.board).reshape(6, 7)
    heights = np.arange(5, -1, -1)[:, None]
    tokens = [((board == seat) << heights).sum(0) for seat in (1, 2)]
    return {"tokens": np.array(tokens, np.int32), **_turn(env)}


def _rps(**kwargs: Any) -> Any:
    return importlib.import_module("pettingzoo").make("parallel", "classic/rps-v2", **kwargs)


def _read_rps(env: Any) -> Fields:
    raw = env.unwrapped
    last = [int(raw.observations[agent]) for agent in raw.possible_agents[::-1]]
    return {"last": np.array(last, np.int32), "moves": np.int32(raw.num_moves)}


def _build_leduc(*, history: bool = False, **kwargs: Any) -> Any:
    """Build Leduc."""
    if history:
        raise ValueError(
            "expected history=False: the original shows no bets that were made, so that there is "
            "nothing to compare them with."
        )
    return _classic("classic/leduc_holdem-v4")(**kwargs)


def _read_leduc(env: Any) -> Fields:
    raw = env.unwrapped
    game = raw.env.game
    table = game.public_card or game.dealer.deck[-1]
    cards = [*(player.hand for player in game.players), table]
    over = _turn(env)["over"]
    return {
        "cards": np.array(["JQK".index(card.rank) for card in cards], np.int32),
        "chips": np.array([player.in_chips for player in game.players], np.int32),
        "raised": np.array(game.round.raised, np.int32),
        "raises": np.int32(game.round.have_raised),
        "agreed": np.int32(game.round.not_raise_num),
        "round": np.int32(game.round_counter),
        "turn": np.int32(0 if any(raw.truncations.values()) else game.game_pointer),
        "over": over,
    }


class _Rigged:
    """Stands in for RLCard's random generator: deals what it is told."""

    def __init__(self, order: Sequence[int], blind: int) -> None:
        self._order, self._blind = order, blind

    def shuffle(self, deck: list[Any]) -> None:
        cards = [deck[i] for i in self._order]
        deck[:] = [card for card in deck if card not in cards] + cards[::-1]

    def randint(self, low: int, high: int) -> int:
        return self._blind


def _every_leduc(env: Any, original: Original) -> Iterator[Move]:
    """Play every sequence of bets, and every illegal one, after every deal.

    Deals that differ only in suits are one: no rule and no observation reads a suit.
    """
    deals = {tuple(card // 2 for card in d): d for d in itertools.permutations(range(6), 3)}
    for order in deals.values():
        for blind in (0, 1):
            open_paths: list[list[int]] = [[]]
            while open_paths:
                path, before = open_paths.pop(), None
                for move in range(4):
                    env.unwrapped.env.game.np_random = _Rigged(order, blind)
                    env.reset()
                    for bet in path:
                        env.unwrapped.step(bet)
                    before = before or look(original, env)
                    action = dict.fromkeys(env.possible_agents, move)
                    result = advance(original, env, before, action)
                    yield result
                    if any(result.after.active.values()):
                        open_paths.append([*path, move])


ORIGINALS: dict[str, Original] = {
    "classic/tictactoe-v3": Original(
        _classic("classic/tictactoe-v3"), _read_tictactoe, True, every_move=_every_tictactoe
    ),
    "classic/connect_four-v3": Original(
        _classic("classic/connect_four-v3"), _read_connect_four, True
    ),
    "classic/rps-v2": Original(_rps, _read_rps),
    "classic/leduc_holdem-v4": Original(
        _build_leduc, _read_leduc, True, True, every_move=_every_leduc
    ),
}
"""The originals of the board and card games."""
