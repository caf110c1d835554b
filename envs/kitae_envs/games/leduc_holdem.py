"""Leduc hold'em as RLCard deals it and PettingZoo plays it, ``classic/leduc_holdem-v4``.

==============  ================================================================================
agents          ``player_0``, ``player_1``; turn-based; a random seat has the small blind (1, the
                other seat 2) and moves first
observation     Dict: ``observation`` float32 ``[36]``: own card (J, Q, K), card on the table, own
                chips one-hot (0 to 14), the other's chips one-hot; ``action_mask`` int8 ``[4]``.
                With ``history=True`` 32 more: in each of two rounds, for each of four bets, which
                action it was, one-hot
global state    with ``history=True``, float32 ``[73]``: the cards of both seats and of the table,
                also before it is shown, both seats' chips, one-hot, the bets, whose turn it is
action          Discrete(4): call, raise, fold, check
reward          at the end the chips won or lost, halved
length          1 to 8 moves; an illegal move ends it (-1 for its seat, 0 for the other)
version         v4 of PettingZoo (RLCard 1.0.3 and later)
differences     the idle seat's mask is all zeros; PettingZoo gives both seats the mover's mask
equality shown  exactly, over every deal and every sequence of bets
==============  ================================================================================

Two rounds of betting, raises of 2 and then 4, at most two in a round; in between a card comes onto
the table. A pair with it wins, else the higher card; equal cards share.
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

CALL, RAISE, FOLD, CHECK = range(4)
CARDS = "JQK"
DEALS = np.array(
    [
        [a // 2, b // 2, c // 2, blind]
        for a, b, c in itertools.permutations(range(6), 3)
        for blind in (0, 1)
    ],
    np.int32,
)
"""Every deal ``[240, 4]``, all equally likely: cards of seat 0, seat 1 and table; who opens."""


class LeducState(NamedTuple):
    """State of the game.

    Attributes:
        cards: int32 ``[3]``, ranks (J 0, Q 1, K 2) of seat 0, of seat 1 and of the table, which is
            dealt at the start and seen from the second round on.
        chips: int32 ``[2]``, what each seat has put in.
        raised: int32 ``[2]``, what each seat has put in towards this round's bets.
        raises: int32, raises in this round.
        agreed: int32, moves in a row without a new raise, the raise itself included.
        round: int32, 0 or 1; 2 at a showdown.
        turn: int32, the seat to move.
        over: bool.
        bets: int8 ``[2, 4]``, action + 1 of each bet so far, 0 where there is none; ``()`` without
            history.
    """

    cards: jax.Array
    chips: jax.Array
    raised: jax.Array
    raises: jax.Array
    agreed: jax.Array
    round: jax.Array
    turn: jax.Array
    over: jax.Array
    bets: Any


class LeducHoldem(TwoPlayerGame):
    """Leduc hold'em.

    Args:
        history: add the betting history to the observation, which then holds the whole
            information state of the mover; and have a global state, which shows central critics
            all cards.
    """

    id: ClassVar[str] = "classic/leduc_holdem-v4"

    def __init__(self, history: bool = False) -> None:
        size = 36 + (32 if history else 0)
        box = gym.spaces.Box(0.0, 1.0, (size,), np.float32)
        super().__init__(("player_0", "player_1"), box, n_actions=4)
        self.history = history
        self.unseen = "" if history else BETS_UNSEEN
        self.blinds = (1, 2)
        self.raise_amounts = (2, 4)
        self.max_raises = 2
        self.chip_value = 0.5

    @property
    def state_space(self) -> gym.Space | None:
        """All cards, and all that was done; with history only."""
        return gym.spaces.Box(0.0, 1.0, (73,), np.float32) if self.history else None

    def start(self, key: jax.Array) -> LeducState:
        """Deal the cards and the blinds."""
        draw = jax.random.randint(key, (), 0, len(DEALS))
        return self.deal(jnp.asarray(DEALS)[draw])

    def starts(self) -> tuple[Any, np.ndarray]:
        """Return the state after each deal; all are equally likely."""
        return jax.vmap(self.deal)(jnp.asarray(DEALS)), np.full(len(DEALS), 1 / len(DEALS))

    def deal(self, deal: jax.Array) -> LeducState:
        """Return the state after a deal, a row of ``DEALS``."""
        opener = jnp.asarray(deal[3], jnp.int32)
        seats = jnp.arange(2, dtype=jnp.int32)
        chips = jnp.where(seats == opener, self.blinds[0], self.blinds[1]).astype(jnp.int32)
        zero = jnp.zeros((), jnp.int32)
        bets = jnp.zeros((2, 4), jnp.int8) if self.history else ()
        cards = jnp.asarray(deal[:3], jnp.int32)
        return LeducState(cards, chips, chips, zero, zero, zero, opener, jnp.asarray(False), bets)

    def legal(self, state: LeducState) -> jax.Array:
        """Call what is behind, check what is even, raise twice a round, fold at any time."""
        raised = state.raised
        behind = jnp.where(state.turn == 0, raised[0] < raised[1], raised[1] < raised[0])
        may_raise = state.raises < self.max_raises
        return jnp.stack([behind, may_raise, jnp.ones((), bool), ~behind]) & ~state.over

    def play(self, state: LeducState, move: jax.Array) -> tuple[LeducState, jax.Array]:
        """Bet, and at the end of a round show the card or compare hands."""
        mover = jnp.arange(2, dtype=jnp.int32) == state.turn
        stake = jnp.max(state.raised)
        amount = jnp.where(state.round == 0, *self.raise_amounts)
        level = jnp.where(move == RAISE, stake + amount, stake)
        pays = mover & ((move == CALL) | (move == RAISE))
        raised = jnp.where(pays, level, state.raised)
        chips = state.chips + raised - state.raised
        agreed = jnp.where(move == RAISE, 1, state.agreed + 1)
        folded = move == FOLD
        closed = ~folded & (agreed >= 2)
        after = LeducState(
            cards=state.cards,
            chips=chips,
            raised=jnp.where(closed, 0, raised),
            raises=jnp.where(closed, 0, state.raises + (move == RAISE)),
            agreed=jnp.where(closed, 0, jnp.where(folded, state.agreed, agreed)),
            round=state.round + closed,
            turn=1 - state.turn,
            over=folded | (closed & (state.round == 1)),
            bets=self._record(state, move),
        )
        return after, jnp.where(after.over, self._payoff(after, folded, mover), 0.0)

    def _record(self, state: LeducState, move: jax.Array) -> Any:
        """Write a bet into the history."""
        if not self.history:
            return ()
        place = jnp.sum(state.bets > 0, axis=1)  # bets made in each round
        free = jnp.arange(4)[None] == place[:, None]
        now = jnp.arange(2)[:, None] == state.round
        return jnp.where(free & now, (move + 1).astype(jnp.int8), state.bets)

    def _payoff(self, state: LeducState, folded: jax.Array, mover: jax.Array) -> jax.Array:
        """Return what both seats win, ``[2]``."""
        hands, table = state.cards[:2], state.cards[2]
        strength = jnp.where(hands == table, len(CARDS), hands)
        best = strength == jnp.max(strength)
        winners = jnp.where(folded, ~mover, best).astype(jnp.float32)
        pot = jnp.sum(state.chips).astype(jnp.float32)
        won = winners * pot / jnp.sum(winners) - state.chips.astype(jnp.float32)
        return won * self.chip_value

    def seen(self, state: LeducState) -> jax.Array:
        """Return the observations ``[2, 36]`` or ``[2, 68]``."""
        ranks = np.arange(3, dtype=np.int32)
        own = state.cards[:2, None] == ranks[None]
        table = (state.cards[2] == ranks) & (state.round > 0)
        table = jnp.broadcast_to(table[None], (2, 3))
        counts = np.arange(15, dtype=np.int32)[None]
        mine = state.chips[:, None] == counts
        parts = [own, table, mine, mine[::-1]]
        if self.history:
            bets = state.bets[..., None] == np.arange(1, 5, dtype=np.int8)[None, None]
            parts.append(jnp.broadcast_to(bets.reshape(1, 32), (2, 32)))
        return jnp.concatenate(parts, axis=1).astype(jnp.float32)

    def global_state(self, state: LeducState) -> Any:
        """Return cards, chips, bets and whose turn it is, ``[73]``; ``()`` without history.

        The card on the table is there from the start: critics may know what chance will bring.
        """
        if not self.history:
            return ()
        parts = (state.cards, 3), (state.chips, 15), (state.bets - 1, 4), (state.turn, 2)
        return one_hot_row(*parts)

    def frame(self, state: LeducState) -> np.ndarray:
        """Draw the table."""
        cards = [CARDS[int(rank)] for rank in np.asarray(state.cards)]
        over = bool(state.over)
        table = cards[2] if int(state.round) > 0 else ""
        turn = None if over else int(state.turn)
        chips = np.asarray(state.chips).tolist()
        return render.cards(cards[:2], table, chips, turn, self.possible_agents)
