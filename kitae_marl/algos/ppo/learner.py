"""What each group of the PPO family learns with: its networks, what they see, its optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kitae_marl.algos.nets.distributions import Distribution, distribution_for
from kitae_marl.algos.nets.networks import Actor, Critic, Given, network_for
from kitae_marl.algos.nets.normalization import first_moments, moments_of, normalized
from kitae_marl.algos.ppo.actors import first_actors
from kitae_marl.config.run import Config
from kitae_marl.data.spaces import feature_space, lead_shape, zeros
from kitae_marl.types import GroupSpec, TrainState

Groups = tuple[GroupSpec, ...]
State = dict[str, TrainState]


class Learner(NamedTuple):
    """What one group learns with; its functions are those of one set of parameters.

    Attributes:
        actor: the policy network.
        critic: the value network.
        distribution: of the actions.
        optimizer: of the parameters of both networks.
        policy: ``(train_state, observation, action_mask, carry, rows) -> (outputs, carry)``, the
            parameters of the action distribution.
        value: ``(train_state, sight, carry, rows) -> (value, carry)``, in the critic's units;
            ``sight`` is the observation, or what a central critic sees. ``rows`` as of ``GRU``.
    """

    actor: Actor
    critic: Critic
    distribution: Distribution
    optimizer: optax.GradientTransformation
    policy: Callable[..., Any]
    value: Callable[..., Any]


def is_central(config: Config) -> bool:
    """Whether the critic sees the whole game (MAPPO) or what its agent sees (IPPO)."""
    return config.central


def _has_ids(group: GroupSpec, config: Config) -> bool:
    """Whether networks are told for which agent of their group they act."""
    return config.ppo.agent_id and group.share_params and group.n_agents > 1


def _own_space(group: GroupSpec, config: Config) -> gym.Space:
    """Space of what a network that sees its agent's observation gets."""
    space = feature_space(group.observation_space)
    if not _has_ids(group, config):
        return space
    return gym.spaces.Tuple([space, gym.spaces.Discrete(group.n_agents)])


def _central_space(group: GroupSpec, groups: Groups) -> gym.Space:
    """Space of what a central critic sees: the global state, else all observations."""
    if group.state_space is not None:
        return group.state_space
    return gym.spaces.Dict({g.name: feature_space(g.observation_space) for g in groups})


def _own_input(group: GroupSpec, config: Config) -> Callable[..., Any]:
    """Make ``see(train_state, observation)``: normalised and with ids, as configured."""
    space = feature_space(group.observation_space)
    with_ids = _has_ids(group, config)

    def see(state: TrainState, observation: Any) -> Any:
        if config.ppo.normalize_observation:
            observation = normalized(state.moments["observation"], observation)
        if not with_ids:
            return observation
        shape = lead_shape(space, observation)  # the last of them is A
        ids = jnp.arange(group.n_agents).reshape((1,) * (len(shape) - 1) + (-1,))
        return observation, jnp.broadcast_to(ids, shape)

    return see


def _central_input(state: TrainState, sight: Any) -> Any:
    """Normalise a global state, where it is to be; observations have been before."""
    return normalized(state.moments["state"], sight) if "state" in state.moments else sight


def _features_of(trunk: Actor, group: GroupSpec) -> gym.Space:
    """Space of the features that a trunk hands on."""
    agents = (group.n_agents,) if group.share_params else ()

    def features(key: jax.Array) -> Any:
        return trunk.init_with_output(key, zeros(trunk.space, 1, *agents))[0][0]

    width = jax.eval_shape(features, jax.random.key(0)).shape[-1]
    return gym.spaces.Box(-np.inf, np.inf, (width,))


