"""This file looks at a user's algorithm before it trains: what its functions take and return.

Nothing is computed: the functions are traced with the shapes of the game at hand, so what is wrong
is said before a folder is made, in terms of the record and not of the driver's insides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kitae_marl.config.run import Config
from kitae_marl.data.spaces import feature_space, has_mask, mask_width, zeros
from kitae_marl.errors import AlgorithmError, KitaeError
from kitae_marl.types import Algorithm, Experience, GroupSpec

N_ENVS = 2
"""Environments that the functions are traced with."""


def require_sound(algorithm: Algorithm, groups: tuple[GroupSpec, ...], config: Config) -> None:
    """Raise an AlgorithmError unless all that drivers call takes and returns what it should.

    Args:
        algorithm: the record.
        groups: how the agents of the game are stacked.
        config: settings of the run.
    """
    check = _Check(algorithm, groups, config)
    carry = check.carry()
    state = check.state()
    acting = check.traced("acting", algorithm.acting, state)
    step = _joint_step(groups)
    extras = check.explore(acting, step, carry)
    check.select(acting, step, carry)
    check.sample(acting, step, carry)
    check.learn(state, step, extras, carry)


def _joint_step(groups: tuple[GroupSpec, ...]) -> Experience:
    """What one joint step holds before the algorithm has added to it, shapes ``[E, A, ...]``."""

    def each(of: Callable[[GroupSpec, tuple[int, int]], Any]) -> dict[str, Any]:
        return {g.name: of(g, (N_ENVS, g.n_agents)) for g in groups}

    def seen(group: GroupSpec, lead: tuple[int, int]) -> Any:
        return zeros(feature_space(group.observation_space), *lead)

    def mask(group: GroupSpec, lead: tuple[int, int]) -> Any:
        width = mask_width(group.action_space) if has_mask(group.observation_space) else 0
        return np.ones((*lead, width), np.int8) if width else ()

    def flag(group: GroupSpec, lead: tuple[int, int]) -> Any:
        return np.ones(lead, np.bool_)

    space = groups[0].state_space
    state = () if space is None else zeros(space, N_ENVS)
    row = Experience(
        observation=each(seen),
        action=each(lambda group, lead: zeros(group.action_space, *lead)),
        reward=each(lambda group, lead: np.zeros(lead, np.float32)),
        terminated=each(flag),
        truncated=each(flag),
        next_observation=each(seen),
        action_mask=each(mask),
        active=each(flag),
        next_active=each(flag),
        state=state,
        next_state=state,
        reset=np.ones(N_ENVS, np.bool_),
        next_reset=np.ones(N_ENVS, np.bool_),
    )
    return _shapes(row)


def _shapes(tree: Any, *lead: int) -> Any:
    """Return the shapes and dtypes of a tree, with more leading axes."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype), tree)


