"""A worker makes its environments, each a game of its own."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
from pettingzoo.utils import BaseParallelWrapper
from vector_games import CountGame

from kitae_marl.errors import GameRuleError
from kitae_marl.vector.adapters.as_parallel import as_parallel
from kitae_marl.vector.adapters.gymnasium import GymnasiumParallelEnv
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_the_same_game_in_several_places_is_refused(n_workers: int) -> None:
    game = CountGame()
    with pytest.raises(GameRuleError, match=r"very CountGame object of env 0") as caught:
        SubProcVecParallelEnv([lambda: game] * 4, n_workers=min(n_workers, 1))
    assert (caught.value.env_index, caught.value.phase) == (1, "start")
    with pytest.raises(GameRuleError, match="object of env 2"):  # env 2 is the next worker's first
        SubProcVecParallelEnv([CountGame, CountGame, *[lambda: game] * 2], n_workers=n_workers)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda game: lambda: BaseParallelWrapper(game), CountGame),
        (lambda game: lambda: GymnasiumParallelEnv(game), lambda: gym.make("CartPole-v1")),
    ],
)
def test_the_same_game_below_wrappers_is_refused(make: Any, kind: Any) -> None:
    with pytest.raises(GameRuleError, match="object of env 0"):
        SubProcVecParallelEnv([make(kind())] * 2, n_workers=0)


def test_environments_themselves_must_be_distinct() -> None:
    game = CountGame()
    with pytest.raises(GameRuleError, match="object of env 0"):
        SubProcVecParallelEnv([game, game], n_workers=0)
    SubProcVecParallelEnv([game, CountGame()], n_workers=0).close()


def test_each_worker_has_a_copy_of_what_a_function_holds() -> None:
    game = CountGame()
    with SubProcVecParallelEnv([lambda: game] * 2, n_workers=2) as vec:
        first = vec.reset(seed=3)[0]["a_0"]
        assert first[:, 0].tolist() == [3, 4]


def test_a_vector_of_gymnasium_with_one_environment_twice_is_refused() -> None:
    one = gym.make("CartPole-v1")
    with pytest.raises(ValueError, match="very object of env 0 as env 1"):
        as_parallel(gym.vector.SyncVectorEnv([lambda: one] * 2))
    two = as_parallel(gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2))
    two.close()
