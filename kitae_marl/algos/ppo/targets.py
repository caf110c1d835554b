"""From a rollout to what PPO learns from: what critics see, values, advantages, targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kitae_marl.algos import ops
from kitae_marl.algos.nets.normalization import normalized, with_rows
from kitae_marl.algos.ppo.learner import Groups, Learner, State, is_central, make_learners
from kitae_marl.algos.ppo.units import Units, first_baseline, values_of
from kitae_marl.config.run import Config
from kitae_marl.data.lifting import apply_where, behind, over_agents
from kitae_marl.data.rollout import cut_sequences
from kitae_marl.loops import devices
from kitae_marl.loops.devices import over_rows
from kitae_marl.types import Experience, GroupSpec, TrainState


class PPOBatch(NamedTuple):
    """What an update reads, every field ``{group: [N, A, ...]}``, rows ``N = T * E``.

    Of recurrent networks a row is a sequence of ``L`` steps, ``{group: [N, L, A, ...]}`` with
    ``N = T / L * E``; memories at its start are ``[N, A, H]``.

    Attributes:
        observation: what the actor sees.
        state: what a central critic sees, without axis ``A``; ``()`` where it sees ``observation``.
        action: what was done.
        log_prob: its log-probability then.
        advantage: how much better it was than expected; 0 in rows that don't count.
        target: value target in the critic's units.
        value: what the critic said, in its units; ``()`` unless values are clipped.
        action_mask: which actions were allowed.
        weight: 1 for decisions that count and 0 for all other rows.
        memory: ``(reset, active)`` of each step, ``()`` for feed-forward networks.
        carry: memory of actor and critic at the start of the row, likewise.
    """

    observation: Any
    state: Any
    action: Any
    log_prob: Any
    advantage: Any
    target: Any
    value: Any
    action_mask: Any
    weight: Any
    memory: Any
    carry: Any


class Processed(NamedTuple):
    """What ``process_experience`` returns.

    Attributes:
        batch: rows to learn from.
        critic_carry: ``{group: ...}``, the critic's memory after the rollout.
        moments: ``{group: ...}``, running statistics with this rollout.
    """

    batch: PPOBatch
    critic_carry: Any
    moments: Any


ENDS_AT_ONCE = 8
"""Rows for each environment whose next values are computed in one block: more are computed in vain
where few episodes end, fewer make more blocks where many do."""


class CriticInput(NamedTuple):
    """What the critic of a group sees, now and next; ``axis`` is that of ``A``, if there is one."""

    now: Any
    next: Any
    axis: int | None


def _where(flag: jax.Array, tree: Any) -> Any:
    """Put zeros where a flag of leading axes is False: were they NaN, 0 * NaN would spread."""
    return jax.tree.map(lambda x: jnp.where(behind(flag, x), x, jnp.zeros((), x.dtype)), tree)


def _critic_input(
    group: GroupSpec, config: Config, experience: Experience, joint: Any
) -> CriticInput:
    """What the critic of a group sees."""
    active = experience.active[group.name]
    if not is_central(config):
        now = _where(active, experience.observation[group.name])
        return CriticInput(now, experience.next_observation[group.name], 2)
    if group.state_space is None:
        return CriticInput(joint[0], joint[1], None)
    return CriticInput(_where(active.any(axis=-1), experience.state), experience.next_state, None)


def _joint_observations(
    groups: Groups, config: Config, state: State, experience: Experience
) -> tuple[Any, Any]:
    """All agents' observations together, now and next, those of absent agents being zeros.

    The next observation of an agent counts if the agent is to act on it, or if its episode ends
    with it.
    """
    over = experience.next_reset[..., None]

    def scaled(group: GroupSpec, observation: Any) -> Any:
        if not config.ppo.normalize_observation:
            return observation
        moments = state[group.name].moments["observation"]
        return over_agents(normalized, group, 2, 2)(moments, observation)

    now, then = {}, {}
    for group in groups:
        name = group.name
        ended = experience.terminated[name] | experience.truncated[name]
        present = ended | (experience.next_active[name] & ~over)
        now[name] = _where(experience.active[name], scaled(group, experience.observation[name]))
        then[name] = _where(present, scaled(group, experience.next_observation[name]))
    return now, then


def _values(
    group: GroupSpec,
    learner: Learner,
    state: TrainState,
    seen: CriticInput,
    experience: Experience,
    rows: Any,
) -> tuple[Any, Any, Any]:
    """Values of the rollout and of the observations that follow, in the critic's units.

    Returns:
        ``(value, next_value, carry)``, ``[T, E, A]`` each; the values that follow are read at the
        end of truncated episodes and of the rollout, and are 0 elsewhere. ``carry`` is the critic's
        memory after each row.
    """
    axis = seen.axis

    def of_rows(state: TrainState, parts: Any) -> Any:
        now, then, truncated, rows, critic_carry = parts
        n_steps, n_envs, n_agents = truncated.shape

        def unroll(state: TrainState, now: Any, carry: Any, *rows: Any) -> Any:
            return learner.value(state, now, carry, rows or None)

        def of_block(carry: Any, block: Any) -> tuple[Any, Any]:
            now, rows = block
            # The memory is kept with agents first where each has a network of its own.
            axes = (axis, 0, *(2 for _ in rows))
            value, after = over_agents(unroll, group, axes, 2)(state, now, carry, *rows)
            # What the next block begins with is the memory after this one's last row.
            return jax.tree.map(lambda x: _by_agent(group, x[-1]), after), (value, after)

        # In blocks of steps: the activations of a whole rollout do not fit the caches of a CPU.
        pictures = devices.rows_of_pictures(group.observation_space)
        n = devices.n_blocks(n_steps, n_envs * n_agents * pictures)
        blocks = jax.tree.map(lambda x: x.reshape(n, n_steps // n, *x.shape[1:]), (now, rows))
        _, after = jax.lax.scan(of_block, critic_carry, blocks)
        value, carry = jax.tree.map(lambda x: x.reshape(n_steps, *x.shape[2:]), after)
        # Rows whose next value is asked for: where an episode was cut, and where the rollout is.
        needed = truncated.any(axis=-1).at[-1].set(True)

        def following(rows: Any) -> Any:
            def one(state: TrainState, then: Any, carry: Any) -> Any:
                return learner.value(state, then, carry)[0]

            of_rows = None if axis is None else axis - 1  # rows have lost their time axis
            return over_agents(one, group, (of_rows, 1), 1)(state, *rows)

        block = min(needed.size, ENDS_AT_ONCE * n_envs)
        return (), (value, apply_where(following, (then, carry), needed, block), carry)

    # The critic's memory has an axis of environments, so that it is split over devices with the
    # rows and not handed to all of them with the parameters.
    truncated = experience.truncated[group.name]
    parts = seen.now, seen.next, truncated, rows, state.critic_carry
    axes = 1, 1, 1, 1, 0 if group.share_params else 1
    return over_rows(of_rows, state._replace(critic_carry=()), parts, axes)[1]


def _memory_rows(group: GroupSpec, experience: Experience) -> tuple[Any, Any]:
    """Where the memory of a group begins anew and where it advances, ``[T, E, A]``."""
    active = experience.active[group.name]
    return jnp.broadcast_to(experience.reset[..., None], active.shape), active


def _start_carries(
    group: GroupSpec, config: Config, state: TrainState, own: Any, after: Any
) -> Any:
    """Memory of actor and critic before each sequence, ``[N, A, H]`` each.

    Args:
        group: the group.
        config: settings of the run.
        state: of the group, before the rollout.
        own: the actor's memory before each row, ``[T, E, A, H]``.
        after: the critic's memory after each row.
    """
    first = state.critic_carry
    before = jnp.concatenate([_by_agent(group, first)[None], after[:-1]])
    starts = jax.tree.map(lambda x: x[:: config.ppo.chunk_length], (own, before))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), starts)


def _by_agent(group: GroupSpec, carry: jax.Array) -> jax.Array:
    """Swap the first two axes of a critic's memory where they are ``[A, E]``, or back."""
    return carry if group.share_params else jnp.swapaxes(carry, 0, 1)


