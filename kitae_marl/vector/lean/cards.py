"""This file reads each state of RLCard's card games once and seeds them without rebuilding them.

Leduc hold'em, a game of few cards, is played here as a whole, on RLCard's own objects.

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
from kitae_marl.vector.lean.turn_based import InPlaceTurnsEnv

_RLCARD_SOURCES = ("rlcard.envs.env", "rlcard.utils.seeding")
_LEDUC_SOURCES = (
    "rlcard.envs.leducholdem",
    "rlcard.games.leducholdem.game",
    "rlcard.games.leducholdem.player",
    "rlcard.games.leducholdem.round",
    "rlcard.games.limitholdem.game",
    "rlcard.games.limitholdem.round",
)
_CALL, _RAISE, _FOLD, _CHECK = range(4)
_WORDS = ("call", "raise", "fold", "check")
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
        self._known = not shown and written and all(map(is_known_source, (*own, *_RLCARD_SOURCES)))
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


class LeducEnv(CardGameEnv):
    """Leduc hold'em for two.

    Cards, chips, bets and turns stay in RLCard's objects, which deal and judge by themselves, so
    whatever looks at them (rendering, say) sees the game that is played.

    Args:
        peeled: the game without its checking wrappers.
    """

    def __init__(self, peeled: Peeled) -> None:
        super().__init__(peeled)
        self._known = self._known and all(map(is_known_source, _LEDUC_SOURCES))
        if self._known:
            self.core.step, self.core.reset = self._bet, self._deal

    def _deal(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Deal the cards of a new game."""
        core = self.core
        if seed is not None:
            self._seed(seed)
        core.env.game.init_game()
        core.env.action_recorder = []
        core.agents = agents = core.possible_agents[:]
        core.rewards = dict.fromkeys(agents, 0)
        core._cumulative_rewards = dict.fromkeys(agents, 0)
        core.terminations = dict.fromkeys(agents, False)
        core.truncations = dict.fromkeys(agents, False)
        core.infos = {agent: {} for agent in agents}
        self._pass_on()

    def _pass_on(self) -> None:
        """Say whose turn it is and what the rules let that player do."""
        core, game = self.core, self.core.env.game
        mover, bets = game.game_pointer, game.round
        core.agent_selection = self.possible_agents[mover]
        legal = [_CHECK] if bets.raised[mover] == max(bets.raised) else [_CALL]
        if bets.have_raised < bets.allowed_raise_num:
            legal.append(_RAISE)
        core.next_legal_moves = [*legal, _FOLD]

    def _bet(self, action: Any) -> None:
        """Make a move; an illegal one counts as RLCard says: a check where that is legal."""
        core, game = self.core, self.core.env.game
        if action not in core.next_legal_moves:
            action = _CHECK if _CHECK in core.next_legal_moves else _FOLD
        mover, bets, player = game.game_pointer, game.round, game.players[game.game_pointer]
        core.env.timestep += 1
        core.env.action_recorder.append((mover, _WORDS[action]))
        if action == _FOLD:
            player.status, bets.player_folded = "folded", True
        else:
            level = max(bets.raised)
            if action == _RAISE:
                level += bets.raise_amount
                bets.have_raised += 1
                bets.not_raise_num = 0
            bets.not_raise_num += 1
            player.in_chips += level - bets.raised[mover]
            bets.raised[mover] = level
        game.game_pointer = bets.game_pointer = 1 - mover
        if bets.not_raise_num >= 2:
            self._end_round(game)
        self._pass_on()
        if action == _FOLD or game.round_counter >= 2:
            core.next_legal_moves = []
            core.rewards = dict(zip(self.possible_agents, game.get_payoffs(), strict=True))
            core.terminations = dict.fromkeys(core.agents, True)

    def _end_round(self, game: Any) -> None:
        """Show the public card after the first round; begin the next one."""
        bets = game.round
        if game.round_counter == 0:
            game.public_card = game.dealer.deal_card()
            bets.raise_amount = 2 * game.raise_amount
        game.round_counter += 1
        bets.start_new_round(game.game_pointer)

    def _show(self) -> None:
        """Everyone sees their own card, the public one and all chips."""
        core, game = self.core, self.core.env.game
        index, public = core.env.card2index, game.public_card
        chips = [player.in_chips for player in game.players]
        for seat, agent in enumerate(self.possible_agents):
            seen = self._seen[agent]
            seen[...] = 0
            seen[index[game.players[seat].hand.get_index()]] = 1
            if public is not None:
                seen[3 + index[public.get_index()]] = 1
            seen[6 + chips[seat]] = seen[21 + chips[1 - seat]] = 1
