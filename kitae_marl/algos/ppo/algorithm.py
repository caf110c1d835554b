"""Proximal policy optimisation for several agents: IPPO (de Witt et al. 2020) and MAPPO (Yu et al.
2022), which differ in what the critic sees.

Each agent learns from its own reward and advantage; agents of a group share one network or have
one each. All groups, epochs and minibatches of an update are one jittable function.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kitae_marl.algos import ops
from kitae_marl.algos.ppo.actors import (
    MAGNET,
    average,
    entropy_left,
    has_magnet,
    moved_actors,
)
from kitae_marl.algos.ppo.export import export_group
from kitae_marl.algos.ppo.learner import (
    Groups,
    Learner,
    State,
    first_state,
    is_central,
    make_learner,
    make_learners,
)
from kitae_marl.algos.ppo.targets import PPOBatch, Processed, process_experience_factory
from kitae_marl.algos.ppo.units import in_units_of
from kitae_marl.config.learner import DECLARED
from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.data.lifting import over_agents
from kitae_marl.data.rollout import batchify_and_randomize
from kitae_marl.loops import devices
from kitae_marl.loops.devices import over_rows
from kitae_marl.loops.update import Bundle, all_but_schedule, mean, update_epoch
from kitae_marl.types import Algorithm, AlgoType, Experience, GroupSpec, TrainState

__all__ = ["PPOBatch", "ippo", "make_learner", "mappo", "process_experience_factory"]


def carry_factory(groups: Groups, config: Config) -> Callable[[int], Any]:
    """Make ``carry(n_envs)``: the actors' memory before the first step."""

    def carry(n_envs: int) -> Any:
        if not config.ppo.gru_size:
            return ()
        shape = (config.ppo.gru_size,)
        return {g.name: jnp.zeros((n_envs, g.n_agents, *shape)) for g in groups}

    return carry


def train_state_factory(groups: Groups, config: Config) -> Callable[[jax.Array], State]:
    """Make ``train_state(key)``: first parameters and optimiser states of every group."""

    def train_state(key: jax.Array) -> State:
        state = {}
        for group, group_key in zip(groups, jax.random.split(key, len(groups)), strict=True):

            def first(key: jax.Array, group: GroupSpec = group) -> TrainState:
                return first_state(group, config, groups, key)

            if group.share_params:
                state[group.name] = first(group_key)
            else:
                state[group.name] = jax.vmap(first)(jax.random.split(group_key, group.n_agents))
        return state

    return train_state


def _outputs(
    group: GroupSpec, learner: Learner, state: State, observation: Any, mask: Any, carry: Any
) -> tuple[Any, Any]:
    """Parameters of the action distribution for stacked observations ``[E, A, ...]``; memory."""
    name = group.name
    policy = over_agents(learner.policy, group, agent_axis=1, out_axes=1)
    return policy(state[name], observation[name], mask[name], carry[name] if carry else ())


def explore_factory(groups: Groups, config: Config) -> Callable[..., Any]:
    """Make ``explore(state, key, observation, action_mask, carry)``, which samples actions."""
    learners = make_learners(groups, config)

    def explore(
        state: State, key: jax.Array, observation: Any, action_mask: Any, carry: Any
    ) -> tuple[Any, Any, Any]:
        action, log_prob, new = {}, {}, {}
        for group, group_key in zip(groups, jax.random.split(key, len(groups)), strict=True):
            name, learner = group.name, learners[group.name]
            outputs, new[name] = _outputs(group, learner, state, observation, action_mask, carry)
            action[name] = learner.distribution.sample(outputs, group_key)
            log_prob[name] = learner.distribution.log_prob(outputs, action[name])
        return action, log_prob, new if carry else ()

    return explore


def select_factory(groups: Groups, config: Config) -> Callable[..., Any]:
    """Make ``select(state, observation, action_mask, carry)``, the likeliest actions."""
    learners = make_learners(groups, config)

    def select(state: State, observation: Any, action_mask: Any, carry: Any) -> tuple[Any, Any]:
        action, new = {}, {}
        for group in groups:
            name, learner = group.name, learners[group.name]
            outputs, new[name] = _outputs(group, learner, state, observation, action_mask, carry)
            action[name] = learner.distribution.mode(outputs)
        return action, new if carry else ()

    return select


def probabilities_factory(groups: Groups, config: Config) -> Callable[..., Any]:
    """Make ``probabilities(state, observation, action_mask, carry)``, of every action."""
    learners = make_learners(groups, config)

    def probabilities(
        state: State, observation: Any, action_mask: Any, carry: Any
    ) -> tuple[Any, Any]:
        found, new = {}, {}
        for group in groups:
            name, learner = group.name, learners[group.name]
            outputs, new[name] = _outputs(group, learner, state, observation, action_mask, carry)
            assert learner.distribution.probabilities is not None  # asked of Discrete spaces alone
            found[name] = learner.distribution.probabilities(outputs)
        return found, new if carry else ()

    return probabilities