def _moments(
    group: GroupSpec, state: TrainState, experience: Experience, target: Any, valid: Any
) -> Any:
    """Running statistics with this rollout, of rows that count; () where there are none."""
    active = experience.active[group.name]
    sources = {
        "observation": (experience.observation[group.name], active, 2),
        "state": (experience.state, active, None),
        "target": (target, valid, 2),
    }

    def add(old: Any, x: Any, counted: jax.Array) -> Any:
        return with_rows(old, x, counted)

    def add_state(old: Any, x: Any, counted: jax.Array) -> Any:
        return with_rows(old, x, counted.reshape(*counted.shape[:2], -1).any(axis=-1))

    new = {}
    for name, old in dict(state.moments).items():
        x, counted, axis = sources[name]
        function = add if name != "state" else add_state
        new[name] = over_agents(function, group, (axis, 2), 0)(old, x, counted)
    return new or ()


def process_experience_factory(groups: Groups, config: Config) -> Callable[..., Processed]:
    """Make ``process_experience(state, key, experience)``: advantages and value targets."""
    learners = make_learners(groups, config)
    ppo = config.ppo

    def process_group(group: GroupSpec, state: TrainState, experience: Experience, joint: Any):
        name = group.name
        rows = {
            field: value[name]
            for field, value in experience._asdict().items()
            if isinstance(value, dict) and name in value
        }
        memory = _memory_rows(group, experience) if ppo.gru_size else ()
        seen = _critic_input(group, config, experience, joint)
        raw, raw_next, carry = _values(group, learners[name], state, seen, experience, memory)
        ended = rows["terminated"], rows["truncated"]
        ends = (*ended, rows["active"], rows["next_active"])
        value, next_value = raw, raw_next
        if ppo.normalize_return:
            units = state.moments["target"]
            baseline = first_baseline(group, units, rows["reward"], *ends, ppo.gamma)
            value, next_value = (values_of(units, x, baseline) for x in (raw, raw_next))
        advantage, valid = ops.generalized_advantage(
            rows["reward"], value, next_value, *ends, ppo.gamma, ppo.gae_lambda
        )
        target = advantage + value
        moments = _moments(group, state, experience, target, valid)
        if ppo.normalize_return:
            new = Units.of(moments["target"])
            target, raw = new.of_critic(target), new.of_critic(value)
        action, log_prob, target, raw = _where(valid, (rows["action"], rows["extras"], target, raw))
        batch = PPOBatch(
            observation=_where(rows["active"], rows["observation"]),
            state=seen.now if is_central(config) else (),
            action=action,
            log_prob=log_prob,
            advantage=advantage,
            target=target,
            value=raw if ppo.clip_value is not None else (),
            action_mask=rows["action_mask"],
            weight=valid.astype(jnp.float32),
            memory=memory,
            carry=(),
        )
        if not ppo.gru_size:
            return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch), (), moments
        batch = cut_sequences(batch, ppo.chunk_length)
        carries = _start_carries(group, config, state, rows["carry"], carry)
        return batch._replace(carry=carries), _by_agent(group, carry[-1]), moments

    def process_experience(state: State, key: jax.Array, experience: Experience) -> Processed:
        del key  # nothing random here
        joint = ()
        if is_central(config) and groups[0].state_space is None:
            joint = _joint_observations(groups, config, state, experience)
        parts = {g.name: process_group(g, state[g.name], experience, joint) for g in groups}
        batches = {name: batch for name, (batch, _, _) in parts.items()}
        fields = [
            {name: batch[i] for name, batch in batches.items()}
            for i in range(len(PPOBatch._fields))
        ]
        return Processed(
            batch=PPOBatch(*fields),
            critic_carry={name: carry for name, (_, carry, _) in parts.items()},
            moments={name: moments for name, (_, _, moments) in parts.items()},
        )

    return process_experience
