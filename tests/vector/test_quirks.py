"""What games get wrong is put right; ``stock=True`` leaves it."""

from __future__ import annotations

import numpy as np
import pytest
from lockstep import WARNINGS, random_actions, same

from kitae_marl.vector.make import make_parallel_env

pytestmark = [pytest.mark.filterwarnings(text) for text in WARNINGS]

STILL = np.zeros(4, np.float32)


def playout(env, seed: int, steps: int) -> list:
    """Everything an environment says in some random steps from this seed."""
    rng, said = np.random.default_rng(seed), [env.reset(seed=seed)]
    for _ in range(steps):
        if not env.agents:
            break
        actions = random_actions(env, said[-1][0], said[-1][-1], rng)
        said.append(env.step(actions))
    return said


def equal(left: list, right: list) -> bool:
    """Whether two playouts are the same."""
    return len(left) == len(right) and all(
        same(ours, theirs)
        for one, other in zip(left, right, strict=True)
        for ours, theirs in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("stock", [False, True])
def test_knights_archers_zombies_depends_on_its_seed_alone(stock: bool) -> None:
    id = "butterfly/knights_archers_zombies-v11"
    used = make_parallel_env(id, stock=stock)
    playout(used, seed=1, steps=30)
    fresh = make_parallel_env(id, stock=stock)
    assert equal(playout(used, 2, 120), playout(fresh, 2, 120)) is not stock


@pytest.mark.parametrize("stock", [False, True])
def test_multiwalkers_time_limit_is_truncation(stock: bool) -> None:
    env = make_parallel_env("sisl/multiwalker-v9", stock=stock, max_cycles=5)
    env.reset(seed=0)
    while env.agents:
        _, _, terminations, truncations, _ = env.step(dict.fromkeys(env.agents, STILL))
    assert set(truncations.values()) == {not stock}
    assert set(terminations.values()) == {stock}


def test_a_walker_that_falls_is_terminated_and_the_state_lives_on() -> None:
    env = make_parallel_env("sisl/multiwalker-v9", terminate_on_fall=False)
    observations, infos = env.reset(seed=0)
    rng, fell = np.random.default_rng(0), False
    while len(env.agents) == 3:
        actions = random_actions(env, observations, infos, rng)
        observations, _, terminations, truncations, infos = env.step(actions)
        fell = fell or any(terminations.values())
        assert not any(truncations.values())
    assert fell
    assert env.state().shape == env.state_space.shape
    assert env.state().dtype == np.float32


@pytest.mark.parametrize("id", ["butterfly/pistonball-v6", "butterfly/cooperative_pong-v6"])
@pytest.mark.parametrize("stock", [False, True])
def test_pictures_are_drawn_without_a_render_mode(id: str, stock: bool) -> None:
    said = playout(make_parallel_env(id, stock=stock), seed=0, steps=5)
    agent = next(iter(said[0][0]))
    frozen = np.array_equal(said[1][0][agent], said[-1][0][agent])
    assert frozen is stock


@pytest.mark.parametrize("stock", [False, True])
def test_swords_that_leave_the_screen_stay_in_the_space(stock: bool) -> None:
    env = make_parallel_env("butterfly/knights_archers_zombies-v11", stock=stock)
    env.reset(seed=0)
    core = env.unwrapped if stock else env.core
    attack, still, inside = 4, 5, True
    for _ in range(20):
        core.agent_map["knight_0"].rect.top = -2  # as far as it walks
        core.agent_map["archer_0"].rect.bottom = 720
        actions = {agent: attack if agent == "knight_0" else still for agent in env.agents}
        observations, *_ = env.step(actions)
        inside &= all(env.observation_space(a).contains(o) for a, o in observations.items())
    assert inside is not stock
