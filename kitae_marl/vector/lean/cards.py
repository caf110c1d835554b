"""RLCard's games (Leduc, Texas hold'em), each state read once and seeds set without rebuilding.

What is replaced is equal to the games' own and used with the versions that are fingerprinted; with
any other the game computes by itself.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import numpy as np

from kitae_marl.vector.lean.aec import Peeled
from kitae_marl.vector.lean.fingerprints import is_as_written, is_known_source
from kitae_marl.vector.lean.turns_in_place import InPlaceTurnsEnv

_SOURCES = ("rlcard.envs.env", "rlcard.utils.seeding")
_KEEP_NOTHING = ("leduc-holdem", "limit-holdem")
"""Games that keep nothing from one deal to the next but the random generator."""


class CardGameEnv(InPlaceTurnsEnv):
    """A card game of RLCard's."""

    def __init__(self, peeled: Peeled) -> None:
        super().__init__(peeled)
        core = self.core
        shown = core.render_mode == "human"  # then the game draws in its own step
        parts = {part.__module__ for part in type(core).__mro__}
        own = [name for name in parts if name.startswith("pettingzoo.classic.")]
        written = is_as_written(core) and is_as_written(core.env)
        self._known = not shown and written and all(map(is_known_source, (*own, *_SOURCES)))
        self._latest: tuple[str, dict[str, Any]] | None = None
        if self._known:
            core.step = self._play
            if core.name in _KEEP_NOTHING:
                core._seed = self._seed

    def begin(self, seed: int | None, options: dict[str, Any] | None) -> None:
        """Deal."""
        self._latest = None
        super().begin(seed, options)

    def _seed(self, seed: int) -> None:
        """Seed the generator that is there, the way RLCard seeds a new one."""
        digest = hashlib.sha512(str(int(seed) % 2**64).encode()).digest()
        low, high = struct.unpack("<2I", digest[:8])
        self.core.env.np_random.seed([low, high] if high else [low])
        self.core.env.timestep = 0

    def _play(self, action: Any) -> None:
        """Make a move; keep the state that the next player is shown."""
        core, game = self.core, self.core.env
        state, player = game.step(action)
        core.agent_selection = core._int_to_name(player)
        core.next_legal_moves = [] if game.is_over() else state["legal_actions"]
        if game.is_over():
            core.rewards = core._convert_to_dict(core._scale_rewards(game.get_payoffs()))
            core.terminations = dict.fromkeys(core.agents, True)
        self._latest = (core.agent_selection, state)

    def _write_to(self, views: dict[str, np.ndarray]) -> None:
        """Write what each player sees to these arrays."""
        self._seen = views

    def _show(self) -> None:
        """Everyone sees their own cards."""
        core, latest = self.core, self._latest
        for agent, seen in self._seen.items():
            if latest is not None and latest[0] == agent:
                state = latest[1]
            else:
                state = core.env.get_state(core._name_to_int(agent))
            seen[...] = state["obs"]

    def _show_legal(self, mask: np.ndarray) -> None:
        """The moves that the rules allow."""
        for action in self.core.next_legal_moves:
            mask[action] = 1
