"""This file makes environments by their ids: a parallel one, or a vector of them in workers."""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import kitae_envs
from pettingzoo import ParallelEnv
from pettingzoo.utils.conversions import turn_based_aec_to_parallel

from kitae_marl.config.wrapping import require_wrappers
from kitae_marl.errors import ConfigError, KitaeError, UnknownEnvironmentError
from kitae_marl.vector.adapters.as_parallel import as_parallel, require_vector
from kitae_marl.vector.adapters.compiled_games import is_game
from kitae_marl.vector.adapters.gymnasium import GymnasiumParallelEnv
from kitae_marl.vector.adapters.pictures import wrapped
from kitae_marl.vector.adapters.supersuit import games_of
from kitae_marl.vector.ids import (
    MAMUJOCO,
    EnvId,
    gymnasium_ids,
    imported,
    install_hint,
    nearest_ids,
    parse_id,
)
from kitae_marl.vector.lean.build import corrected_arguments, lean
from kitae_marl.vector.protocol import VecParallelEnv, require_n_envs
from kitae_marl.vector.stepping.faults import DataFault, public_error


def make_parallel_env(
    id: str, *, stock: bool = False, wrap: Sequence[str] = (), **kwargs: Any
) -> ParallelEnv[str, Any, Any]:
    """Make one environment by its id.

    Args:
        id: ``mpe/simple_spread-v3``, ``butterfly/pistonball-v6``, ``gymnasium:CartPole-v1``,
            ``module:function``, ...; see ``kitae_marl.vector.ids``. ``_v3`` is read like ``-v3``,
            and without a version the newest is meant.
        stock: build the game with the chain of wrappers that its package builds, instead of the
            lean construction that is equal to it and faster.
        wrap: wrappers around it, the first innermost: ``"pictures:84,84"``,
            ``"supersuit.frame_stack_v1:4"``, ``"mine.Wrapper"``.
        **kwargs: arguments of the game itself, ``max_cycles=100``, ``render_mode="rgb_array"``.

    Returns:
        A PettingZoo parallel environment. A single-agent game has the one agent ``agent_0``; in a
        turn-based game ``infos[agent]["active"]`` says who is to act.

    Raises:
        UnknownEnvironmentError: if no environment is called so, or its package is missing; the
            message names the nearest ids, or the ``pip install`` that helps.
        ConfigError: if the game cannot be made with these arguments.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    env_id = parse_id(id)
    wrap = require_wrappers(wrap)
    with _telling_bad_input(env_id, kwargs):
        env = _build(env_id, stock, kwargs)
    return wrapped(env, wrap) if wrap else env


def make_vec_env(
    id: str,
    n_envs: int,
    *,
    n_workers: int | None = None,
    stock: bool = False,
    wrap: Sequence[str] = (),
    vector_options: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> VecParallelEnv:
    """Make a vector of environments by id.

    Args:
        id: as in ``make_parallel_env``. ``envpool:ID`` becomes one EnvPool of ``n_envs``.
        n_envs: number of environments.
        n_workers: worker processes; by default one per core, 0 steps in this process.
        stock: as in ``make_parallel_env``.
        wrap: likewise; not for a pool.
        vector_options: further arguments of ``SubProcVecParallelEnv``, ``{"step_timeout": 10}``; a
            pool takes ``max_episode_steps``.
        **kwargs: arguments of the game itself.

    Returns:
        An environment of the ``VecParallelEnv`` protocol.

    Raises:
        UnknownEnvironmentError: if no environment is called so, or its package is missing.
        ConfigError: if the game cannot be made with these arguments.
        TypeError: if ``n_envs`` is no whole number.
        ValueError: if ``n_envs`` is below one.
    """
    require_n_envs(n_envs)
    wrap = require_wrappers(wrap)
    env_id = parse_id(id)
    if env_id.family == "envpool":
        from kitae_marl.vector.adapters.envpool import make_envpool

        if wrap:
            raise ConfigError(f"wrap: expected nothing, EnvPool steps {id!r} itself.", "wrap")
        kwargs |= _options_of_pools(vector_options or {})
        with _telling_bad_input(env_id, kwargs):
            return make_envpool(env_id.name, n_envs, n_workers=n_workers, **kwargs)
    from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

    env_fn = partial(make_parallel_env, env_id.text, stock=stock, wrap=wrap, **kwargs)
    return SubProcVecParallelEnv([env_fn] * n_envs, n_workers=n_workers, **(vector_options or {}))


def as_vector(env: Any, *, with_state: bool = False) -> VecParallelEnv:
    """Return a vector that speaks the whole protocol; a single environment becomes one of one.

    Args:
        env: what :func:`as_parallel` returned.
        with_state: whether the vector of a single environment delivers global states.
    """
    if not isinstance(env, ParallelEnv):
        return require_vector(env)
    from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

    return SubProcVecParallelEnv([env], n_workers=0, with_state=with_state)


def vector_of_supersuit(env: Any) -> VecParallelEnv:
    """Return a vector of the games in one of SuperSuit's, stepped in this process.

    Raises:
        TypeError: if the games are in other processes.
    """
    from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

    return SubProcVecParallelEnv(games_of(env), n_workers=0)


def _options_of_pools(vector_options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a pool takes of a vector's options."""
    if vector_options.get("strict_bounds"):
        raise ConfigError("strict_bounds: expected False, an EnvPool does not check.")
    limit = vector_options.get("max_episode_steps")
    return {} if limit is None else {"max_episode_steps": limit}


