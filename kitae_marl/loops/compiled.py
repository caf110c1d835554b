"""The training loop inside XLA: games, exploration and learning in one program.

It calls the same functions of an :class:`~kitae_marl.types.Algorithm` as the host loop, on the
same stacked arrays, with the same keys, so both end with the same parameters. Pure and
jittable; the host runs it in chunks of whole updates and logs, saves and stops between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from kitae_envs.core import Game, TimeStep

from kitae_marl.config.run import Config
from kitae_marl.data.keys import ENVIRONMENT, EXPLORE, key_for
from kitae_marl.data.lifting import regroup, remember
from kitae_marl.data.stacking import without_mask
from kitae_marl.loops.devices import over_environments
from kitae_marl.loops.update import Bundle, learn_factory
from kitae_marl.types import Algorithm, Experience, GroupSpec

MAX_CHUNK = 64
"""Updates that one call can run; their metrics are kept apart."""


class LoopState(NamedTuple):
    """Everything the compiled loop carries from step to step.

    Attributes:
        state: ``{group: TrainState}``.
        carry: memory of recurrent policies.
        game: states of the games, leading axis ``E``.
        view: what the agents act on: observation, action mask and active, by group; the global
            state, and which environments are at the start of an episode.
        returns: ``{group: [E, A]}``, undiscounted rewards of the running episodes.
        length: ``[E]``, steps of the running episodes.
        root_key: key of the run, for exploration and learning.
        game_key: key of the games' chance.
        step: joint steps done, uint32.
    """

    state: Any
    carry: Any
    game: Any
    view: dict[str, Any]
    returns: dict[str, Any]
    length: Any
    root_key: Any
    game_key: Any
    step: Any


def _view(step: TimeStep, reset: jax.Array) -> dict[str, Any]:
    """What the agents act on."""
    return {
        "observation": _features(step.observation),
        "action_mask": step.action_mask,
        "active": step.active,
        "state": step.state,
        "reset": reset,
    }


def _features(observation: dict[str, Any]) -> dict[str, Any]:
    """What the networks see, by group."""
    return {name: without_mask(part) for name, part in observation.items()}


def _regrouped(step: TimeStep, game: Game, groups: tuple[GroupSpec, ...]) -> TimeStep:
    """Stack what is by groups of the game by those that learn; drop a state that none looks at."""
    new = {group.name: group.agents for group in groups}
    by_group = {name: x for name, x in step._asdict().items() if isinstance(x, dict)}
    step = step._replace(**{name: regroup(x, game.groups, new) for name, x in by_group.items()})
    return step if groups[0].state_space is not None else step._replace(state=(), next_state=())


def start_loop(
    game: Game,
    groups: tuple[GroupSpec, ...],
    n_envs: int,
    state: Any,
    carry: Any,
    root_key: jax.Array,
    game_key: jax.Array,
) -> LoopState:
    """Start the games.

    Args:
        game: the rules.
        groups: of agents that learn.
        n_envs: number of environments ``E``.
        state: ``{group: TrainState}`` to start with.
        carry: memory of the policies to start with.
        root_key: key of the run, for exploration and learning.
        game_key: key of the games' chance.

    Returns:
        The loop's state before its first step.
    """
    games, step = game.start_batch(key_for(game_key, ENVIRONMENT, 0), n_envs)
    step = _regrouped(step, game, groups)
    return LoopState(
        state=state,
        carry=carry,
        game=games,
        view=_view(step, jnp.ones((n_envs,), bool)),
        returns=jax.tree.map(jnp.zeros_like, step.reward),
        length=jnp.zeros((n_envs,), jnp.int32),
        root_key=root_key,
        game_key=game_key,
        step=jnp.zeros((), jnp.uint32),
    )


def rollout_factory(
    game: Game, algorithm: Algorithm, groups: tuple[GroupSpec, ...], config: Config
) -> Callable[[LoopState, Any], tuple[LoopState, Experience, dict[str, jax.Array]]]:
    """Make ``rollout(loop_state, data)``: ``n_steps`` joint steps, learned from by one update.

    ``data`` are those of the game, ``Game.data``. It returns the state after the steps, the
    Experience ``[T, E, A, ...]``, and sums over the finished episodes: ``return/<agent>``,
    ``episode/length`` and ``episodes``, their number.
    """
    explore = remember(algorithm.explore(groups, config))

    def rollout(loop: LoopState, data: Any) -> tuple[LoopState, Experience, dict[str, jax.Array]]:
        bound = game.with_data(data)

        # Sums over finished episodes ride in the carry: a scan would keep T rows of outputs.
        def step(both: tuple[LoopState, Any], keys: Any) -> tuple[Any, Experience]:
            loop, totals = both
            loop, experience, finished = _joint_step(bound, groups, explore, loop, *keys)
            return (loop, jax.tree.map(jnp.add, totals, finished)), experience

        none = jax.tree.map(jnp.zeros_like, (loop.length, loop.length, loop.returns))
        keys = _step_keys(loop, config.learner.n_steps)
        with jax.named_scope("play"):
            (loop, totals), experience = jax.lax.scan(step, (loop, none), keys)
        episodes, length, returns = jax.tree.map(lambda x: jnp.sum(x, axis=0), totals)
        by_agent = {
            f"return/{agent}": returns[group.name][i]
            for group in groups
            for i, agent in enumerate(group.agents)
        }
        return loop, experience, {"episodes": episodes, "episode/length": length, **by_agent}

    return rollout


def chunk_factory(
    rollout: Callable[[LoopState, Any], tuple[LoopState, Experience, dict[str, jax.Array]]],
    algorithm: Algorithm,
    groups: tuple[GroupSpec, ...],
    config: Config,
) -> Callable[[LoopState, jax.Array, Any], tuple[LoopState, Bundle]]:
    """Make ``run(loop_state, n_updates, data)``, for ``jax.jit``: the updates of one chunk.

    ``n_updates`` is traced and at most ``MAX_CHUNK``, so chunks of any length are one program. The
    metrics in the bundle have shape ``[MAX_CHUNK]``, of which the first ``n_updates`` hold; sums
    over finished episodes come as ``return/<agent>`` with ``episodes``, their number.
    ``rollout`` is of ``rollout_factory``; what it does depends on no setting that is traced.
    """
    learn = learn_factory(algorithm, groups, config)

    def one_update(loop: LoopState, data: Any) -> tuple[LoopState, Bundle]:
        loop, experience, totals = rollout(loop, data)
        state, info = learn(loop.state, loop.root_key, loop.step, experience)
        info = {f"update/{name}": value for name, value in info.items()}
        # A bundle is one array for each dtype, so that a chunk writes two rows and not one for each
        # metric.
        return loop._replace(state=state), Bundle.of({**info, **totals})

    def run(loop: LoopState, n_updates: jax.Array, data: Any) -> tuple[LoopState, Bundle]:
        # Traced once, though it is called twice: for the shapes of the metrics and in the loop.
        update = jax.jit(one_update, inline=True)
        shapes = jax.eval_shape(update, loop, data)[1]
        metrics = jax.tree.map(lambda s: jnp.zeros((MAX_CHUNK, *s.shape), s.dtype), shapes)

        def body(i: jax.Array, both: Any) -> Any:
            loop, metrics = both
            loop, info = update(loop, data)
            put = jax.lax.dynamic_update_index_in_dim
            return loop, jax.tree.map(lambda all, one: put(all, one, i, 0), metrics, info)

        # Not a scan: its length would be a constant of the program, and each length a compilation.
        return jax.lax.fori_loop(0, n_updates, body, (loop, metrics))

    return run


def _step_keys(loop: LoopState, n_steps: int) -> tuple[jax.Array, jax.Array]:
    """Keys of the next joint steps ``[T]``, of exploration and of the games' chance.

    They are derived all at once: one by one they cost kernels, and time, in every step. Chance
    counts from 1 on, as key 0 has begun the games (``start_loop``).
    """
    steps = loop.step + jnp.arange(n_steps, dtype=jnp.uint32)
    roots = jnp.stack([loop.root_key, loop.game_key])
    purposes = jnp.array([EXPLORE, ENVIRONMENT])
    of_steps = jax.vmap(key_for, in_axes=(None, None, 0))
    explore, chance = jax.vmap(of_steps)(roots, purposes, jnp.stack([steps, steps + 1]))
    return explore, chance


def _joint_step(
    game: Game,
    groups: tuple[GroupSpec, ...],
    explore: Callable[..., Any],
    loop: LoopState,
    explore_key: jax.Array,
    chance: jax.Array,
) -> tuple[LoopState, Experience, tuple[Any, Any, Any]]:
    """Act, step every game, and describe what happened as one row of a rollout.

    Beside it come the number of episodes that ended, their length and returns, ``[E]`` each: added
    up over environments only after the rollout, for these may lie on several devices.
    """
    view = loop.view
    action, extras, carry = explore(
        loop.state,
        explore_key,
        view["observation"],
        view["action_mask"],
        loop.carry,
        view["reset"],
        view["active"],
    )
    own = {group.name: group.agents for group in groups}
    advance = over_environments(game.step_batch)
    games, step = advance(chance, loop.game, regroup(action, own, game.groups))
    step = _regrouped(step, game, groups)
    experience = Experience(
        observation=view["observation"],
        action=action,
        reward=step.reward,
        terminated=step.terminated,
        truncated=step.truncated,
        next_observation=_features(step.next_observation),
        extras=extras,
        action_mask=view["action_mask"],
        active=view["active"],
        next_active=step.active,
        state=view["state"],
        next_state=step.next_state,
        carry=loop.carry,
        reset=view["reset"],
        next_reset=step.over,
    )
    returns = jax.tree.map(jnp.add, loop.returns, step.reward)
    length = loop.length + 1
    over = step.over
    ended = jax.tree.map(lambda r: jnp.where(over[:, None], r, 0.0), returns)
    finished = over.astype(jnp.int32), jnp.where(over, length, 0), ended
    loop = loop._replace(
        carry=carry,
        game=games,
        view=_view(step, step.over),
        returns=jax.tree.map(lambda r: jnp.where(over[:, None], 0.0, r), returns),
        length=jnp.where(over, 0, length),
        step=loop.step + 1,
    )
    return loop, experience, finished