class _Check:
    """One algorithm with the groups and settings of a run."""

    def __init__(self, algorithm: Algorithm, groups: tuple[GroupSpec, ...], config: Config) -> None:
        self.algorithm, self.groups, self.config = algorithm, groups, config
        self.names = [group.name for group in groups]
        self.key = jax.eval_shape(lambda: jax.random.key(0))

    def refuse(self, field: str, expected: str, got: Any) -> AlgorithmError:
        """Return the error: which field, what was expected and what came."""
        return AlgorithmError(
            f"algorithm {self.algorithm.name!r}: expected {field} {expected}, got {got}."
        )

    def made(self, field: str) -> Callable[..., Any]:
        """Call a factory; return the function that it made."""
        factory = getattr(self.algorithm, field)
        what = "to be a factory, a function of (groups, config) that returns a function"
        if not callable(factory):
            raise self.refuse(field, what, type(factory).__name__)
        try:
            function = factory(self.groups, self.config)
        except TypeError as error:
            raise self.refuse(field, what, f"TypeError: {error}") from error
        if not callable(function):
            raise self.refuse(field, what, f"one that returns {type(function).__name__}")
        return function

    def traced(self, field: str, function: Callable[..., Any], *args: Any) -> Any:
        """Trace a function with shapes; what it raises is said to be its own."""
        if not callable(function):
            raise self.refuse(field, "to be a function", type(function).__name__)
        try:
            return jax.eval_shape(function, *args)
        except KitaeError:
            raise
        except Exception as error:
            text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            error.add_note(f"raised by what {field} of the algorithm {self.algorithm.name!r} made")
            raise self.refuse(field, "to run for this game", text) from error

    def carry(self) -> Any:
        """Check the memory before the first step; return its shapes."""
        carry = self.traced("carry", lambda: self.made("carry")(N_ENVS))
        self._by_group("carry", carry, "to make {group: [E, A, ...]} or ()", may_be_empty=True)
        return carry

    def state(self) -> Any:
        """Check the first state; return its shapes."""
        state = self.traced("train_state", self.made("train_state"), self.key)
        if not jax.tree.leaves(state):
            raise self.refuse("train_state", "to make arrays", "none")
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            where = jax.tree_util.keystr(path) or "the state"
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                text = "to make arrays that a checkpoint can hold (jax.random.key_data of a key)"
                raise self.refuse("train_state", text, f"a key at {where}")
            if 0 in leaf.shape:
                raise self.refuse(
                    "train_state", "to make arrays of some size", f"{leaf.shape} at {where}"
                )
        return state

    def explore(self, state: Any, step: Experience, carry: Any) -> Any:
        """Check what is explored with; return the shapes of the extras."""
        args = state, self.key, step.observation, step.action_mask, carry
        got = self.traced("explore", self.made("explore"), *args)
        if not isinstance(got, tuple) or len(got) != 3:
            raise self.refuse("explore", "to return (action, extras, carry)", _kind(got))
        action, extras, after = got
        self._actions("explore", action)
        self._by_group("explore", extras, "to return extras {group: ...} or ()", may_be_empty=True)
        self._same("explore", "its carry as it got it", after, carry)
        return extras

    def select(self, state: Any, step: Experience, carry: Any) -> None:
        """Check what plays."""
        self._plays("select", state, step.observation, step.action_mask, carry)

    def sample(self, state: Any, step: Experience, carry: Any) -> None:
        """Check what plays varied actions, where the algorithm has it."""
        if self.algorithm.sample is not None:
            self._plays("sample", state, self.key, step.observation, step.action_mask, carry)

    def _plays(self, field: str, *args: Any) -> None:
        """Check a function that returns actions and its memory, the last of what it takes."""
        got = self.traced(field, self.made(field), *args)
        if not isinstance(got, tuple) or len(got) != 2:
            raise self.refuse(field, "to return (action, carry)", _kind(got))
        self._actions(field, got[0])
        self._same(field, "its carry as it got it", got[1], args[-1])

    def learn(self, state: Any, step: Experience, extras: Any, carry: Any) -> None:
        """Check what learns."""
        row = step._replace(extras=extras, carry=carry)
        rollout = _shapes(row, self.config.learner.n_steps)
        got = self.traced("learn", self.made("learn"), state, self.key, rollout)
        if not isinstance(got, tuple) or len(got) != 2:
            raise self.refuse("learn", "to return (state, metrics)", _kind(got))
        self._same("learn", "a state like the one it got", got[0], state)
        metrics = got[1]
        good = isinstance(metrics, Mapping) and all(
            isinstance(name, str) and getattr(value, "shape", None) == ()
            for name, value in metrics.items()
        )
        if not good:
            raise self.refuse("learn", "to return metrics as scalars by name", _text(metrics))

    def _by_group(self, field: str, tree: Any, expected: str, *, may_be_empty: bool) -> None:
        """Refuse what is not a dict by all groups, arrays ``[E, A, ...]`` in it."""
        if may_be_empty and isinstance(tree, tuple) and not tree:
            return
        if not isinstance(tree, Mapping) or sorted(tree) != sorted(self.names):
            raise self.refuse(field, f"{expected} with the groups {self.names}", _text(tree))
        for group in self.groups:
            for leaf in jax.tree.leaves(tree[group.name]):
                if leaf.shape[:2] != (N_ENVS, group.n_agents):
                    text = f"{expected}, E = {N_ENVS} and A = {group.n_agents}"
                    raise self.refuse(field, text, f"{leaf.shape} for {group.name}")

    def _actions(self, field: str, action: Any) -> None:
        """Refuse actions that are none of the spaces."""
        self._by_group(field, action, "to return actions {group: [E, A, ...]}", may_be_empty=False)
        for group in self.groups:
            wanted = _shapes(zeros(group.action_space, N_ENVS, group.n_agents))
            got = action[group.name]
            alike = jax.tree.structure(got) == jax.tree.structure(wanted) and all(
                a.shape == b.shape
                for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True)
            )
            if not alike:
                text = f"to return actions of {group.action_space} as {_text(wanted)}"
                raise self.refuse(field, text, f"{_text(got)} for {group.name}")

    def _same(self, field: str, expected: str, new: Any, old: Any) -> None:
        """Refuse a tree of another structure, or with arrays of another shape or dtype."""
        if jax.tree.structure(new) != jax.tree.structure(old):
            raise self.refuse(
                field, f"to return {expected}, {jax.tree.structure(old)}", jax.tree.structure(new)
            )
        for (path, was), now in zip(
            jax.tree_util.tree_leaves_with_path(old), jax.tree.leaves(new), strict=True
        ):
            if (was.shape, was.dtype) != (now.shape, now.dtype):
                where = jax.tree_util.keystr(path)
                text = f"to return {expected}, {_text(was)} at {where}"
                raise self.refuse(field, text, _text(now))


def _kind(value: Any) -> str:
    """Say what came in place of a tuple."""
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return type(value).__name__


def _text(value: Any) -> str:
    """Write shapes shortly."""
    if isinstance(value, jax.ShapeDtypeStruct):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name!r}: {_text(part)}" for name, part in value.items()) + "}"
    return _kind(value)