@contextmanager
def _telling_bad_input(env_id: EnvId, kwargs: dict[str, Any]) -> Iterator[None]:
    """Say which package a game wants, or that it cannot be made with its arguments.

    What else the user's own code raises passes: that is for its author to read.
    """
    own_code = env_id.family == "import"
    given = ", ".join(f"{k}={v!r}" for k, v in kwargs.items() if k != "render_mode")
    try:
        yield
    except (KitaeError, MemoryError):
        raise
    except Exception as error:  # games say in many ways what they do not take
        if isinstance(error, ImportError) and not own_code:
            raise UnknownEnvironmentError(_missing(env_id, error)) from error
        if not given or (own_code and "unexpected keyword argument" not in str(error)):
            raise
        raise ConfigError(
            f"env_kwargs: expected arguments that {env_id.text} takes, got {given} "
            f"({type(error).__name__}: {error}); correct them or leave them out.",
            "env_kwargs",
        ) from error


def _build(env_id: EnvId, stock: bool, kwargs: dict[str, Any]) -> ParallelEnv[str, Any, Any]:
    """Dispatch on the family."""
    if env_id.family == "envpool":
        from kitae_marl.vector.adapters.as_parallel import SingleParallelEnv
        from kitae_marl.vector.adapters.envpool import make_envpool

        return SingleParallelEnv(make_envpool(env_id.name, 1, **kwargs))
    if env_id.family == "gymnasium":
        return _make_gymnasium(env_id, stock, kwargs)
    if env_id.family == "import":
        env = _make_imported(env_id, kwargs)
        return env if stock else lean(env)
    if kitae_envs.extends(env_id.text, kwargs):  # there is no other original
        from kitae_envs.parallel import GameParallelEnv

        return GameParallelEnv(env_id.text, **kwargs)
    env = _make_stock(env_id, corrected_arguments(env_id.text, kwargs, stock))
    return env if stock else lean(env)


def _make_stock(env_id: EnvId, kwargs: dict[str, Any]) -> ParallelEnv[str, Any, Any]:
    """Make a game with the chain of wrappers of its own package."""
    match env_id.family:
        case "mpe":
            return importlib.import_module(f"mpe2.{env_id.module_name}").parallel_env(**kwargs)
        case "magent":
            name = f"magent2.environments.{env_id.module_name}"
            return importlib.import_module(name).parallel_env(**kwargs)
        case "mamujoco":
            return _make_mamujoco(env_id, kwargs)
        case "openspiel":
            return turn_based_aec_to_parallel(_make_openspiel(env_id, kwargs))
    import pettingzoo
    from pettingzoo.env_registry.exceptions import FailedToImport

    try:
        if env_id.text in pettingzoo.parallel_registry:
            return pettingzoo.make("parallel", env_id.text, **kwargs)
        return turn_based_aec_to_parallel(pettingzoo.make("aec", env_id.text, **kwargs))
    except FailedToImport as error:
        raise ImportError(str(error.__cause__ or error)) from error


