"""Whether a compiled game returns what its spaces say, by shapes alone: nothing is computed."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import jax
import numpy as np

from kitae_envs.core import Game
from kitae_envs.spaces import map_space


def require_game(game: Any) -> None:
    """Make sure that something is a compiled game.

    Raises:
        TypeError: if it is not.
    """
    if not isinstance(game, Game):
        raise TypeError(f"expected a compiled game, a kitae_envs.core.Game, got {game!r}.")


def require_sound(game: Game) -> None:
    """Make sure that what a game returns has the groups, shapes and types that it must have.

    Raises:
        TypeError: if it is no game.
        ValueError: naming the method, what was expected of it and what it returned.
    """
    require_game(game)
    check, key = partial(_require, type(game).__name__), jax.random.key(0)
    sizes = {name: len(agents) for name, agents in game.groups.items()}
    firsts = {name: agents[0] for name, agents in game.groups.items()}
    action = {n: _array(game.action_space(firsts[n]), size) for n, size in sizes.items()}
    state = jax.eval_shape(game.start, key)
    new, outcome = jax.eval_shape(game.transition, key, state, action)
    view = jax.eval_shape(game.observe, state)
    one = {kind: {n: _struct((size,), kind) for n, size in sizes.items()} for kind in ("f4", "?")}
    seen = {n: _array(game.observation_space(firsts[n]), size) for n, size in sizes.items()}
    check("transition: state", state, new, exact=True)  # one takes the other's place
    check("transition: reward", one["f4"], outcome.reward)
    check("transition: terminated", one["?"], outcome.terminated)
    check("transition: truncated", one["?"], outcome.truncated)
    check("observe: observation", seen, view.observation)
    check("observe: active", one["?"], view.active)
    masks = {n: _mask(game, agent, view.action_mask.get(n)) for n, agent in firsts.items()}
    check("observe: action_mask", masks, view.action_mask)
    alive = jax.eval_shape(game.alive, state)
    if alive is not None:
        check("alive", one["?"], alive)
    space = game.state_space
    summary = () if space is None else _struct(space.shape or (), space.dtype)
    check("global_state", summary, jax.eval_shape(game.global_state, state))


def _struct(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """An array by its shape and type, as JAX keeps it."""
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype))


def _array(space: gym.Space[Any], n: int) -> Any:
    """What ``n`` agents observe or do in a space, nested as it is."""
    return map_space(lambda part: _struct((n, *(part.shape or ())), part.dtype), space)


def _mask(game: Game, agent: str, given: Any) -> Any:
    """The mask that the group of an agent must have, ``()`` where it has none."""
    if isinstance(given, tuple):
        return ()
    space = game.action_space(agent)
    n = space.n if isinstance(space, gym.spaces.Discrete) else 0
    if isinstance(space, gym.spaces.MultiDiscrete):
        n = space.nvec.sum()
    (agents,) = (agents for agents in game.groups.values() if agent in agents)
    return _struct((len(agents), int(n)), np.int8)


def _require(game: str, what: str, expected: Any, got: Any, exact: bool = False) -> None:
    """Raise unless two trees have the same parts, of the same shapes and kinds or exact types."""
    pairs = list(zip(jax.tree.leaves(expected), jax.tree.leaves(got), strict=False))
    same = jax.tree.structure(expected) == jax.tree.structure(got) and all(
        a.shape == b.shape
        and (a.dtype == b.dtype or (not exact and np.can_cast(b.dtype, a.dtype, "same_kind")))
        for a, b in pairs
    )
    if not same:
        raise ValueError(f"{game}.{what}: expected {_text(expected)}, got {_text(got)}.")


def _text(tree: Any) -> str:
    """Show the shapes and types of a tree in one line."""
    return str(jax.tree.map(lambda x: f"{x.dtype} {list(x.shape)}", tree)).replace("'", "")
