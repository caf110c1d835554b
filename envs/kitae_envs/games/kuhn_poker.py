"""Kuhn poker, ``kitae/kuhn_poker-v0``: the smallest poker with a known equilibrium.

==============  ================================================================================
agents          ``player_0`` (moves first), ``player_1``; turn-based
observation     Dict: ``observation`` float32 ``[7]``: own card (J, Q, K), own chips one-hot (1 or
                2), the other's chips one-hot; ``action_mask`` int8 ``[2]``. With ``history=True``
                6 more: for each of three moves, whether it was a pass or a bet, one-hot
global state    with ``history=True``, float32 ``[18]``: both cards, both seats' chips, one-hot, the
                moves and whose turn it is
action          Discrete(2): pass (check or fold), bet (bet or call)
reward          at the end the chips won or lost: 1 or 2
length          2 or 3 moves
version         v0 of this package; PettingZoo has no such game
equality shown  with a written-out table of all deals and moves; value -1/18 for ``player_0``
==============  ================================================================================

Kuhn (1950), "A Simplified Two-Person Poker". Both seats pay 1 and get one of three cards.
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np

from kitae_envs import render
from kitae_envs.games.two_player import BETS_UNSEEN, TwoPlayerGame, one_hot_row

PASS, BET = 0, 1
CARDS = "JQK"
DEALS = np.array(list(itertools.permutations(range(3), 2)), np.int32)
"""Every deal ``[6, 2]``, all equally likely: card of seat 0 and of seat 1."""


class KuhnState(NamedTuple):
    """State of the game.

    Attributes:
        cards: int32 ``[2]``, ranks of both seats (J 0, Q 1, K 2).
        chips: int32 ``[2]``, what each seat has put in.
        moves: int32 ``[3]``, move + 1 of each move so far, 0 where there is none.
        turn: int32, the seat to move.
        over: bool.
    """

    cards: jax.Array
    chips: jax.Array
    moves: jax.Array
    turn: jax.Array
    over: jax.Array


class KuhnPoker(TwoPlayerGame):
    """Kuhn poker.

    Args:
        history: add the moves so far to the observation, which then holds the whole information
            state of the mover; and have a global state, which shows both hands to central critics.
    """

    id: ClassVar[str] = "kitae/kuhn_poker-v0"

    def __init__(self, history: bool = False) -> None:
        box = gym.spaces.Box(0.0, 1.0, (13 if history else 7,), np.float32)
        super().__init__(("player_0", "player_1"), box, n_actions=2)
        self.history = history
        self.unseen = "" if history else BETS_UNSEEN

    @property
    def state_space(self) -> gym.Space | None:
        """Both hands, and all that was done; with history only."""
        return gym.spaces.Box(0.0, 1.0, (18,), np.float32) if self.history else None

    def start(self, key: jax.Array) -> KuhnState:
        """Deal two of three cards."""
        return self.deal(jnp.asarray(DEALS)[jax.random.randint(key, (), 0, len(DEALS))])

    def starts(self) -> tuple[Any, np.ndarray]:
        """Return the state after each deal; all are equally likely."""
        return jax.vmap(self.deal)(jnp.asarray(DEALS)), np.full(len(DEALS), 1 / len(DEALS))

    def deal(self, deal: jax.Array) -> KuhnState:
        """Return the state after a deal, a row of ``DEALS``."""
        zero = jnp.zeros((), jnp.int32)
        cards = jnp.asarray(deal, jnp.int32)
        antes, moves = jnp.ones(2, jnp.int32), jnp.zeros(3, jnp.int32)
        return KuhnState(cards, antes, moves, zero, jnp.asarray(False))

    def legal(self, state: KuhnState) -> jax.Array:
        """Both moves are always open."""
        return jnp.ones(2, bool) & ~state.over

    def play(self, state: KuhnState, move: jax.Array) -> tuple[KuhnState, jax.Array]:
        """Pass or bet. The game ends when a bet is answered or both pass."""
        mover = jnp.arange(2, dtype=jnp.int32) == state.turn
        count = jnp.sum(state.moves > 0)
        moves = jnp.where(jnp.arange(3) == count, move + 1, state.moves)
        chips = jnp.where(mover & (move == BET), 2, state.chips)
        bet_before = jnp.any(state.moves == BET + 1)
        over = bet_before | ((count == 1) & (move == PASS))
        folded = bet_before & (move == PASS)
        winner = jnp.where(folded, ~mover, state.cards == jnp.max(state.cards))
        stake = jnp.min(chips).astype(jnp.float32)
        payoff = jnp.where(over, jnp.where(winner, stake, -stake), 0.0)
        return KuhnState(state.cards, chips, moves, 1 - state.turn, over), payoff

    def seen(self, state: KuhnState) -> jax.Array:
        """Return the observations ``[2, 7]`` or ``[2, 13]``."""
        own = state.cards[:, None] == np.arange(3, dtype=np.int32)[None]
        mine = state.chips[:, None] == np.arange(1, 3, dtype=np.int32)[None]
        parts: list[Any] = [own, mine, mine[::-1]]
        if self.history:
            moves = state.moves[:, None] == np.arange(1, 3, dtype=np.int32)[None]
            parts.append(jnp.broadcast_to(moves.reshape(1, 6), (2, 6)))
        return jnp.concatenate(parts, axis=1).astype(jnp.float32)

    def global_state(self, state: KuhnState) -> Any:
        """Return both hands, chips, moves and whose turn it is, ``[18]``; ``()`` without."""
        if not self.history:
            return ()
        parts = (state.cards, 3), (state.chips - 1, 2), (state.moves - 1, 2), (state.turn, 2)
        return one_hot_row(*parts)

    def frame(self, state: KuhnState) -> np.ndarray:
        """Draw the table."""
        hands = [CARDS[int(rank)] for rank in np.asarray(state.cards)]
        turn = None if bool(state.over) else int(state.turn)
        chips = np.asarray(state.chips).tolist()
        said = " ".join(("pass", "bet")[int(m) - 1] for m in np.asarray(state.moves) if m)
        return render.cards(hands, None, chips, turn, self.possible_agents, said)