def _make_mamujoco(env_id: EnvId, kwargs: dict[str, Any]) -> ParallelEnv[str, Any, Any]:
    """Make a scenario of multi-agent MuJoCo; its package has no list of them to look into."""
    scenario, _, partition = env_id.name.partition("/")
    robots = importlib.import_module("gymnasium_robotics").mamujoco_v1
    try:
        return robots.parallel_env(scenario=scenario, agent_conf=partition or None, **kwargs)
    except Exception as error:
        if not str(error).startswith(("UNKNOWN partitioning", "Custom env not implemented")):
            raise
        near = [f"mamujoco:{name}" for name in difflib.get_close_matches(env_id.name, MAMUJOCO)]
        raise UnknownEnvironmentError(
            f"multi-agent MuJoCo has no scenario and partition {env_id.name!r}; did you mean "
            f"{' or '.join(map(repr, near or ['mamujoco:HalfCheetah/2x3']))}?"
        ) from error


def _make_openspiel(env_id: EnvId, kwargs: dict[str, Any]) -> Any:
    """Make an AEC game of OpenSpiel's by shimmy; its parameters are our keyword arguments."""
    import pyspiel
    from shimmy import OpenSpielCompatibilityV0

    names = tuple(pyspiel.registered_names())
    if env_id.name not in names:
        near = " or ".join(f"'openspiel:{id}'" for id in nearest_ids(env_id.name, names))
        raise UnknownEnvironmentError(
            f"OpenSpiel has no game {env_id.name!r}; "
            + (f"did you mean {near}?" if near else "no name is near.")
        )
    return OpenSpielCompatibilityV0(game_name=env_id.name, render_mode=None, config=kwargs or None)


def _make_gymnasium(env_id: EnvId, stock: bool, kwargs: dict[str, Any]) -> GymnasiumParallelEnv:
    """Make a Gymnasium environment; the lean one leaves out Gymnasium's passive checker."""
    import gymnasium

    if ":" not in env_id.name and env_id.name not in gymnasium_ids():
        near = [f"gymnasium:{id}" for id in nearest_ids(env_id.name, gymnasium_ids())]
        raise UnknownEnvironmentError(
            f"Gymnasium has no environment {env_id.name!r}; "
            + (f"did you mean {' or '.join(map(repr, near))}?" if near else "no id is near.")
        )
    try:
        env = gymnasium.make(env_id.name, disable_env_checker=None if stock else True, **kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        raise UnknownEnvironmentError(f"{env_id.text!r} cannot run here: {error}") from error
    return GymnasiumParallelEnv(env)


def _make_imported(env_id: EnvId, kwargs: dict[str, Any]) -> ParallelEnv[str, Any, Any]:
    """Call ``module:function`` and adapt what it returns."""
    made = imported(env_id.name)
    if is_game(made):  # which draws itself in any case
        kwargs = {name: value for name, value in kwargs.items() if name != "render_mode"}
    env = as_parallel(made(**kwargs))
    if not isinstance(env, ParallelEnv):
        raise public_error(
            DataFault(
                "NoGameError",
                f"expected {env_id.text!r} to return a single environment, got the vector "
                f"{type(env).__name__}; give a vector to vectorized_train itself.",
            )
        )
    return env


def _missing(env_id: EnvId, error: ImportError) -> str:
    """Say which package a game wants and how to install it."""
    hint = install_hint(env_id.family)
    return f"{env_id.text!r} cannot be made here: {error}" + (f"; {hint}." if hint else ".")