def _value_loss(value: jax.Array, batch: PPOBatch, clip: float | None) -> jax.Array:
    r"""Per-row value loss, ``(V - R)^2 / 2``; with ``clip`` the larger one of two.

    The other is that of ``V_old + clip(V - V_old, -eps, eps)`` (Schulman et al. 2017, in their
    code).
    """
    loss = 0.5 * (value - batch.target) ** 2
    if clip is None:
        return loss
    near = batch.value + jnp.clip(value - batch.value, -clip, clip)
    return jnp.maximum(loss, 0.5 * (near - batch.target) ** 2)


def _loss(
    params: Any,
    state: TrainState,
    learner: Learner,
    config: Config,
    batch: PPOBatch,
    total: jax.Array,
) -> tuple[jax.Array, tuple[Bundle, jax.Array]]:
    """Loss of one set of parameters on rows ``[B]`` or ``[L, B]``, where shared ``[..., A]``.

    Advantages are normalised before. The loss is the sum over these rows divided by ``total``, the
    weight of all rows of the minibatch; beside it come the value of every row, and the terms' sums
    likewise divided.
    """
    ppo, weight = config.ppo, batch.weight
    state = state._replace(params=params)
    rows, (actor_carry, critic_carry) = (
        (batch.memory, batch.carry) if ppo.gru_size else (None, ((), ()))
    )
    outputs, _ = learner.policy(state, batch.observation, batch.action_mask, actor_carry, rows)
    log_prob = learner.distribution.log_prob(outputs, batch.action)
    sight = batch.state if is_central(config) else batch.observation
    value, _ = learner.value(state, sight, critic_carry, rows)
    clipped = jnp.abs(jnp.expm1(log_prob - batch.log_prob)) > ppo.clip
    terms = {
        "policy_loss": ops.clipped_surrogate_loss(
            log_prob, batch.log_prob, batch.advantage, ppo.clip
        ),
        "value_loss": _value_loss(value, batch, ppo.clip_value),
        "entropy": learner.distribution.entropy(outputs),
        "approx_kl": ops.approximate_kl(log_prob, batch.log_prob),
        "clip_fraction": clipped.astype(jnp.float32),
    }
    entropy_coef = entropy_left(config, state.n_updates) * ppo.entropy_coef
    loss = (
        terms["policy_loss"]
        + ppo.value_coef * terms["value_loss"]
        - entropy_coef * terms["entropy"]
    )
    if has_magnet(config):
        # The magnet has no memory of its own: of recurrent policies it is told what they remember.
        magnet = state._replace(params={"actor": state.actors[MAGNET]})
        pulled, _ = learner.policy(magnet, batch.observation, batch.action_mask, actor_carry, rows)
        terms["magnet_kl"] = learner.distribution.kl(outputs, jax.lax.stop_gradient(pulled))
        loss += ppo.magnet_coef * terms["magnet_kl"]
    sums = jax.vmap(ops.weighted_sum, (0, None))(jnp.stack(list(terms.values())), weight)
    means = dict(zip(terms, sums / total, strict=True))
    return ops.weighted_sum(loss, weight) / total, (Bundle.of(means), value)


