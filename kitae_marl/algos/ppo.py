"""Proximal policy optimisation for several agents: IPPO (de Witt et al. 2020).

Each agent learns from its own observation, reward and advantage; agents of a group share one
network or have one each. All groups, epochs and minibatches of an update are one jittable function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kitae_marl import ops
from kitae_marl.buffer import batchify_and_randomize
from kitae_marl.config import Config
from kitae_marl.distributions import Distribution, distribution_for, mask_logits
from kitae_marl.groups import GroupSpec, over_agents
from kitae_marl.loops.update import update_epoch
from kitae_marl.networks import Actor, Critic, feature_space, zeros
from kitae_marl.types import Algorithm, AlgoType, Experience, TrainState

Groups = tuple[GroupSpec, ...]
State = dict[str, TrainState]


class PPOBatch(NamedTuple):
    """What an update reads, every field ``{group: [T * E, A, ...]}``.

    ``weight`` is 1 for decisions that count and 0 for all other rows.
    """

    observation: Any
    action: Any
    log_prob: Any
    advantage: Any
    target: Any
    action_mask: Any
    weight: Any


class Learner(NamedTuple):
    """The networks, the action distribution and the optimiser of one group."""

    actor: Actor
    critic: Critic
    distribution: Distribution
    optimizer: optax.GradientTransformation


def make_learner(group: GroupSpec, config: Config) -> Learner:
    """Build what one group learns with."""
    ppo = config.ppo
    space = feature_space(group.observation_space)
    distribution = distribution_for(group.action_space)
    n_gradient_steps = config.n_updates * ppo.n_epochs * ppo.n_minibatches
    final = 0.0 if ppo.anneal else ppo.learning_rate
    schedule = optax.linear_schedule(ppo.learning_rate, final, n_gradient_steps)
    return Learner(
        actor=Actor(space, distribution, ppo.hidden_sizes, ppo.activation),
        critic=Critic(space, ppo.hidden_sizes, ppo.activation),
        distribution=distribution,
        optimizer=optax.chain(
            optax.clip_by_global_norm(ppo.max_grad_norm), optax.adam(schedule, eps=1e-5)
        ),
    )


def train_state_factory(groups: Groups, config: Config) -> Callable[[jax.Array], State]:
    """Make ``train_state(key)``: first parameters and optimiser states of every group."""

    def init_one(group: GroupSpec, key: jax.Array) -> TrainState:
        learner = make_learner(group, config)
        observation = zeros(feature_space(group.observation_space), 1)
        actor_key, critic_key = jax.random.split(key)
        params = {
            "actor": learner.actor.init(actor_key, observation),
            "critic": learner.critic.init(critic_key, observation),
        }
        return TrainState(params, learner.optimizer.init(params), jnp.zeros((), jnp.int32))

    def train_state(key: jax.Array) -> State:
        state = {}
        for group, group_key in zip(groups, jax.random.split(key, len(groups)), strict=True):
            if group.share_params:
                state[group.name] = init_one(group, group_key)
            else:
                keys = jax.random.split(group_key, group.n_agents)
                state[group.name] = jax.vmap(lambda k, g=group: init_one(g, k))(keys)
        return state

    return train_state


def _outputs(group: GroupSpec, learner: Learner, state: State, observation: Any, mask: Any) -> Any:
    """Parameters of the action distribution for stacked observations ``[E, A, ...]``."""
    params = state[group.name].params["actor"]
    apply = over_agents(learner.actor.apply, group, agent_axis=1, out_axes=1)
    return mask_logits(apply(params, observation[group.name]), mask[group.name])


def explore_factory(groups: Groups, config: Config) -> Callable[..., Any]:
    """Make ``explore(state, key, observation, action_mask, carry)``, which samples actions."""
    learners = {group.name: make_learner(group, config) for group in groups}

    def explore(
        state: State, key: jax.Array, observation: Any, action_mask: Any, carry: Any
    ) -> tuple[Any, Any, Any]:
        action, log_prob = {}, {}
        for group, group_key in zip(groups, jax.random.split(key, len(groups)), strict=True):
            learner = learners[group.name]
            outputs = _outputs(group, learner, state, observation, action_mask)
            action[group.name] = learner.distribution.sample(outputs, group_key)
            log_prob[group.name] = learner.distribution.log_prob(outputs, action[group.name])
        return action, log_prob, carry

    return explore


def select_factory(groups: Groups, config: Config) -> Callable[..., Any]:
    """Make ``select(state, observation, action_mask, carry)``, the likeliest actions."""
    learners = {group.name: make_learner(group, config) for group in groups}

    def select(state: State, observation: Any, action_mask: Any, carry: Any) -> tuple[Any, Any]:
        action = {}
        for group in groups:
            learner = learners[group.name]
            outputs = _outputs(group, learner, state, observation, action_mask)
            action[group.name] = learner.distribution.mode(outputs)
        return action, carry

    return select


def process_experience_factory(groups: Groups, config: Config) -> Callable[..., PPOBatch]:
    """Make ``process_experience(state, key, experience)``: advantages and value targets."""
    learners = {group.name: make_learner(group, config) for group in groups}
    ppo = config.ppo

    def process_group(group: GroupSpec, state: State, experience: Experience) -> PPOBatch:
        rows = {name: field[group.name] for name, field in experience._asdict().items() if field}
        critic = learners[group.name].critic.apply
        values = over_agents(critic, group, agent_axis=2, out_axes=2)
        params = state[group.name].params["critic"]
        value = values(params, rows["observation"])
        advantage, valid = ops.generalized_advantage(
            rows["reward"],
            value,
            values(params, rows["next_observation"]),
            rows["terminated"],
            rows["truncated"],
            rows["active"],
            rows["next_active"],
            ppo.gamma,
            ppo.gae_lambda,
        )
        # Rows that don't count become zeros: were they NaN, 0 * NaN would reach the gradients.
        observation, action, log_prob, target = jax.tree.map(
            lambda x: jnp.where(
                jnp.expand_dims(valid, range(3, x.ndim)), x, jnp.zeros((), x.dtype)
            ),
            (rows["observation"], rows["action"], rows["log_prob"], advantage + value),
        )
        batch = PPOBatch(
            observation=observation,
            action=action,
            log_prob=log_prob,
            advantage=advantage,
            target=target,
            action_mask=rows["action_mask"],
            weight=valid.astype(jnp.float32),
        )
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

    def process_experience(state: State, key: jax.Array, experience: Experience) -> PPOBatch:
        del key  # nothing random here
        batches = [process_group(group, state, experience) for group in groups]
        names = [group.name for group in groups]
        return PPOBatch(
            *(dict(zip(names, field, strict=True)) for field in zip(*batches, strict=True))
        )

    return process_experience


def _loss(
    params: Any, learner: Learner, config: Config, batch: PPOBatch
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss of one set of parameters on rows ``[B, ...]`` (or ``[B, A, ...]`` where shared)."""
    ppo, weight = config.ppo, batch.weight
    outputs: Any = learner.actor.apply(params["actor"], batch.observation)
    outputs = mask_logits(outputs, batch.action_mask)
    log_prob = learner.distribution.log_prob(outputs, batch.action)
    value: Any = learner.critic.apply(params["critic"], batch.observation)
    advantage = batch.advantage
    if ppo.normalize_advantage:
        advantage = ops.normalize(advantage, weight)
    surrogate = ops.clipped_surrogate_loss(log_prob, batch.log_prob, advantage, ppo.clip)
    policy_loss = ops.weighted_mean(surrogate, weight)
    value_loss = ops.weighted_mean(0.5 * (value - batch.target) ** 2, weight)
    entropy = ops.weighted_mean(learner.distribution.entropy(outputs), weight)
    clipped = jnp.abs(jnp.expm1(log_prob - batch.log_prob)) > ppo.clip
    info = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approx_kl": ops.weighted_mean(ops.approximate_kl(log_prob, batch.log_prob), weight),
        "clip_fraction": ops.weighted_mean(clipped.astype(jnp.float32), weight),
        "explained_variance": ops.explained_variance(value, batch.target, weight),
    }
    return policy_loss + ppo.value_coef * value_loss - ppo.entropy_coef * entropy, info


