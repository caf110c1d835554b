"""What can happen in small games, beside what is known of them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kitae_envs import make
from kitae_envs.games.kuhn_poker import KuhnPoker
from kitae_envs.trees import TooLargeError, game_tree


@pytest.mark.parametrize(
    ("env_id", "kwargs", "positions", "decisions"),
    [
        ("classic/tictactoe-v3", {}, 4520, 4520),  # of its 5,478 positions 958 are over
        ("classic/rps-v2", {"max_cycles": 3}, 1 + 9 + 9, 2 * 19),
        ("kitae/kuhn_poker-v0", {}, 6 * 4, 12),
        ("classic/leduc_holdem-v4", {}, 1728, 576),
    ],
)
def test_it_has_every_position(
    env_id: str, kwargs: dict[str, Any], positions: int, decisions: int
) -> None:
    tree = game_tree(make(env_id, **kwargs))
    assert tree.n_positions == positions
    known = [
        len(np.unique(level.known[level.active[:, seat], seat]))
        for level in tree.levels
        for seat in range(2)
    ]
    assert sum(known) == decisions
    for level, after in zip(tree.levels, [*tree.levels[1:], None], strict=True):
        n_after = 0 if after is None else len(after.known)
        assert sorted(set(level.child[level.child >= 0])) == list(range(n_after))
        if after is not None:
            assert (np.isin(level.came_from, level.parent)).all()


def test_players_tell_positions_apart_by_all_that_they_have_seen() -> None:
    plain, told = (game_tree(make("classic/leduc_holdem-v4", history=h)) for h in (False, True))
    for one, other in zip(plain.levels, told.levels, strict=True):
        assert np.array_equal(one.known, other.known)


def test_rewards_are_those_of_the_game() -> None:
    tree = game_tree(make("kitae/kuhn_poker-v0"))
    last = tree.levels[-1]  # pass, bet, and then an answer
    assert sorted(np.abs(last.reward[:, 0]).tolist()) == [1.0] * 6 + [2.0] * 6
    assert np.allclose(last.reward.sum(axis=1), 0)


class Flipped(KuhnPoker):
    """Kuhn poker in which chance may swap the cards at any time."""

    def transition(self, key: Any, state: Any, action: Any) -> Any:
        swap = jax.random.bernoulli(key)
        state = state._replace(cards=jnp.where(swap, state.cards[::-1], state.cards))
        return super().transition(key, state, action)


class Unknown(KuhnPoker):
    """Kuhn poker that does not say how it may start."""

    def starts(self) -> Any:
        return None


@pytest.mark.parametrize(
    ("game", "message"),
    [
        (make("mpe/simple_spread-v3"), "two alike players"),
        (make("mpe/simple_push-v3"), "two alike players"),
        (Flipped(), "nothing by chance"),
        (Unknown(), "how it may start"),
    ],
)
def test_other_games_are_refused(game: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        game_tree(game)


def test_a_game_that_is_too_large_is_refused() -> None:
    with pytest.raises(TooLargeError, match="at most 100 positions"):
        game_tree(make("classic/connect_four-v3"), max_positions=100)