def _gradient(
    state: TrainState, learner: Learner, config: Config, group: GroupSpec, batch: PPOBatch
) -> tuple[Any, dict[str, jax.Array], jax.Array]:
    """Gradient and mean terms of one minibatch, added up over blocks; value of every row."""
    gru = bool(config.ppo.gru_size)
    agents = 1 if group.share_params else group.n_agents
    gradient = jax.grad(_loss, has_aux=True)
    pictures = devices.rows_of_pictures(group.observation_space)

    def of_rows(whole: Any, batch: PPOBatch) -> tuple[Any, jax.Array]:
        state, total = whole
        weight = batch.weight

        def of_block(sums: Any, block: PPOBatch) -> tuple[Any, tuple[Bundle, jax.Array]]:
            if gru:
                block = _swap_time(block)._replace(carry=block.carry)
            grads, (terms, value) = gradient(state.params, state, learner, config, block, total)
            value = _swap_time(value) if gru else value
            return jax.tree.map(jnp.add, sums, grads), (terms, value)

        n_rows = weight.shape[0]
        n = devices.n_blocks(n_rows, agents * pictures * weight.size // n_rows)
        blocks = jax.tree.map(lambda x: x.reshape(n, n_rows // n, *x.shape[1:]), batch)
        zeros = jax.tree.map(jnp.zeros_like, state.params)
        grads, (terms, value) = jax.lax.scan(of_block, zeros, blocks)
        terms = jax.tree.map(lambda x: jnp.sum(x, axis=0), terms)
        return (grads, terms), value.reshape(weight.shape)

    total = jnp.maximum(jnp.sum(batch.weight), ops.LEAST_WEIGHT)
    (grads, terms), value = over_rows(of_rows, (state, total), batch)
    return grads, terms.arrays(), value


def _swap_time(tree: Any) -> Any:
    """Bring time before the sequences, ``[L, B, ...]``, or back."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), tree)


def _gradient_step(learner: Learner, config: Config, group: GroupSpec) -> Callable[..., Any]:
    """Make ``step((train_state, stopped), batch)``: one step of one set of parameters.

    Parameters and optimiser stay as they are where the update was ``stopped``, for the divergence
    passed ``target_kl`` in this minibatch or before; the learning rate is annealed all the same.
    """
    target_kl = config.ppo.target_kl

    def step(both: Any, *fields: Any) -> Any:
        state, stopped = both
        batch = PPOBatch(*fields)
        if config.ppo.normalize_advantage:
            batch = batch._replace(advantage=ops.normalize(batch.advantage, batch.weight))
        grads, info, value = _gradient(state, learner, config, group, batch)
        info["explained_variance"] = ops.explained_variance(value, batch.target, batch.weight)
        info["grad_norm"] = optax.tree.norm(grads)
        updates, opt_state = learner.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        if target_kl is not None:
            stopped = stopped | (info["approx_kl"] > target_kl)
            info["stopped"] = stopped.astype(jnp.float32)
            new = params, opt_state
            old = all_but_schedule((state.params, state.opt_state), new)
            params, opt_state = jax.tree.map(partial(jnp.where, stopped), old, new)
        return (state._replace(params=params, opt_state=opt_state), stopped), info

    return step


def update_step_factory(groups: Groups, config: Config) -> Callable[..., Any]:
    """Make ``update_step(state, key, processed)``: all epochs and minibatches of one update."""
    learners = make_learners(groups, config)
    ppo = config.ppo
    axis = 2 if ppo.gru_size else 1
    axes = tuple(None if field == "state" else axis for field in PPOBatch._fields)
    axes = tuple(
        1 if name == "carry" else x for name, x in zip(PPOBatch._fields, axes, strict=True)
    )

    def update_batch(state: Any, key: jax.Array, batch: PPOBatch) -> tuple[Any, Any]:
        del key  # nothing random in a gradient step
        new_state, infos = {}, {}
        for group in groups:
            name = group.name
            step = over_agents(_gradient_step(learners[name], config, group), group, axes, 0)
            new_state[name], info = step(state[name], *(field[name] for field in batch))
            infos |= {f"{name}/{key}": jnp.mean(x) for key, x in info.items()}
        return new_state, infos

    def update_step(state: State, key: jax.Array, processed: Processed) -> tuple[State, Any]:
        n_rows = jax.tree.leaves(processed.batch.weight)[0].shape[0]
        if ppo.normalize_return:
            state = {name: in_units_of(s, processed.moments[name]) for name, s in state.items()}
        going = {name: (s, jnp.zeros(s.n_updates.shape, bool)) for name, s in state.items()}

        def epoch(going: Any, key: jax.Array) -> tuple[Any, Bundle]:
            going, infos = update_epoch(
                key,
                going,
                processed.batch,
                batchify_and_randomize,
                update_batch,
                experience_type=PPOBatch,
                batch_size=n_rows // ppo.n_minibatches,
            )
            return going, Bundle.of(infos)

        going, infos = jax.lax.scan(epoch, going, jax.random.split(key, ppo.n_epochs))
        learned = {
            name: s._replace(
                n_updates=s.n_updates + 1,
                actors=moved_actors(config, s),
                critic_carry=processed.critic_carry[name],
                moments=processed.moments[name],
            )
            for name, (s, _) in going.items()
        }
        return learned, mean(infos).arrays()

    return update_step


def learn_factory(
    groups: Groups,
    config: Config,
    process_factory: Callable[..., Any] = process_experience_factory,
    update_factory: Callable[..., Any] = update_step_factory,
) -> Callable[..., tuple[State, Any]]:
    """Make ``learn(state, key, experience)``: values and targets first, then all epochs."""
    process_experience = process_factory(groups, config)
    update_step = update_factory(groups, config)

    def learn(state: State, key: jax.Array, experience: Experience) -> tuple[State, Any]:
        process_key, update_key = jax.random.split(key)
        # Named for profiles, and for the test that finds no exchange between devices in "play".
        with jax.named_scope("process"):
            processed = process_experience(state, process_key, experience)
        with jax.named_scope("update"):
            return update_step(state, update_key, processed)

    return learn


def acting(state: State) -> State:
    """Return what acting reads: the actors, and the statistics of what they observe."""
    return {
        name: TrainState(
            params={"actor": s.params["actor"]},
            opt_state=(),
            n_updates=(),
            moments={name: m for name, m in dict(s.moments).items() if name == "observation"},
        )
        for name, s in state.items()
    }


def _algorithm(name: str) -> Algorithm:
    """Make the record of one member of the family."""
    return Algorithm(
        name=name,
        algo_type=AlgoType.ON_POLICY,
        settings=PPOConfig,
        carry=carry_factory,
        train_state=train_state_factory,
        explore=explore_factory,
        select=select_factory,
        probabilities=probabilities_factory,
        learn=learn_factory,
        acting=acting,
        average=average,
        central=DECLARED[name].central,
        export=export_group,
    )


ippo = _algorithm("ippo")
"""Independent PPO: the critic of each agent sees what the agent sees."""

mappo = _algorithm("mappo")
"""PPO with a central critic: it sees the game's global state, else all agents' observations."""