def update_step_factory(groups: Groups, config: Config) -> Callable[..., Any]:
    """Make ``update_step(state, key, processed)``: all epochs and minibatches of one update."""
    learners = {group.name: make_learner(group, config) for group in groups}
    ppo = config.ppo

    def update_group(group: GroupSpec, state: TrainState, batch: PPOBatch) -> Any:
        learner = learners[group.name]

        def gradient_step(state: TrainState, *fields: Any) -> Any:
            loss = jax.value_and_grad(_loss, has_aux=True)
            (_, info), grads = loss(state.params, learner, config, PPOBatch(*fields))
            updates, opt_state = learner.optimizer.update(grads, state.opt_state, state.params)
            info["grad_norm"] = optax.tree.norm(grads)
            params = optax.apply_updates(state.params, updates)
            return state._replace(params=params, opt_state=opt_state), info

        if group.share_params:  # one axis of rows: the matrix products of two axes are slower
            batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
        return over_agents(gradient_step, group, agent_axis=1, out_axes=0)(state, *batch)

    def update_batch(state: State, key: jax.Array, batch: PPOBatch) -> tuple[State, Any]:
        del key  # nothing random in a gradient step
        new_state, infos = {}, {}
        for group in groups:
            rows = PPOBatch(*(field[group.name] for field in batch))
            new_state[group.name], info = update_group(group, state[group.name], rows)
            infos |= {f"{group.name}/{name}": jnp.mean(x) for name, x in info.items()}
        return new_state, infos

    def update_step(state: State, key: jax.Array, processed: PPOBatch) -> tuple[State, Any]:
        n_rows = jax.tree.leaves(processed)[0].shape[0]

        def epoch(state: State, key: jax.Array) -> tuple[State, Any]:
            return update_epoch(
                key,
                state,
                processed,
                batchify_and_randomize,
                update_batch,
                experience_type=PPOBatch,
                batch_size=n_rows // ppo.n_minibatches,
            )

        state, infos = jax.lax.scan(epoch, state, jax.random.split(key, ppo.n_epochs))
        counted = {name: s._replace(n_updates=s.n_updates + 1) for name, s in state.items()}
        return counted, jax.tree.map(lambda x: jnp.mean(x, axis=0), infos)

    return update_step


ippo = Algorithm(
    name="ippo",
    algo_type=AlgoType.ON_POLICY,
    train_state_factory=train_state_factory,
    explore_factory=explore_factory,
    process_experience_factory=process_experience_factory,
    update_step_factory=update_step_factory,
    select_factory=select_factory,
)
"""Independent PPO: the critic of each agent sees what the agent sees."""
