"""Batches in which opponents play: stepped as the game itself is with everybody's actions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kitae_envs import make
from kitae_envs.core import Game, step_batch
from kitae_envs.opposed import NOBODY, Opponent, OpposedGame, random_opponent
from kitae_envs.sampling import sample_actions

N_ENVS, N_OTHERS = 6, 4


def last_legal(game: Game) -> Opponent:
    """Plays the last legal action, counts its steps since a game began, and knows a number."""

    def act(key: Any, view: Any, reset: Any, memory: Any, data: Any) -> tuple[Any, Any]:
        del key, data
        masks = view.action_mask["player"].astype(jnp.int32)
        n = masks.shape[-1]
        chosen = jnp.max(masks * jnp.arange(n)[None, None], axis=-1)
        return {"player": chosen.astype(jnp.int32)}, jnp.where(reset, 0, memory) + 1

    return Opponent(act, lambda n_envs: jnp.zeros((n_envs,), jnp.int32), jnp.float32(7.0))


@pytest.fixture(scope="module")
def game() -> Game:
    return make("classic/tictactoe-v3")


@pytest.fixture(scope="module")
def opposed(game: Game) -> OpposedGame:
    return OpposedGame(game, [("player_1",), ("player_2",)], [(N_OTHERS, last_legal(game))], 0)


def test_opponents_play_their_seats_and_the_learner_its_own(
    game: Game, opposed: OpposedGame
) -> None:
    state, view = opposed.start_batch(jax.random.key(0), N_ENVS)
    assert bool(jnp.all(state.team == NOBODY))
    team = jnp.array([NOBODY, NOBODY, 0, 1, 0, 1], jnp.int32)
    state = opposed.seat(state, team)
    step = jax.jit(opposed.step_batch)
    plain = jax.jit(lambda *inputs: step_batch(game, *inputs))
    returns, tally = np.zeros((N_ENVS, 2)), np.zeros((N_ENVS, 2, 3))
    since = np.zeros(N_OTHERS)
    for number in range(60):
        key = jax.random.fold_in(jax.random.key(1), number)
        action = sample_actions(game, jax.random.fold_in(key, 9), view)
        masks = np.asarray(state.view.action_mask["player"])
        others = np.max(masks * np.arange(9), axis=-1)
        mine = (np.arange(2) == np.asarray(team)[:, None]) | (np.asarray(team)[:, None] == NOBODY)
        joint = np.where(mine, np.asarray(action["player"]), others)
        since = np.where(np.asarray(state.reset)[-N_OTHERS:], 0, since) + 1
        expected, told = plain(
            jax.random.split(key)[1], state.game, {"player": jnp.asarray(joint, jnp.int32)}
        )
        state, view = step(key, state, action)
        jax.tree.map(np.testing.assert_array_equal, state.game, expected)
        np.testing.assert_array_equal(view.reward["player"], told.reward["player"])
        np.testing.assert_array_equal(state.memory[0][-N_OTHERS:], since)
        returns += np.asarray(told.reward["player"])
        over = np.asarray(told.over)
        for i in np.flatnonzero(over & (np.asarray(team) != NOBODY)):
            own = returns[i, team[i]]
            tally[i, team[i]] += (1, own > 0, own == 0)
        returns[over] = 0
        team = jnp.where(jnp.asarray(over) & (team != NOBODY), 1 - team, team)  # the other seat
        np.testing.assert_array_equal(state.team, team)
        mine = (np.arange(2) == np.asarray(team)[:, None]) | (np.asarray(team)[:, None] == NOBODY)
        np.testing.assert_array_equal(
            view.active["player"], np.asarray(told.active["player"]) & mine
        )
    counted = np.stack([state.tally.games, state.tally.wins, state.tally.draws], axis=-1)
    np.testing.assert_array_equal(counted, tally)
    assert tally[:, :, 0].min(initial=99, where=np.asarray(team)[:, None] != NOBODY) > 0
    np.testing.assert_array_equal(state.tally.own, -np.asarray(state.tally.others))
    assert float(jnp.sum(state.tally.unbalanced)) == 0
    assert float(jnp.sum(opposed.seat(state, team).tally.games)) == 0


def test_only_the_opponent_that_changes_gets_other_data(game: Game) -> None:
    sections = [(2, random_opponent(game)), (2, last_legal(game))]
    opposed = OpposedGame(game, [("player_1",), ("player_2",)], sections, changing=1)
    own, (nothing, changed) = opposed.changed_data(jnp.float32(8.0))
    assert own == game.data
    assert nothing == ()
    assert float(changed) == 8.0
    assert float(opposed.data[1][1]) == 7.0


def test_games_of_one_player_are_those_of_the_game(game: Game, opposed: OpposedGame) -> None:
    key = jax.random.key(3)
    state = opposed.start(key)
    jax.tree.map(np.testing.assert_array_equal, state, game.start(key))
    jax.tree.map(np.testing.assert_array_equal, opposed.observe(state), game.observe(state))
    assert opposed.possible_agents == game.possible_agents
    assert opposed.turn_based
    assert opposed.frame(state).shape[-1] == 3
