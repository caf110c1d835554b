"""The originals of the compiled games, driven step by step and read out for :mod:`verify`.

pettingzoo, mpe2 and rlcard are imported only when an original is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Fields = dict[str, Any]
"""Fields of a compiled game's state, as NumPy arrays."""


class Frame(NamedTuple):
    """An original game as it stands.

    Attributes:
        state: the fields of the compiled game's state, read from the original.
        observation: ``{agent: observation}``.
        active: ``{agent: bool}``, who is to act; all False at the end.
        summary: the original's ``state()``, ``()`` where it has none. It is put together from the
            observations, which is what it is; :func:`play` checks that once a game.
    """

    state: Fields
    observation: dict[str, Any]
    active: dict[str, bool]
    summary: Any = ()


class Move(NamedTuple):
    """One joint step of an original.

    Attributes:
        before: the game before it.
        action: ``{agent: action}``.
        after: the game after it.
        reward: ``{agent: float}``.
        terminated: ``{agent: bool}``.
        truncated: ``{agent: bool}``.
    """

    before: Frame
    action: dict[str, Any]
    after: Frame
    reward: dict[str, float]
    terminated: dict[str, bool]
    truncated: dict[str, bool]


@dataclass(frozen=True)
class Original:
    """How to build and read the original of one compiled game.

    Attributes:
        build: makes the environment (parallel or turn-based) from the keyword arguments.
        read: reads the compiled game's state fields from it.
        turn_based: it is an AEC environment.
        hide_idle_mask: the original shows masks to seats that are not to move; ours are zeros.
        settle: rounds the original's state to float32, so that both games start a step from the
            very same state.
        every_move: yields every position's moves instead of random games, where that is feasible.
    """

    build: Callable[..., Any]
    read: Callable[[Any], Fields]
    turn_based: bool = False
    hide_idle_mask: bool = False
    settle: Callable[[Any], None] | None = None
    every_move: Callable[[Any, Original], Iterator[Move]] | None = None


def look(original: Original, env: Any) -> Frame:
    """Read an original as it stands, its state rounded if need be."""
    if original.settle is not None:
        original.settle(env)
    raw = env.unwrapped
    names = raw.possible_agents
    if not original.turn_based:
        playing = set(env.agents)
        seen = {a: np.asarray(raw.observe(a)) for a in names}
        active = {a: a in playing for a in names}
        summary = np.concatenate(list(seen.values())) if hasattr(raw, "state_space") else ()
        return Frame(original.read(env), seen, active, summary)
    over = any(raw.terminations.values()) or any(raw.truncations.values())
    active = {a: not over and a == raw.agent_selection for a in names}
    seen = {a: {k: np.array(v) for k, v in raw.observe(a).items()} for a in names}
    for agent in names:
        if original.hide_idle_mask and not active[agent]:
            seen[agent]["action_mask"][:] = 0
    return Frame(original.read(env), seen, active)


def advance(original: Original, env: Any, before: Frame, action: dict[str, Any]) -> Move:
    """Play one joint step in an original and read what came of it."""
    raw = env.unwrapped
    if original.turn_based:
        env.step(action[raw.agent_selection])
        rewards, flags = raw.rewards, (raw.terminations, raw.truncations)
    else:
        _, rewards, *flags = env.step(action)[:4]
    names = raw.possible_agents
    rewards = {a: float(rewards[a]) for a in names}
    terminated, truncated = ({a: bool(f[a]) for a in names} for f in flags)
    return Move(before, action, look(original, env), rewards, terminated, truncated)


def play(original: Original, env: Any, rng: np.random.Generator, wild: bool = False) -> list[Move]:
    """Play one random game of an original.

    Args:
        original: how to read it.
        env: the environment; it is reset with a seed from ``rng``.
        rng: draws the seed and the actions.
        wild: instead of uniformly legal actions, repeat actions (which takes particles to their
            top speed and out of the arena), make illegal moves, and leave the spaces of continuous
            actions.
    """
    env.reset(seed=int(rng.integers(2**31)))
    frame = look(original, env)
    if len(frame.summary) and not np.allclose(frame.summary, env.unwrapped.state(), atol=1e-6):
        raise ValueError("expected state() to be all observations in order; the original changed.")
    moves: list[Move] = []
    names = env.possible_agents
    while any(frame.active.values()):
        action = {a: _draw(env.action_space(a), frame, a, rng, wild) for a in names}
        if wild and moves and not original.turn_based:
            action = {a: moves[-1].action[a] if rng.random() < 0.8 else action[a] for a in names}
        moves.append(advance(original, env, frame, action))
        frame = moves[-1].after
    return moves


def _draw(space: Any, frame: Frame, agent: str, rng: np.random.Generator, wild: bool) -> Any:
    """Draw one action."""
    if not hasattr(space, "n"):
        beyond = 0.1 if wild else 0.0
        return rng.uniform(-beyond, 1 + beyond, space.shape).astype(space.dtype)
    seen = frame.observation[agent]
    legal = not wild or rng.random() > 0.02
    if isinstance(seen, dict) and frame.active[agent] and legal:
        return int(rng.choice(np.flatnonzero(seen["action_mask"])))
    return int(rng.integers(space.n))


def original_of(id: str) -> Original | None:
    """Return the original of a compiled game, None if there is none."""
    family = id.partition("/")[0]
    if family not in ("mpe", "classic"):
        return None
    return importlib.import_module(f"kitae_envs.proofs.originals_{family}").ORIGINALS.get(id)
