"""Games of perfect information: the state from what an agent sees, and games seen in a mirror."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kitae_envs.adapters import from_pgx
from kitae_envs.core import Game, State
from kitae_envs.games.connect_four import ConnectFour
from kitae_envs.games.kuhn_poker import KuhnPoker
from kitae_envs.games.tictactoe import TicTacToe

GAMES = {game.id: game for game in (TicTacToe(), ConnectFour())}


def played(game: Game, n_games: int = 20, legal: bool = True) -> list[tuple[State, Any, int]]:
    """States of random games, what is seen in them, and the move made there; -1 at the end."""
    rng, found = np.random.default_rng(0), []
    step, look = jax.jit(game.step), jax.jit(game.observe)
    for seed in range(n_games):
        state, over = game.start(jax.random.key(seed)), False
        while not over:
            view = jax.device_get(look(state))
            mask = view.action_mask["player"].max(axis=0)
            move = int(rng.choice(np.flatnonzero(mask) if legal else mask.size))
            found.append((state, view, move))
            state, result = step(jax.random.key(seed), state, {"player": jnp.full(2, move)})
            over = bool(result.over)
        found.append((state, jax.device_get(look(state)), -1))
    return found


def seen_by(view: Any, seat: int) -> Any:
    return jax.tree.map(lambda x: np.asarray(x[seat]), view.observation["player"])


@pytest.mark.parametrize("seat", [0, 1])
@pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)
def test_the_state_is_what_it_was(game: Game, seat: int) -> None:
    state_of = jax.jit(game.state_of)
    for state, view, _ in played(game):
        got = state_of(seen_by(view, seat), jnp.int32(seat))
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(got), strict=True):
            assert a.dtype == b.dtype
            assert np.array_equal(a, b)


@pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)
def test_a_game_in_the_mirror_is_the_same_game(game: Game) -> None:
    """By every symmetry: the moves that are legal, what is seen, and the outcome."""
    step, look = jax.jit(game.step), jax.jit(game.observe)
    for number, symmetry in enumerate(game.symmetries):
        actions = np.array(symmetry.actions)
        assert sorted(actions.tolist()) == list(range(len(actions)))
        rng = np.random.default_rng(number)
        one = other = game.start(jax.random.key(0))
        for _ in range(42):
            seen, mirrored = jax.device_get((look(one), look(other)))
            turned = np.asarray(symmetry.observation(seen.observation["player"]["observation"]))
            assert np.array_equal(turned, mirrored.observation["player"]["observation"])
            mask = seen.action_mask["player"].max(axis=0)
            assert np.array_equal(mirrored.action_mask["player"].max(axis=0)[actions], mask)
            move = int(rng.choice(np.flatnonzero(mask)))
            one, result = step(jax.random.key(0), one, {"player": jnp.full(2, move)})
            moves = {"player": jnp.full(2, actions[move])}
            other, image = step(jax.random.key(0), other, moves)
            assert np.array_equal(result.reward["player"], image.reward["player"])
            assert bool(result.over) == bool(image.over)
            if result.over:
                break


def test_there_are_as_many_symmetries_as_of_the_board() -> None:
    board = jnp.arange(18).reshape(3, 3, 2)
    images = [np.asarray(s.observation(board)).tolist() for s in TicTacToe().symmetries]
    assert len({str(image) for image in [board.tolist(), *images]}) == 8
    assert len(ConnectFour().symmetries) == 1


def test_a_game_with_hidden_cards_says_that_it_has_no_such_thing() -> None:
    game = KuhnPoker()
    assert not game.perfect_information
    with pytest.raises(NotImplementedError, match=r"implement state_of\(observation, seat\)"):
        game.state_of({}, 0)


def test_a_pgx_game_shows_its_state() -> None:
    pgx = pytest.importorskip("pgx")
    env = pgx.make("tic_tac_toe")
    game = from_pgx(env, shows_state=True)
    assert game.perfect_information
    assert not from_pgx(env).perfect_information
    space = game.observation_space("player_0")
    state_of = jax.jit(game.state_of)
    for state, view, _ in played(game, 3):
        for seat in range(2):
            seen = seen_by(view, seat)
            assert space.contains(seen)
            got = state_of(seen, jnp.int32(seat))
            assert jax.tree.structure(got) == jax.tree.structure(state)
            for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(got), strict=True):
                assert a.dtype == b.dtype
                assert np.array_equal(a, b)