def make_learner(group: GroupSpec, config: Config, groups: Groups = ()) -> Learner:
    """Build what one group learns with.

    Args:
        group: the group.
        config: settings of the run.
        groups: all groups of the game, whose observations a central critic may see; () for one.
    """
    ppo, central = config.ppo, is_central(config)
    distribution = distribution_for(group.action_space)
    n_gradient_steps = config.n_updates * ppo.n_epochs * ppo.n_minibatches
    final = 0.0 if ppo.anneal else ppo.learning_rate
    schedule = optax.linear_schedule(ppo.learning_rate, final, n_gradient_steps)
    layers = (ppo.hidden_sizes, ppo.activation, ppo.gru_size)
    own_space = _own_space(group, config)
    # A network of the user's own stands wherever an agent's observation is seen: in the actor, and
    # in the critic unless that sees the whole game.
    network = network_for(ppo.network, own_space)
    actor = Actor(own_space, distribution, *layers, network=network)
    # In units of its own a critic begins at their zero: random values would be as large as all that
    # is to be learned, and the first advantages noise.
    first_scale = 0.0 if ppo.normalize_return else 1.0
    see = look = _own_input(group, config)
    if central:
        n_values = group.n_agents if group.share_params else 0
        by_group, look = group.state_space is None, _central_input
        space = _central_space(group, groups or (group,))
        critic = Critic(space, *layers, n_values, by_group, first_scale=first_scale)
    elif ppo.shared_trunk:
        trunk = actor.clone(trunk_only=True)
        critic = Critic(
            _features_of(trunk, group), *layers, network=Given(), first_scale=first_scale
        )

        def look(state: TrainState, sight: Any) -> Any:
            # The policy asks for the same features: XLA computes them once.
            return trunk.apply(state.params["actor"], see(state, sight))[0]
    else:
        critic = Critic(own_space, *layers, network=network, first_scale=first_scale)

    def policy(state: TrainState, observation: Any, mask: Any, carry: Any, rows: Any = None) -> Any:
        outputs, carry = actor.apply(state.params["actor"], see(state, observation), carry, rows)
        return distribution.mask(outputs, mask), carry

    def value(state: TrainState, sight: Any, carry: Any, rows: Any = None) -> Any:
        return critic.apply(state.params["critic"], look(state, sight), carry, rows)

    optimizer = optax.chain(
        optax.clip_by_global_norm(ppo.max_grad_norm), optax.adam(schedule, eps=1e-5)
    )
    return Learner(actor, critic, distribution, optimizer, policy, value)


def make_learners(groups: Groups, config: Config) -> dict[str, Learner]:
    """Build what every group learns with."""
    return {group.name: make_learner(group, config, groups) for group in groups}


def first_carry(group: GroupSpec, config: Config, n_envs: int) -> Any:
    """Memory of one set of parameters before an episode, ``()`` for feed-forward networks."""
    if not config.ppo.gru_size:
        return ()
    agents = (group.n_agents,) if group.share_params else ()
    return jnp.zeros((n_envs, *agents, config.ppo.gru_size))


def first_state(group: GroupSpec, config: Config, groups: Groups, key: jax.Array) -> TrainState:
    """State of one set of parameters before any learning."""
    learner, ppo = make_learner(group, config, groups), config.ppo
    agents = (group.n_agents,) if group.share_params else ()
    moments = {}
    if ppo.normalize_observation:
        moments["observation"] = moments_of(feature_space(group.observation_space))
        if is_central(config) and group.state_space is not None:
            moments["state"] = moments_of(group.state_space)
    if ppo.normalize_return:
        moments["target"] = first_moments()
    actor_key, critic_key = jax.random.split(key)
    carry = first_carry(group, config, 1)
    if learner.critic.by_group:
        seen = {g.name: zeros(feature_space(g.observation_space), 1, g.n_agents) for g in groups}
    else:
        seen = zeros(learner.critic.space, 1, *(() if is_central(config) else agents))
    params = {
        "actor": learner.actor.init(actor_key, zeros(learner.actor.space, 1, *agents), carry),
        "critic": learner.critic.init(critic_key, seen, carry),
    }
    return TrainState(
        params=params,
        opt_state=learner.optimizer.init(params),
        n_updates=jnp.zeros((), jnp.int32),
        critic_carry=first_carry(group, config, config.n_envs),
        moments=moments or (),
        actors=first_actors(config, params["actor"]),
    )
