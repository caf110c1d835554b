"""This file lists the scripted policies that say what a return is worth: a score of 1.

They see the observations of all agents (so also what the game hides from some of them) and
otherwise play by the rules. Each says in words what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from kitae_marl.players.scripted.board_bots import connect_four_bot, tictactoe_bot
from kitae_marl.players.scripted.particles import reference_oracle, speaker_oracle, spread_oracle
from kitae_marl.types import AgentPyTree, Policy
from kitae_marl.vector.protocol import VecParallelEnv

_MPE = ("max_cycles", "continuous_actions", "local_ratio", "dynamic_rescaling")
"""Arguments of most particle games."""


class Oracle(NamedTuple):
    """A scripted policy of one game.

    Attributes:
        definition: what it does, in words.
        make: makes the policy for a vector of that game.
        arguments: keyword arguments of the game it copes with, at any value.
    """

    definition: str
    make: Callable[[VecParallelEnv], Policy]
    arguments: tuple[str, ...] = ()


def oracle_for(env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> Oracle | None:
    """Return the scripted policy of a game, None where there is none for it as it is made.

    Example:
        >>> oracle_for("mpe/simple_spread-v3").definition.split(":")[0]
        'shortest assignment of agents to landmarks'
    """
    oracle = ORACLES.get(env_id)
    unknown = set(env_kwargs or {}) - set(oracle.arguments if oracle else ()) - {"render_mode"}
    return None if unknown else oracle


def _cart_pole(env: VecParallelEnv) -> Policy:
    """Push towards where the pole falls, leaning against drift."""
    space: Any = env.action_space(env.possible_agents[0])
    if not isinstance(space, gym.spaces.Discrete):
        raise TypeError(f"expected the two pushes of CartPole, got {space}.")

    def act(observations: AgentPyTree, infos: Mapping[str, Any]) -> AgentPyTree:
        del infos
        weights = np.array([0.02, 0.1, 1.0, 0.3], np.float32)  # place, speed, angle, its change
        return {agent: (seen @ weights > 0).astype(int) for agent, seen in observations.items()}

    return act


_ONE_MOVE_AHEAD = "looks one move ahead: wins where it can, else blocks, else plays at random"

ORACLES = {
    "mpe/simple_spread-v3": Oracle(
        definition="shortest assignment of agents to landmarks: anew at each step, from all "
        "observations; each agent takes the best of all sequences of four moves towards its own, "
        "blind to collisions",
        make=spread_oracle,
        arguments=(*_MPE, "N"),
    ),
    "mpe/simple_speaker_listener-v4": Oracle(
        definition="listener told the goal: it takes the best of all sequences of four moves "
        "towards it",
        make=speaker_oracle,
        arguments=("max_cycles", "continuous_actions", "dynamic_rescaling"),
    ),
    "mpe/simple_reference-v3": Oracle(
        definition="both agents told their goals: each takes the best of all sequences of four "
        "moves",
        make=reference_oracle,
        arguments=_MPE,
    ),
    "classic/tictactoe-v3": Oracle(_ONE_MOVE_AHEAD, make=tictactoe_bot),
    "classic/connect_four-v3": Oracle(_ONE_MOVE_AHEAD, make=connect_four_bot),
    "gymnasium:CartPole-v1": Oracle(
        definition="linear controller of place, speed, angle and its change; the time limit is "
        "the maximum",
        make=_cart_pole,
    ),
}
"""By id of the game."""
