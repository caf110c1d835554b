"""AlphaZero (Silver et al. 2018) by Gumbel search (Danihelka et al. 2022).

Both agents of a game for two share one network, which sees the game as the one to move does. In
training a search by the rules themselves makes of its policy a better one, which it learns, beside
the results of the games. The newest rollouts are learned from again; they are part of the state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from kitae_marl.algos import ops
from kitae_marl.algos.alphazero.rules import Rules, rules_for
from kitae_marl.algos.alphazero.search import (
    Found,
    Judge,
    bare_factory,
    masked,
    search_factory,
)
from kitae_marl.algos.alphazero.targets import Row, rows_of
from kitae_marl.algos.nets.residual import ResidualNet
from kitae_marl.config.alphazero import AlphaZeroConfig
from kitae_marl.config.run import Config
from kitae_marl.data.lifting import no_memory
from kitae_marl.data.replay import Replay, add, empty_replay, sample
from kitae_marl.loops import devices
from kitae_marl.loops.update import update_epoch
from kitae_marl.types import Algorithm, AlgoType, Experience, GroupSpec

Groups = tuple[GroupSpec, ...]


class AlphaZeroState(NamedTuple):
    """What learning changes.

    Attributes:
        params: of the network; acting reads nothing else.
        opt_state: state of the optimiser.
        n_updates: updates done so far, an int32 scalar.
        replay: the rows of the newest rollouts.
    """

    params: Any
    opt_state: Any
    n_updates: Any
    replay: Any


State = dict[str, AlphaZeroState]


class Learner(NamedTuple):
    """What the one group of a game learns with.

    Attributes:
        group: the two agents.
        rules: of their game.
        judge: what the network says of positions, by its parameters.
        init: ``init(key) -> params``.
        optimizer: of the parameters.
    """

    group: GroupSpec
    rules: Rules
    judge: Judge
    init: Callable[[jax.Array], Any]
    optimizer: optax.GradientTransformation


def make_learner(groups: Groups, config: Config) -> Learner:
    """Build what is learned with.

    Raises:
        ConfigError: if the game cannot be searched.
    """
    rules, settings = rules_for(groups, config), config.alphazero
    sizes = settings.channels, settings.blocks, settings.width, settings.dense_blocks
    network = ResidualNet(rules.space, rules.n_actions, *sizes)
    n_steps = config.n_updates * settings.n_gradient_steps(config.n_envs)
    final = 0.0 if settings.anneal else settings.learning_rate
    schedule = optax.linear_schedule(settings.learning_rate, final, n_steps)
    optimizer = optax.chain(
        optax.clip_by_global_norm(settings.max_grad_norm),
        optax.adamw(schedule, weight_decay=settings.weight_decay),
    )

    def judge(params: Any, seen: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, value = cast(Any, network.apply(params, seen))
        return masked(logits, mask), value

    def init(key: jax.Array) -> Any:
        space: Any = rules.space
        return network.init(key, jnp.zeros((1, *space.shape), space.dtype))

    return Learner(groups[0], rules, judge, init, optimizer)


def train_state_factory(groups: Groups, config: Config) -> Callable[[jax.Array], State]:
    """Make ``train_state(key)``: first parameters, and an empty replay."""
    learner, settings = make_learner(groups, config), config.alphazero
    rules = learner.rules
    space: Any = rules.space
    number, moves = jnp.zeros(()), (rules.n_actions,)
    row = Row(
        seen=jnp.zeros(space.shape, space.dtype),
        mask=jnp.zeros(moves, jnp.int8),
        policy=jnp.zeros(moves),
        value=number,
        weight=number,
        policy_weight=number,
    )

    def train_state(key: jax.Array) -> State:
        params = learner.init(key)
        n_rows = settings.n_steps * config.n_envs
        state = AlphaZeroState(
            params=params,
            opt_state=learner.optimizer.init(params),
            n_updates=jnp.zeros((), jnp.int32),
            replay=empty_replay(row, settings.replay_iterations, n_rows),
        )
        return {learner.group.name: state}

    return train_state


def explore_factory(groups: Groups, config: Config) -> Callable[..., Any]:
    """Make ``explore(state, key, observation, action_mask, carry)``, which searches.

    Some joint steps, by chance, get a full search and the others a cheap one (Wu 2019).
    """
    learner, settings = make_learner(groups, config), config.alphazero
    name, n_agents = learner.group.name, learner.group.n_agents
    of = learner.rules, learner.judge, settings
    thorough = search_factory(*of, settings.simulations)
    cheap = search_factory(*of, settings.cheap_simulations)

    def explore(state: State, key: jax.Array, observation: Any, mask: Any, carry: Any) -> Any:
        coin, chance = jax.random.split(key)
        inputs = state[name].params, chance, observation[name], mask[name], settings.gumbel_scale
        if settings.full_share < 1.0:
            full = jax.random.bernoulli(coin, settings.full_share)
            found = jax.lax.cond(full, lambda: thorough(*inputs), lambda: cheap(*inputs))
        else:
            full, found = jnp.asarray(True), thorough(*inputs)
        flags = jnp.broadcast_to(full.astype(jnp.float32), found.value.shape)
        extras = {"policy": found.policy, "value": found.value, "full": flags}
        both = jax.tree.map(lambda x: _for_both(x, n_agents), (found.action, extras))
        return {name: both[0]}, {name: both[1]}, carry

    return explore


def _for_both(x: jax.Array, n_agents: int) -> jax.Array:
    """Give arrays ``[E, ...]`` an axis of agents; the game reads those of the agent to move."""
    return jnp.broadcast_to(x[:, None], (x.shape[0], n_agents, *x.shape[1:]))


def _playing(groups: Groups, config: Config, *, varied: bool) -> Callable[..., Any]:
    """Make ``(state, key, observation, action_mask, carry) -> (action, carry)`` for play."""
    name, n_agents = groups[0].name, groups[0].n_agents
    think = think_factory(groups, config, varied=varied)

    def play(state: State, key: Any, observation: Any, mask: Any, carry: Any) -> Any:
        found = think(state, key, observation, mask)
        return {name: _for_both(found.action, n_agents)}, carry

    return play


def think_factory(groups: Groups, config: Config, *, varied: bool) -> Callable[..., Found]:
    """Make ``think(state, key, observation, action_mask)``: as many simulations as it plays by.

    The key is read where the moves are to be varied: they are drawn from the network's policy, or
    considered by chance.
    """
    learner, settings = make_learner(groups, config), config.alphazero
    name, simulations = learner.group.name, settings.play_simulations
    bare = bare_factory(learner.rules, learner.judge)
    search = search_factory(learner.rules, learner.judge, settings, max(1, simulations))
    scale = settings.gumbel_scale if varied else 0.0

    def think(state: State, key: Any, observation: Any, mask: Any) -> Found:
        params, seen = state[name].params, (observation[name], mask[name])
        if not simulations:
            return bare(params, key if varied else None, *seen)
        return search(params, key if varied else jax.random.key(0), *seen, scale)

    return think


def select_factory(groups: Groups, config: Config) -> Callable[..., Any]:
    """Make ``select(state, observation, action_mask, carry)``, the best moves."""
    play = _playing(groups, config, varied=False)
    return lambda state, *inputs: play(state, None, *inputs)


def sample_factory(groups: Groups, config: Config) -> Callable[..., Any]:
    """Make ``sample(state, key, observation, action_mask, carry)``, moves that vary."""
    return _playing(groups, config, varied=True)


def judge_factory(groups: Groups, config: Config) -> Callable[..., Any]:
    """Make ``judge(state, observation, action_mask)``: what is thought before a move is made."""
    name, n_agents = groups[0].name, groups[0].n_agents
    think = think_factory(groups, config, varied=False)

    def judge(state: State, observation: Any, mask: Any) -> tuple[Any, Any]:
        found = think(state, None, observation, mask)
        policy, value = (_for_both(x, n_agents) for x in (found.policy, found.value))
        return {name: policy}, {name: value}

    return judge


def _loss(params: Any, learner: Learner, settings: Any, batch: Row, totals: Any) -> Any:
    """Cross-entropy to the searches' policies and squared error to the results, of some rows.

    Sums over these rows are divided by ``totals``, the weights of all rows of the minibatch.
    """
    logits, value = learner.judge(params, batch.seen, batch.mask)
    log_policy = jax.nn.log_softmax(logits)
    allowed = jnp.where(batch.mask != 0, batch.policy * log_policy, 0.0)
    probabilities = jnp.exp(log_policy)
    spread = jnp.where(batch.mask != 0, probabilities * log_policy, 0.0)
    terms = {
        "policy_loss": ops.weighted_sum(-jnp.sum(allowed, -1), batch.policy_weight) / totals[0],
        "value_loss": ops.weighted_sum((value - batch.value) ** 2, batch.weight) / totals[1],
        "entropy": ops.weighted_sum(-jnp.sum(spread, -1), batch.weight) / totals[1],
    }
    return terms["policy_loss"] + settings.value_coef * terms["value_loss"], terms


def _gradient(
    params: Any, learner: Learner, settings: AlphaZeroConfig, batch: Row
) -> tuple[Any, dict[str, jax.Array]]:
    """Gradient and terms of the loss of one minibatch, added up over blocks of rows."""
    weights = batch.policy_weight, batch.weight
    totals = tuple(jnp.maximum(jnp.sum(x), ops.LEAST_WEIGHT) for x in weights)

    def of_rows(whole: Any, batch: Row) -> tuple[Any, tuple[()]]:
        params, totals = whole
        n_rows = batch.weight.shape[0]
        n = devices.n_blocks(n_rows, BOARD_WEIGHT if settings.channels else 1)
        blocks = jax.tree.map(lambda x: x.reshape(n, n_rows // n, *x.shape[1:]), batch)

        def of_block(sums: Any, block: Row) -> tuple[Any, None]:
            got = jax.grad(_loss, has_aux=True)(params, learner, settings, block, totals)
            return jax.tree.map(jnp.add, sums, got), None

        shapes = jax.eval_shape(
            lambda p, b: jax.grad(_loss, has_aux=True)(p, learner, settings, b, totals),
            params,
            jax.tree.map(lambda x: x[0], blocks),
        )
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        return jax.lax.scan(of_block, zeros, blocks)[0], ()

    return devices.over_rows(of_rows, (params, totals), batch)[0]


BOARD_WEIGHT = 8
"""For how many rows of a network of dense layers a board stands, by the memory it takes."""


def _turned(rules: Rules, key: jax.Array, batch: Row) -> Row:
    """Look at each position in one of the ways in which the game stays the same."""
    symmetries = rules.game.symmetries
    if not symmetries:
        return batch
    which = jax.random.randint(key, batch.weight.shape, 0, len(symmetries) + 1)
    for number, symmetry in enumerate(symmetries, 1):
        # The move that stands in the place of a: the one that a stands for comes there.
        place = jnp.argsort(jnp.array(symmetry.actions))
        there = which == number

        def chosen(new: jax.Array, old: jax.Array, there: jax.Array = there) -> jax.Array:
            return jnp.where(there.reshape(-1, *(1,) * (old.ndim - 1)), new, old)

        batch = batch._replace(
            seen=chosen(symmetry.observation(batch.seen), batch.seen),
            mask=chosen(batch.mask[:, place], batch.mask),
            policy=chosen(batch.policy[:, place], batch.policy),
        )
    return batch


def learn_factory(groups: Groups, config: Config) -> Callable[..., Any]:
    """Make ``learn(state, key, experience)``: the rollout goes to the replay, then the steps."""
    learner, settings = make_learner(groups, config), config.alphazero
    name = learner.group.name
    n_steps, size = settings.n_gradient_steps(config.n_envs), settings.batch_size

    def update_batch(state: AlphaZeroState, key: jax.Array, batch: Row) -> tuple[Any, Any]:
        if settings.symmetries:
            batch = _turned(learner.rules, key, batch)
        grads, info = _gradient(state.params, learner, settings, batch)
        info["grad_norm"] = optax.tree.norm(grads)
        updates, opt_state = learner.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return state._replace(params=params, opt_state=opt_state), info

    def draw(key: jax.Array, replay: tuple[Any, ...], size: int) -> tuple[Any, ...]:
        return sample(key, Replay(*replay), (n_steps, size))

    def learn(state: State, key: jax.Array, experience: Experience) -> tuple[State, Any]:
        own = state[name]
        rows = rows_of(learner.rules, learner.group, experience, settings.root_share)
        own = own._replace(replay=add(own.replay, rows), n_updates=own.n_updates + 1)
        learning = own._replace(replay=())
        learned, info = update_epoch(
            key,
            learning,
            tuple(own.replay),
            draw,
            update_batch,
            experience_type=Row,
            batch_size=size,
        )
        return {name: learned._replace(replay=own.replay)}, _named(name, info)

    return learn


def _named(name: str, info: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Put the group's name before those of metrics."""
    return {f"{name}/{key}": value for key, value in info.items()}


def acting(state: State) -> State:
    """Return what acting reads: the parameters."""
    return {
        name: own._replace(opt_state=(), n_updates=(), replay=()) for name, own in state.items()
    }


alphazero = Algorithm(
    name="alphazero",
    algo_type=AlgoType.OFF_POLICY,
    settings=AlphaZeroConfig,
    carry=no_memory,
    train_state=train_state_factory,
    explore=explore_factory,
    select=select_factory,
    sample=sample_factory,
    judge=judge_factory,
    learn=learn_factory,
    acting=acting,
)
"""Search in games for two that hide nothing, and a network that learns from it."""
