"""Kuhn poker against a written-out table; betting histories tell information sets apart."""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import kitae_envs
import numpy as np
import pytest
from kitae_envs.games.kuhn_poker import DEALS as KUHN_DEALS
from kitae_envs.games.kuhn_poker import KuhnPoker
from kitae_envs.games.leduc_holdem import DEALS as LEDUC_DEALS
from kitae_envs.games.leduc_holdem import LeducHoldem

# sequence of moves (p pass, b bet): what the winner of the showdown, or player_0 by name, gets
KUHN_ENDS = {"pp": ("high", 1), "bb": ("high", 2), "pbb": ("high", 2), "bp": (0, 1), "pbp": (1, 1)}


def test_kuhn_against_the_table() -> None:
    game = KuhnPoker()
    step, observe, start = jax.jit(game.step), jax.jit(game.observe), jax.jit(game.deal)
    for deal, (moves, (winner, stake)) in itertools.product(KUHN_DEALS, KUHN_ENDS.items()):
        state = start(jnp.asarray(deal))
        for i, move in enumerate(moves):
            mover = i % 2
            view = observe(state)
            assert np.asarray(view.active["player"]).tolist() == [mover == 0, mover == 1]
            assert np.asarray(view.action_mask["player"])[mover].tolist() == [1, 1]
            assert not np.asarray(view.action_mask["player"])[1 - mover].any()
            both = jnp.full(2, "pb".index(move))
            state, result = step(jax.random.key(0), state, {"player": both})
            assert bool(result.over) == (i == len(moves) - 1)
        wins = int(deal[1] > deal[0]) if winner == "high" else winner
        expected = [stake, -stake] if wins == 0 else [-stake, stake]
        assert np.asarray(result.reward["player"]).tolist() == expected


def test_kuhn_has_the_known_value() -> None:
    # Kuhn's equilibrium with alpha = 0: player_0 never bets first; calls with Q in a third
    first = {(0, ""): 0.0, (1, ""): 0.0, (2, ""): 0.0}
    call = {(0, "pb"): 0.0, (1, "pb"): 1 / 3, (2, "pb"): 1.0}
    reply = {(0, "p"): 1 / 3, (1, "p"): 0.0, (2, "p"): 1.0}
    reply |= {(0, "b"): 0.0, (1, "b"): 1 / 3, (2, "b"): 1.0}
    bets = first | call | reply
    game, value = KuhnPoker(), 0.0
    advance, deal_cards = jax.jit(game.step), jax.jit(game.deal)
    for deal, moves in itertools.product(KUHN_DEALS.tolist(), KUHN_ENDS):
        chance = 1 / 6
        state = deal_cards(jnp.asarray(deal))
        for i, move in enumerate(moves):
            bet = bets[deal[i % 2], moves[:i]]
            chance *= bet if move == "b" else 1 - bet
            action = {"player": jnp.full(2, "pb".index(move))}
            state, step = advance(jax.random.key(0), state, action)
        value += chance * float(step.reward["player"][0])
    assert abs(value + 1 / 18) < 1e-6


def decisions(game: Any, deals: np.ndarray) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Yield every path of moves to a decision, with the states after it for all deals."""
    play = jax.jit(jax.vmap(lambda s, m: game.step(jax.random.key(0), s, {"player": m})[0]))
    legal = jax.jit(jax.vmap(game.legal))
    level: list[Any] = [((), jax.jit(jax.vmap(game.deal))(jnp.asarray(deals)))]
    while level:
        path, states = level.pop()
        yield path, jax.device_get(states)
        open_to_all = np.logical_or.reduce(legal(states))
        for move in np.flatnonzero(open_to_all):
            after = play(states, jnp.full((len(deals), 2), move))
            if not bool(after.over[0]):
                level.append(((*path, int(move)), after))


@pytest.mark.parametrize(("make", "deals"), [(LeducHoldem, LEDUC_DEALS), (KuhnPoker, KUHN_DEALS)])
def test_histories_tell_exactly_the_information_sets_apart(make: Any, deals: np.ndarray) -> None:
    game = make(history=True)
    seen = jax.jit(jax.vmap(game.seen))
    full: dict[Any, bytes] = {}
    plain: dict[Any, bytes] = {}
    size = make().observation_space("player_0")["observation"].shape[0]
    for path, states in decisions(game, deals):
        observations = np.asarray(seen(states))
        for i, deal in enumerate(deals.tolist()):
            mover = int(states.turn[i])
            shown = deal[2] if len(deal) > 2 and int(states.round[i]) > 0 else None
            information = (deal[mover], shown, path)
            observation = observations[i, mover]
            assert full.setdefault(information, observation.tobytes()) == observation.tobytes()
            plain[information] = observation[:size].tobytes()
    assert len(set(full.values())) == len(full)
    assert len(set(plain.values())) < len(plain)


def test_poker_starts_are_uniform() -> None:
    game = kitae_envs.make("classic/leduc_holdem-v4")
    states = jax.jit(jax.vmap(game.start))(jax.random.split(jax.random.key(0), 24_000))
    code = np.asarray(states.cards) @ np.array([6, 18, 2]) + np.asarray(states.turn)
    expected = np.bincount(LEDUC_DEALS[:, :3] @ np.array([6, 18, 2]) + LEDUC_DEALS[:, 3])
    counts = np.bincount(code, minlength=len(expected))
    assert set(np.flatnonzero(counts)) == set(np.flatnonzero(expected))
    gap = np.abs(counts - expected * 100)[expected > 0]
    assert (gap < 5 * np.sqrt(expected[expected > 0] * 100)).all()


@pytest.mark.parametrize(("make", "deals"), [(LeducHoldem, LEDUC_DEALS), (KuhnPoker, KUHN_DEALS)])
def test_the_global_state_tells_every_position_from_every_other(
    make: Any, deals: np.ndarray
) -> None:
    game = make(history=True)
    assert make().state_space is None
    assert "history" in make().unseen
    assert not game.unseen
    assert make().global_state(game.deal(jnp.asarray(deals[0]))) == ()
    look = jax.jit(jax.vmap(game.global_state))
    found: dict[bytes, Any] = {}
    for path, states in decisions(game, deals):
        for deal, row in zip(deals.tolist(), np.asarray(look(states)), strict=True):
            assert game.state_space.contains(row)
            assert row[: 3 * len(game.deal(jnp.asarray(deal)).cards)].sum() == len(deal[:3])
            assert found.setdefault(row.tobytes(), (path, deal)) == (path, deal)
    # Two cards of a rank are alike; all else is told apart.
    assert len(found) == sum(len({*map(tuple, deals.tolist())}) for _ in decisions(game, deals))
