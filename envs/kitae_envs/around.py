"""Games around another game: what they say of it is what that game says of itself."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import jax
import numpy as np

from kitae_envs.core import ByGroup, Game, Outcome, State, View


class GameAround(Game):
    """The same game; a subclass changes who plays in it.

    Args:
        game: the game.

    Attributes:
        game: the game.
    """

    def __init__(self, game: Game) -> None:
        self.game = game
        self.possible_agents = game.possible_agents
        # What the classes of other games say of themselves, this one says of the game it holds.
        kept = ("id", "turn_based", "fixed_start", "perfect_information")
        vars(self).update({name: getattr(game, name) for name in kept})
        self.data = game.data

    def observation_space(self, agent: str) -> gym.Space:
        """Return the space that the agent observes."""
        return self.game.observation_space(agent)

    def action_space(self, agent: str) -> gym.Space:
        """Return the space that the agent acts in."""
        return self.game.action_space(agent)

    @property
    def state_space(self) -> gym.Space | None:
        """Space of the game's global state."""
        return self.game.state_space

    def start(self, key: jax.Array) -> State:
        """Start the game."""
        return self.game.start(key)

    def transition(self, key: jax.Array, state: State, action: ByGroup) -> tuple[State, Outcome]:
        """Play one joint step of the game."""
        return self.game.transition(key, state, action)

    def observe(self, state: State) -> View:
        """Return what the agents see."""
        return self.game.observe(state)

    def alive(self, state: State) -> ByGroup | None:
        """Return who is still in the game."""
        return self.game.alive(state)

    def global_state(self, state: State) -> Any:
        """Return the global state of the game."""
        return self.game.global_state(state)

    def frame(self, state: State) -> np.ndarray:
        """Draw the game."""
        return self.game.frame(state)
