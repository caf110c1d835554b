"""This file lets trained networks play, and learn on, for other agents than they were trained with.

A network that all agents of a group share does not know how many they are, so it serves any number
of agents with its spaces. What does know it (a network for each agent, agent ids, a central critic)
is refused, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax

from kitae_marl.data.groups import learning_groups, require_spaces
from kitae_marl.data.spaces import space_text
from kitae_marl.errors import ConfigError
from kitae_marl.players.player import Player
from kitae_marl.types import AgentSpaces, GroupSpec, TrainState
from kitae_marl.vector.adapters.as_parallel import as_parallel


def player_for(player: Player, env: AgentSpaces) -> Player:
    """Return a player with the networks of another one, for the agents of an environment.

    Args:
        player: as trained.
        env: what ``check_env`` takes, a vector or one game.

    Raises:
        TypeError: if it is neither.
        ConfigError: naming the agents that none of the networks can play for, and why.
        ValueError: if they are those of the player, with other spaces.
    """
    env = as_parallel(env)
    agents = list(env.possible_agents)
    if agents == player.possible_agents:
        require_spaces(env, agents, player.groups)
        return player
    groups = learning_groups(env, player.config)
    other = Player(agents, groups, player.config, player.root_key)
    algorithm, key = player.algorithm, jax.random.key(0)
    train_state = algorithm.train_state(groups, player.config)
    expected: Any = jax.eval_shape(lambda: algorithm.acting(train_state(key)))
    other.state = _by_partner(groups, player.groups, player.state, expected)
    return other


def begun_with(
    own: Any, groups: Iterable[GroupSpec], trained: Any, trained_groups: Iterable[GroupSpec]
) -> dict[str, TrainState]:
    """Return a state before training whose networks, and what they observe, are trained ones.

    Args:
        own: the state that training would begin with, ``{group: TrainState}``.
        groups: of agents that are to learn.
        trained: the state of another run.
        trained_groups: its groups.

    Raises:
        ConfigError: if networks do not fit, naming the first array that differs.
    """
    state = {}
    taken = _by_partner(groups, trained_groups, _networks(trained), _networks(own))
    for name, part in taken.items():
        # What stands beside the actor, such as its average, begins where it does.
        actors = dict.fromkeys(dict(own[name].actors), part.params["actor"]) or ()
        params, moments, actors = jax.tree.map(jax.numpy.array, (part.params, part.moments, actors))
        state[name] = own[name]._replace(params=params, moments=moments, actors=actors)
    return state


def _networks(state: Any) -> dict[str, TrainState]:
    """Return what another training can begin with: parameters, and moments of what they see."""
    if not isinstance(state, Mapping) or not all(
        isinstance(part, TrainState) for part in state.values()
    ):
        raise ConfigError(
            "init: expected an algorithm with a TrainState for each group, got one that keeps "
            f"{type(state).__name__}; copy in an algorithm of your own what it begins with.",
            "init",
        )
    left = {"opt_state": (), "n_updates": (), "critic_carry": (), "actors": ()}
    return {name: part._replace(**left) for name, part in state.items()}


def _by_partner(
    groups: Iterable[GroupSpec],
    trained_groups: Iterable[GroupSpec],
    trained: Any,
    expected: Mapping[str, Any],
) -> dict[str, Any]:
    """Give every group the state of the trained group whose network it takes."""
    trained_groups = tuple(trained_groups)
    state = {}
    for group in groups:
        partner = _partner(group, trained_groups)
        _require_shapes(group, partner, trained[partner.name], expected[group.name])
        state[group.name] = trained[partner.name]
    return state


def _partner(group: GroupSpec, trained: tuple[GroupSpec, ...]) -> GroupSpec:
    """Return the trained group whose network serves a group.

    Raises:
        ConfigError: if none does, or several might.
    """
    spaces = group.observation_space, group.action_space
    alike = [t for t in trained if (t.observation_space, t.action_space) == spaces]
    who = f"{group.agents[0]!r}" if group.n_agents == 1 else f"the agents of {group.name!r}"
    if not alike:
        words = _in_words
        if any(words(t) == words(group) for t in trained):  # it is the bounds that differ
            words = _in_full
        known = "; ".join(f"{t.name!r}: {words(t)}" for t in trained)
        raise ConfigError(
            f"expected agents that see and do what those of the run did ({known}), got {who} with "
            f"{words(group)}; a network serves other games only where spaces are as they were, "
            "so choose arguments of the game that change none."
        )
    shared = [t for t in alike if set(t.agents) & set(group.agents)]
    named = [t for t in alike if t.name == group.name]
    for found in (shared, named, alike):
        if len(found) == 1:
            partner = found[0]
            break
        if found:
            raise ConfigError(
                f"expected one network of the run for {who}, got those of "
                f"{[t.name for t in found]}; say by --groups who belongs together."
            )
    else:
        raise AssertionError("there is a group that is alike")
    if partner.agents != group.agents and not (partner.share_params and group.share_params):
        raise ConfigError(
            f"expected the agents {list(partner.agents)} of the run, got {list(group.agents)}: "
            "each has a network of its own there, and only a shared one serves others; train with "
            "shared parameters."
        )
    return partner


def _in_words(group: GroupSpec) -> str:
    """Say what the agents of a group see and do."""
    return f"{space_text(group.observation_space)} -> {space_text(group.action_space)}"


def _in_full(group: GroupSpec) -> str:
    """Say it with bounds."""
    return f"{str(group.observation_space)[:200]} -> {str(group.action_space)[:200]}"


def _require_shapes(group: GroupSpec, partner: GroupSpec, trained: Any, expected: Any) -> None:
    """Raise a ConfigError where trained arrays are not as large as a group needs them."""
    have = dict(jax.tree_util.tree_leaves_with_path(trained))
    need = dict(jax.tree_util.tree_leaves_with_path(expected))
    wrong = [path for path in {**need, **have} if _shape(have, path) != _shape(need, path)]
    if wrong:
        path = wrong[0]
        counts = ""
        if partner.n_agents != group.n_agents:
            counts = (
                f" It was made for {partner.n_agents} agents and is to serve {group.n_agents}: "
                "with agent ids, or a central critic (as of mappo), a network depends on their "
                "number."
            )
        raise ConfigError(
            f"expected a network of the run that fits {group.name!r}, got at "
            f"{jax.tree_util.keystr(path)} the shape {_shape(have, path)} for "
            f"{_shape(need, path)}.{counts or ' Train with the settings of its networks.'}"
        )


def _shape(leaves: Mapping[Any, Any], path: Any) -> tuple[int, ...] | None:
    """Shape of an array, None where there is none."""
    return tuple(leaves[path].shape) if path in leaves else None
