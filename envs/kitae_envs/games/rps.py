"""Rock, paper, scissors and its larger forms, ``classic/rps-v2``.

==============  ================================================================================
agents          ``player_0``, ``player_1``, who move at once
observation     Discrete(num_actions + 1): the other's last move, ``num_actions`` before the
                first
action          Discrete(num_actions); of two moves of equal parity the lower beats the higher,
                of unequal parity the higher the lower
reward          1 and -1, 0 for equal moves
length          ``max_cycles`` steps, then truncated
version         v2 of PettingZoo
equality shown  exactly, over random games
==============  ================================================================================
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np

from kitae_envs import render
from kitae_envs.core import ByGroup, Game, Outcome, View

GROUP = "player"
LABELS = ("rock", "paper", "scissors", "spock", "lizard")


class RockPaperScissorsState(NamedTuple):
    """State of the game.

    Attributes:
        last: int32 ``[2]``, each agent's last move, ``num_actions`` before the first.
        moves: int32, rounds played.
    """

    last: jax.Array
    moves: jax.Array


class RockPaperScissors(Game):
    """Repeated rock, paper, scissors.

    Args:
        num_actions: number of moves, odd and at least 3.
        max_cycles: rounds until the episode is truncated.
    """

    id: ClassVar[str] = "classic/rps-v2"
    fixed_start: ClassVar[bool] = True
    perfect_information: bool = True

    def __init__(self, num_actions: int = 3, max_cycles: int = 15) -> None:
        if num_actions < 3 or num_actions % 2 == 0:
            raise ValueError(f"expected an odd num_actions of at least 3, got {num_actions}.")
        if max_cycles < 1:
            raise ValueError(f"expected max_cycles of at least 1, got {max_cycles}.")
        self.possible_agents = ("player_0", "player_1")
        self.num_actions = num_actions
        self.max_cycles = max_cycles

    def observation_space(self, agent: str) -> gym.Space:
        """Return the space of the other's last move."""
        return gym.spaces.Discrete(self.num_actions + 1)

    def action_space(self, agent: str) -> gym.Space:
        """Return the space of moves."""
        return gym.spaces.Discrete(self.num_actions)

    def start(self, key: jax.Array) -> RockPaperScissorsState:
        """Return the state before the first round."""
        none = jnp.full(2, self.num_actions, jnp.int32)
        return RockPaperScissorsState(none, jnp.zeros((), jnp.int32))

    def transition(
        self, key: jax.Array, state: RockPaperScissorsState, action: ByGroup
    ) -> tuple[RockPaperScissorsState, Outcome]:
        """Compare the moves."""
        last = action[GROUP].astype(jnp.int32)
        first, second = last[0], last[1]
        lower_wins = (first + second) % 2 == 0
        first_wins = jnp.where(lower_wins, first < second, first > second)
        gain = jnp.where(first == second, 0.0, jnp.where(first_wins, 1.0, -1.0))
        state = RockPaperScissorsState(last, state.moves + 1)
        late = jnp.ones(2, bool) & (state.moves >= self.max_cycles)
        reward = jnp.stack([gain, -gain]).astype(jnp.float32)
        return state, Outcome({GROUP: reward}, {GROUP: jnp.zeros(2, bool)}, {GROUP: late})

    def observe(self, state: RockPaperScissorsState) -> View:
        """Show each agent the other's last move."""
        return View({GROUP: state.last[::-1]}, {GROUP: ()}, {GROUP: jnp.ones(2, bool)})

    def frame(self, state: RockPaperScissorsState) -> np.ndarray:
        """Draw the last moves."""
        names = [*LABELS[: self.num_actions], *map(str, range(5, self.num_actions)), "?"]
        last = np.asarray(state.last)
        note = f"round {int(state.moves)} of {self.max_cycles}"
        return render.moves(self.possible_agents, [names[int(m)] for m in last], note)
