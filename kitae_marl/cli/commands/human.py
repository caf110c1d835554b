"""This file has the command by which a person plays against agents, in the terminal."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from kitae_marl.cli.commands.loading import GameSetup, open_game, require_trust
from kitae_marl.cli.options.human import Play
from kitae_marl.config.run import Config
from kitae_marl.errors import ConfigError, printable
from kitae_marl.runs.own_code import truster
from kitae_marl.runs.store.contents import read_config
from kitae_marl.runs.store.search import RunAt, run_at
from kitae_marl.runs.terminal import say
from kitae_marl.vector.ids import parse_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitae_marl.runs.agent import Agent
    from kitae_marl.selfplay.boards import Drawing
    from kitae_marl.selfplay.human import HumanGame, Position, SeatPlayer, Thoughts
    from kitae_marl.vector.protocol import VecParallelEnv

HELP = """a move: its number or its name
?  what the agent would do here, and what it expects
u  take back your last move
h  this list
q  end the game"""
MOST_LISTED = 12
"""Moves that are listed by name or number; of more their count is told."""
MOST_NAMED = 400
"""Moves that are listed to a person who named none of them; of more the first ones are."""
MOST_SHOWN = 80
"""Characters that are shown of what is no move."""


def play(options: Play) -> dict[str, Any]:
    """Play one game against a run, a scripted player or the random policy."""
    from kitae_marl.selfplay.boards import drawing_of
    from kitae_marl.selfplay.human import HumanGame

    setup = _setup(options)
    require_trust(setup, options.allow_import)
    env = open_game(
        setup, 1, n_workers=0, runs_dir=options.runs_dir, allow_import=options.allow_import
    )
    try:
        agent = _agent(options)
        people = _people(options, env, agent)
        others = [name for name in env.possible_agents if name not in people]
        seats = dict.fromkeys(others, _player(options, env, agent, others)) if others else {}
        game = HumanGame(env, seats, seed=options.seed)
        drawing = drawing_of(setup.env_id)
        return _Terminal(game, drawing, env, options).play()
    finally:
        env.close()


def _setup(options: Play) -> GameSetup:
    """Return the game, as the run was trained in it where there is a run."""
    env_id = parse_id(options.id).text  # by which it is drawn
    if not _is_run(options):
        return GameSetup(env_id, options.env_kwargs, {}, None, {}, ())
    config: Config = read_config(_run(options).path)
    if parse_id(config.env_id).text != env_id:
        raise ConfigError(
            f"opponent: expected a run of {env_id}, got {options.opponent}, which was trained "
            f"on {config.env_id}.",
            "opponent",
        )
    kwargs = {**config.env_kwargs, **options.env_kwargs}
    kwargs.pop("render_mode", None)
    return GameSetup(env_id, kwargs, {}, config.max_episode_steps, {}, config.wrap)


def _is_run(options: Play) -> bool:
    """Whether the opponent is a run: neither random nor a scripted player."""
    from kitae_marl.players.scripted.bots import BOT

    return options.opponent != "random" and not options.opponent.startswith(BOT)


def _run(options: Play) -> RunAt:
    """Return the run that plays, and which policy of it."""
    return run_at(options.opponent, options.runs_dir, policy=options.policy)


def _agent(options: Play) -> Agent | None:
    """Load the run that plays, if it is one."""
    from kitae_marl.runs.agent import Agent

    if not _is_run(options):
        if options.simulations is not None:
            raise ConfigError(
                f"simulations: expected a run that searches, got {options.opponent}; leave "
                "simulations out.",
                "simulations",
            )
        return None
    at = _run(options)
    truster(options.allow_import)(at.path)
    return Agent.load(at.path, **at.how, simulations=options.simulations)


def _people(options: Play, env: VecParallelEnv, agent: Agent | None) -> list[str]:
    """Return the agents that people play: if none is named, those that the run does not, or one."""
    unknown = [seat for seat in options.seat if seat not in env.possible_agents]
    if unknown:
        raise ConfigError(
            f"seat: expected agents of {list(env.possible_agents)}, got {unknown}.", "seat"
        )
    known = env.possible_agents if agent is None else agent.possible_agents
    missing = [name for name in env.possible_agents if name not in known]
    return list(options.seat) or missing or env.possible_agents[:1]


def _player(
    options: Play, env: VecParallelEnv, agent: Agent | None, seats: Sequence[str]
) -> SeatPlayer:
    """Return who plays the other seats."""
    from kitae_marl.data.groups import require_spaces
    from kitae_marl.selfplay.human import PolicySeat, TrainedSeat
    from kitae_marl.selfplay.seat_takers import NamedGame, seat_taker
    from kitae_marl.selfplay.seats import only, policy_for

    if agent is None:
        name, game = options.opponent, NamedGame(env, parse_id(options.id).text, options.env_kwargs)
        taker = seat_taker(name, name, game, sample=options.sample, runs_dir=options.runs_dir)
        return PolicySeat(taker.policy(seats, options.seed))
    missing = [name for name in seats if name not in agent.possible_agents]
    if missing:
        raise ConfigError(
            f"seat: expected a run that plays {missing}, got {options.opponent}, which plays "
            f"{agent.possible_agents}; play {' '.join(missing)} yourself (--seat).",
            "seat",
        )
    require_spaces(only(env, seats), list(seats), agent.groups)
    try:
        return TrainedSeat(agent, sample=options.sample, seed=options.seed)
    except ValueError:  # an algorithm or network of the user's own, without an export
        return PolicySeat(policy_for(agent, seats, sample=options.sample, seed=options.seed))


class _Terminal:
    """What a person sees and says.

    Args:
        game: the game.
        drawing: how it is shown.
        env: its environment.
        options: as given.
    """

    def __init__(
        self, game: HumanGame, drawing: Drawing, env: VecParallelEnv, options: Play
    ) -> None:
        self._game, self._drawing, self._env = game, drawing, env
        self._first = env.possible_agents[0]
        self._opponent = options.opponent
        self._given = None if options.moves is None else iter(options.moves.split(","))

    def play(self) -> dict[str, Any]:
        """Play to the end, or until the person ends it."""
        if isinstance(sys.stdin, io.TextIOWrapper):  # what is no text is no move, and no more
            sys.stdin.reconfigure(errors="backslashreplace")
        people = ", ".join(self._game.people)
        say(f"you are {people}, {self._opponent} plays the others; h lists what can be said")
        while not self._game.over:
            moves: dict[str, int] = {}
            for position in self._game.positions():
                if position.agent in self._game.people:
                    answer = self._ask(position, begun=bool(moves))
                    if answer is None:
                        return self._result("ended by you")
                    if answer == "again":  # a move was taken back, or one of this very step
                        moves = {}
                        break
                    moves[position.agent] = int(answer)
            else:
                self._step(moves)
        for agent in self._game.people[:1]:
            say(self._drawn(self._game.position(agent)))
        returns = ", ".join(f"{a} {r:g}" for a, r in self._game.returns.items())
        say(f"the game is over: {returns}")
        return self._result("over")

    def _step(self, moves: dict[str, int]) -> None:
        """Play one step, and tell what the others did and thought."""
        before = {
            p.agent: (p, self._game.thoughts(p))
            for p in self._game.positions()
            if p.agent not in self._game.people
        }
        taken = self._game.play(moves)
        for agent, (position, thoughts) in before.items():
            said = self._in_words(position, thoughts)
            say(f"{agent}: {self._label(position, taken[agent])}" + (f"  ({said})" if said else ""))

    def _ask(self, position: Position, *, begun: bool) -> str | None:
        """Ask a person until there is a move; None: the game ends; ``again``: it went back.

        ``begun`` says that somebody has said a move of this step already, which can be taken back.
        """
        say(self._drawn(position))
        allowed = self._game.allowed(position)
        names = {self._label(position, action): action for action in allowed}
        numbers = {str(action): action for action in allowed}
        shown = [
            name if name == str(action) else f"{action} {name}" for name, action in names.items()
        ]
        more = f" ... ({len(shown)} moves)" if len(shown) > MOST_NAMED else ""
        listed = ", ".join(shown[:MOST_NAMED]) + more
        told = listed if len(allowed) <= MOST_LISTED else f"{len(allowed)} moves are allowed"
        while True:
            said = self._hear(f"{position.agent} ({told}): ")
            if said in ("q", None):
                return None
            if said == "u":
                if begun or self._game.take_back():
                    return "again"
                say("there is nothing to take back")
            elif said == "?":
                thoughts = self._game.thoughts(position)
                say(self._in_words(position, thoughts) or f"{self._opponent} keeps that to itself")
            elif said == "h":
                say(HELP)
            elif said in names or said in numbers:
                return str(names.get(said, numbers.get(said)))
            else:
                got = repr(said) if len(said) <= MOST_SHOWN else f"{said[:MOST_SHOWN]!r} ..."
                say(f"expected one of {listed}, or ?, u, h, q; got {got}")

    def _hear(self, prompt: str) -> str | None:
        """Return what the person says next; None at the end of what can be read."""
        said = None
        if self._given is not None:
            said = next(self._given, None)
            say(f"{prompt}{'' if said is None else said.strip()}")
        elif sys.stdin is not None:  # as it is where standard input was closed
            with suppress(EOFError):
                said = input(printable(prompt))
            if said is None or not sys.stdin.isatty():  # nobody has ended the line of the prompt
                say(said or "")
        if said is None:
            say("nothing more is said, which ends the game")
        return None if said is None else said.strip()

    def _drawn(self, position: Position) -> str:
        """Draw what an agent sees."""
        from kitae_marl.selfplay.boards import Seen

        first = position.agent == self._first
        seen = Seen(position.observation, first, self._drawing.labels)
        return f"\n{self._drawing.draw(seen)}"

    def _label(self, position: Position, action: int) -> str:
        """Name an action."""
        labels = self._drawing.labels
        space: Any = self._env.action_space(position.agent)
        index = action - int(space.start)
        return labels[index] if index < len(labels) else str(action)

    def _in_words(self, position: Position, thoughts: Thoughts | None) -> str:
        """Say the three most probable actions and the value."""
        if thoughts is None:
            return ""
        space: Any = self._env.action_space(position.agent)
        best = np.argsort(-thoughts.probabilities, kind="stable")[:3]
        told = [
            f"{self._label(position, int(space.start) + int(i))} {thoughts.probabilities[i]:.0%}"
            for i in best
            if thoughts.probabilities[i] >= 0.005
        ]
        value = "" if thoughts.value is None else f"; it expects {thoughts.value:+.2f}"
        return ", ".join(told) + value

    def _result(self, state: str) -> dict[str, Any]:
        """Return what came of the game."""
        return {
            "state": state,
            "people": self._game.people,
            "opponent": self._opponent,
            "moves": self._game.taken,
            "returns": self._game.returns if state == "over" else None,
        }
