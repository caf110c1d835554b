"""Compiled games against their originals, and mutated rules that must not pass."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import kitae_envs
import numpy as np
import pytest
from kitae_envs.games.connect_four import ConnectFour
from kitae_envs.games.leduc_holdem import LeducHoldem
from kitae_envs.games.particles import ParticleGame
from kitae_envs.games.simple_reference import SimpleReference
from kitae_envs.games.simple_tag import SimpleTag
from kitae_envs.games.simple_world_comm import SimpleWorldComm
from kitae_envs.games.tictactoe import TicTacToe
from kitae_envs.proofs.verify import random_returns, verify

MPE = [id for id in kitae_envs.ids() if id.startswith("mpe/")]
CONTINUOUS = ("simple_reference", "simple_speaker_listener", "simple_crypto")

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("simple_spread-v3", {"N": 2, "num_agent_neighbors": 2, "num_landmark_neighbors": 1}),
    ("simple_spread-v3", {"N": 1, "terminate_on_success": True, "max_cycles": 60}),
    ("simple_spread-v3", {"curriculum": True, "local_ratio": 0.9}),
    ("simple_tag-v3", {"num_good": 2, "num_adversaries": 2, "num_agent_neighbors": 4}),
    ("simple_tag-v3", {"num_obstacles": 1, "num_landmark_neighbors": 2, "curriculum": True}),
    ("simple_tag-v3", {"terminate_on_success": True, "max_cycles": 60, "num_adversaries": 5}),
    ("simple_adversary-v3", {"N": 3, "num_agent_neighbors": 2, "num_landmark_neighbors": 4}),
    ("simple_world_comm-v3", {"num_good": 3, "num_adversaries": 2, "num_obstacles": 2}),
    ("simple_world_comm-v3", {"num_food": 1, "num_forests": 3, "max_cycles": 7}),
    ("simple_reference-v3", {"local_ratio": 0.1, "max_cycles": 3}),
]


@pytest.mark.parametrize("id", MPE)
def test_every_step_equals_mpe2(id: str) -> None:
    continuous = any(name in id for name in CONTINUOUS)
    report = verify(id, episodes=8, starts=0, continuous_actions=continuous)
    assert report.ok, report
    assert report.moves == 8 * 25


@pytest.mark.slow
@pytest.mark.parametrize("id", MPE)
@pytest.mark.parametrize("continuous", [False, True])
def test_every_step_and_all_distributions_equal_mpe2(id: str, continuous: bool) -> None:
    report = verify(id, episodes=400, starts=3000, continuous_actions=continuous)
    assert report.ok, report


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kwargs"), VARIANTS)
def test_keyword_arguments_mean_what_they_mean_in_mpe2(name: str, kwargs: dict[str, Any]) -> None:
    report = verify(f"mpe/{name}", episodes=30, starts=0, **kwargs)
    assert report.ok, report


def test_neighbors_equal_mpe2() -> None:
    name, kwargs = VARIANTS[0]
    report = verify(f"mpe/{name}", episodes=10, starts=0, **kwargs)
    assert report.ok, report


def test_success_ends_episodes_early() -> None:
    report = verify(
        "mpe/simple_spread-v3",
        episodes=15,
        starts=0,
        N=1,
        terminate_on_success=True,
        max_cycles=60,
    )
    assert report.ok, report
    assert report.moves < 15 * 60, "no episode ended by success: the test shows nothing"


def test_success_in_the_last_step_is_a_truncation() -> None:
    report = verify(
        "mpe/simple_spread-v3",
        episodes=600,  # in one of a hundred the agent starts at the landmark
        starts=0,
        N=1,
        terminate_on_success=True,
        max_cycles=1,
    )
    assert report.ok, report


def test_starts_and_random_returns_are_distributed_alike() -> None:
    report = verify("mpe/simple_spread-v3", episodes=60, starts=1000)
    assert report.ok, report
    assert "first position" in report.distributions
    assert "random return of agent_2" in report.distributions


def test_tictactoe_in_every_position() -> None:
    report = verify("classic/tictactoe-v3", exhaustive=True)
    assert report.ok, report
    # 16,167 legal moves in the 4,520 positions that are no end, one illegal in all but the first
    assert report.moves == 16_167 + 4_519


def test_leduc_after_every_deal_and_bet() -> None:
    report = verify("classic/leduc_holdem-v4", exhaustive=True)
    assert report.ok, report
    assert report.moves == 48 * 36 * 4  # deals by rank and blind, decisions, moves


def test_leduc_random_games_and_deals() -> None:
    report = verify("classic/leduc_holdem-v4", episodes=300, starts=1500)
    assert report.ok, report


def test_connect_four_random_games() -> None:
    report = verify("classic/connect_four-v3", episodes=150, starts=0)
    assert report.ok, report


@pytest.mark.slow
def test_connect_four_ten_thousand_games() -> None:
    report = verify("classic/connect_four-v3", episodes=10_000)
    assert report.ok, report
    assert report.episodes == 10_000


@pytest.mark.parametrize("kwargs", [{}, {"num_actions": 7, "max_cycles": 4}])
def test_rock_paper_scissors(kwargs: dict[str, Any]) -> None:
    report = verify("classic/rps-v2", episodes=30, **kwargs)
    assert report.ok, report


# --- mutated rules ------------------------------------------------------------------------------


def mutated_world(id: str, **changes: Any) -> ParticleGame:
    game = kitae_envs.make(id)
    assert isinstance(game, ParticleGame)
    game.world = dataclasses.replace(game.world, **changes)
    return game


def mutated_agent(id: str, index: int, **changes: Any) -> ParticleGame:
    game = kitae_envs.make(id)
    assert isinstance(game, ParticleGame)
    agents = list(game.world.agents)
    agents[index] = dataclasses.replace(agents[index], **changes)
    return mutated_world(id, agents=tuple(agents))


def fields(report: Any) -> set[str]:
    return {mismatch.field for mismatch in report.mismatches}


PARTICLE_MUTANTS = {
    "force": lambda: mutated_world("mpe/simple_spread-v3", contact_force=101.0),
    "damping": lambda: mutated_world("mpe/simple_spread-v3", damping=0.2501),
    "size": lambda: mutated_agent("mpe/simple_spread-v3", 2, size=0.151),
    "margin": lambda: mutated_world("mpe/simple_spread-v3", contact_margin=1.1e-3),
    "time": lambda: mutated_world("mpe/simple_spread-v3", dt=0.1001),
    "accel": lambda: mutated_agent("mpe/simple_spread-v3", 0, accel=5.01),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if i < 3 else pytest.mark.slow)
        for i, n in enumerate(PARTICLE_MUTANTS)
    ],
)
def test_mutated_physics_fail(name: str) -> None:
    report = verify("mpe/simple_spread-v3", episodes=8, starts=0, game=PARTICLE_MUTANTS[name]())
    assert not report.ok
    assert fields(report) & {"state.velocity", "state.position"}


def test_mutated_top_speed_fails() -> None:
    game = mutated_agent("mpe/simple_tag-v3", 3, max_speed=1.25)
    assert not verify("mpe/simple_tag-v3", episodes=20, starts=0, game=game).ok


class GenerousTag(SimpleTag):
    def rewards(self, state: Any) -> jax.Array:
        return super().rewards(state) * jnp.asarray([1.0, 1.0, 1.0, 1.0001])


class OpenForest(SimpleWorldComm):
    def observe_agents(self, state: Any) -> list[jax.Array]:
        far = state.position.at[jnp.asarray(self.forests)].add(0.02)
        return super().observe_agents(state._replace(position=far))


def test_mutated_payoff_fails() -> None:
    report = verify("mpe/simple_tag-v3", episodes=20, starts=0, game=GenerousTag())
    assert fields(report) == {"reward"}


@pytest.mark.slow
def test_mutated_sight_fails() -> None:
    report = verify("mpe/simple_world_comm-v3", episodes=5, starts=0, game=OpenForest())
    assert "observation" in fields(report)


class BlindTicTacToe(TicTacToe):
    def legal(self, state: Any) -> jax.Array:
        return super().legal(state) | (jnp.arange(9) == 8)


class WideConnectFour(ConnectFour):
    def play(self, state: Any, move: jax.Array) -> Any:
        after, payoff = super().play(state, move)
        return after._replace(over=after.over | jnp.all(after.tokens[0, :3] == 0b111)), payoff


def test_mutated_masks_and_ends_fail() -> None:
    report = verify("classic/tictactoe-v3", episodes=30, starts=0, game=BlindTicTacToe())
    assert "action_mask" in fields(report)
    lines = TicTacToe()
    lines.lines = lines.lines.copy()
    lines.lines[7] = 0b111000001
    assert not verify("classic/tictactoe-v3", episodes=60, starts=0, game=lines).ok


def test_mutated_leduc_fails() -> None:
    for name, value in (("chip_value", 1.0), ("raise_amounts", (2, 2)), ("max_raises", 3)):
        game = LeducHoldem()
        setattr(game, name, value)
        report = verify("classic/leduc_holdem-v4", episodes=80, starts=0, game=game)
        assert not report.ok, name


class LoadedDeal(LeducHoldem):
    def start(self, key: jax.Array) -> Any:
        state = super().start(key)
        return state._replace(cards=state.cards.at[:2].set(jnp.sort(state.cards[:2])))


def test_a_wrong_distribution_of_starts_fails() -> None:
    game = mutated_world(
        "mpe/simple_tag-v3",
        landmarks=tuple(
            dataclasses.replace(mark, reach=1.2)
            for mark in kitae_envs.make("mpe/simple_tag-v3").world.landmarks
        ),
    )
    report = verify("mpe/simple_tag-v3", episodes=2, starts=1000, game=game)
    assert not report.ok
    assert not report.mismatches
    report = verify("classic/leduc_holdem-v4", episodes=20, starts=2000, game=LoadedDeal())
    assert not report.ok


class OneGoal(SimpleReference):
    def start(self, key: jax.Array) -> Any:
        state = super().start(key)
        return state._replace(goal=state.goal[:1].repeat(2))


def test_starts_that_depend_on_each_other_fail() -> None:
    report = verify("mpe/simple_reference-v3", episodes=2, starts=500, game=OneGoal())
    wrong = {what for what, (value, limit) in report.distributions.items() if value > limit}
    assert wrong == {"pairs of first values"}
    assert not report.ok


def test_wrong_spaces_fail_and_are_named() -> None:
    report = verify("mpe/simple_spread-v3", game=kitae_envs.make("mpe/simple_spread-v3", N=2))
    assert not report.ok
    assert "agents" in str(report)


def test_what_cannot_be_verified_is_refused() -> None:
    with pytest.raises(ValueError, match="original"):
        verify("kitae/kuhn_poker-v0")
    with pytest.raises(ValueError, match="expected history=False"):
        verify("classic/leduc_holdem-v4", history=True)
    with pytest.raises(ValueError, match="too large"):
        verify("classic/connect_four-v3", exhaustive=True)
    with pytest.raises(ValueError, match="curriculum stage"):
        verify("mpe/simple_tag-v3", curriculum=True, curriculum_stage=2)


@pytest.mark.slow
def test_random_returns_agree_with_the_measured_brackets() -> None:
    returns = random_returns(kitae_envs.make("mpe/simple_spread-v3"), jax.random.key(0), 1000)
    mean = np.mean([returns[agent].mean() for agent in returns])
    assert -27.5 < mean < -25.1  # mpe2's random policy: -26.3
