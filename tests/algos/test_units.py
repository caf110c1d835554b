"""The units of the critic: the scale of rewards changes nothing, and where values begin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kitae_envs.games.simple_spread import SimpleSpread
from rollouts import E, T, make_groups, rollout

from kitae_marl.algos.nets.networks import CRITIC_HEAD
from kitae_marl.algos.ppo import algorithm as ppo
from kitae_marl.algos.ppo.units import Units, baseline_of, in_units_of
from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.runs.many import train_many
from kitae_marl.types import Experience, GroupSpec

GAMMA = 0.9
pytestmark = pytest.mark.usefixtures("quickest_compilation")


def made(
    share_params: bool, algo: str = "ippo"
) -> tuple[tuple[GroupSpec, ...], Config, Any, Experience]:
    """A first state and a rollout that it acted in."""
    settings = PPOConfig(n_steps=T, n_epochs=2, n_minibatches=2, hidden_sizes=(8,), gamma=GAMMA)
    config = Config(n_envs=E, env_steps=T * E * 5, ppo=settings)
    groups = make_groups(share_params)
    state = jax.jit(ppo.train_state_factory(groups, config))(jax.random.key(0))
    explore = jax.jit(ppo.explore_factory(groups, config))
    played = rollout(groups, lambda *inputs: explore(state, jax.random.key(1), *inputs, ()))
    return groups, config, state, played


def scaled(experience: Experience, scale: float) -> Experience:
    return experience._replace(reward={k: x * scale for k, x in experience.reward.items()})


@pytest.mark.long
@pytest.mark.parametrize("share_params", [True, False])
def test_the_scale_of_rewards_changes_nothing(share_params):
    groups, config, first, experience = made(share_params)
    process = ppo.process_experience_factory(groups, config)
    step = ppo.update_step_factory(groups, config)

    @jax.jit
    def update(state: Any, experience: Experience) -> Any:
        return step(state, jax.random.key(3), process(state, jax.random.key(2), experience))[0]

    def twice(scale: float) -> Any:
        given = scaled(experience, scale)
        return update(update(first, given), given)

    params = {scale: {k: s.params for k, s in twice(scale).items()} for scale in (1.0, 1e-3, 1e3)}
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), params[1.0]["a"], first["a"].params)
    assert min(jax.tree.leaves(moved)) > 1e-4
    for scale in (1e-3, 1e3):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5),
            params[1.0],
            params[scale],
        )


@pytest.mark.parametrize("share_params", [True, False])
@pytest.mark.parametrize("scale", [-1e-3, 1.0, 1e3])
def test_equal_rewards_give_no_advantage_from_the_first_rollout_on(share_params, scale):
    groups, config, state, experience = made(share_params)
    always = jax.tree.map(np.ones_like, experience.active)
    never = jax.tree.map(np.zeros_like, experience.active)
    cut = {name: x.copy() for name, x in never.items()}
    for rows in cut.values():
        rows[3] = True
    same = {name: np.full_like(x, scale) for name, x in experience.reward.items()}
    endless = experience._replace(
        reward=same, active=always, next_active=always, terminated=never, truncated=cut
    )
    process = jax.jit(ppo.process_experience_factory(groups, config))
    batch = process(state, jax.random.key(0), endless).batch
    for name, advantage in batch.advantage.items():
        assert np.abs(np.asarray(advantage)).max() < 1e-4 * abs(scale), name


def baseline(group: GroupSpec, gamma: float, *columns: Any) -> np.ndarray:
    """Of a rollout of one environment, whose columns are lists of steps, each of agents."""
    reward, terminated, active = (np.array(x, np.float32)[:, None] for x in columns)
    cut = np.zeros(reward.shape, bool)
    ends = terminated > 0, cut, active > 0, active > 0
    return np.asarray(baseline_of(group, reward, *ends, gamma))


@pytest.mark.parametrize(
    ("reward", "terminated", "active", "value"),
    [
        ([2, 2], [0, 0], [1, 1], 2 / (1 - GAMMA)),  # without an end
        ([3, 5], [1, 1], [1, 1], 4),  # one decision an episode
        ([0, 1], [0, 1], [1, 1], 0.5 / (1 - GAMMA / 2)),  # two decisions, a reward at the end
        ([0, 1, 2, 3], [0, 1, 0, 1], [1, 0, 1, 0], 3),  # the other one's move ends it
        ([np.nan, 0, 2], [0, 0, 1], [0, 1, 1], 1 / (1 - GAMMA / 2)),  # before it joins
        ([0, 0], [0, 0], [0, 0], 0),  # nobody acts
    ],
)
def test_the_baseline_is_the_value_that_is_right_on_average(reward, terminated, active, value):
    group = make_groups(True, 1)[0]
    columns = [np.array(x, np.float32)[:, None] for x in (reward, terminated, active)]
    assert baseline(group, GAMMA, *columns) == pytest.approx(value, rel=1e-5)


def test_agents_with_networks_of_their_own_have_baselines_of_their_own():
    columns = [[2, 4], [4, 8]], [[1, 1], [1, 1]], [[1, 1], [1, 1]]
    assert baseline(make_groups(True)[0], GAMMA, *columns).ravel().tolist() == [4.5]
    assert baseline(make_groups(False)[0], GAMMA, *columns).ravel().tolist() == [3.0, 6.0]


def test_values_without_end_or_discount_stay_finite():
    group = make_groups(True, 1)[0]
    assert np.isfinite(baseline(group, 1.0, [[1], [1]], [[0], [0]], [[1], [1]]))


@pytest.mark.parametrize("share_params", [True, False])
def test_values_stay_what_they_were_where_units_move(share_params):
    """Those of whatever is observed, before anything is learned in the new units."""
    groups, config, state, experience = made(share_params)
    process = jax.jit(ppo.process_experience_factory(groups, config))
    step = jax.jit(ppo.update_step_factory(groups, config))
    key = jax.random.key(1)
    state, _ = step(state, key, process(state, key, experience))
    moments = process(state, key, scaled(experience, 30.0)).moments
    for group in groups:
        old, new = state[group.name], in_units_of(state[group.name], moments[group.name])
        before, after = old.moments["target"], moments[group.name]["target"]
        assert (np.abs(after.mean - before.mean) > 0.1).all()
        heads = [s.params["critic"]["params"][CRITIC_HEAD] for s in (old, new)]
        assert np.abs(heads[0]["kernel"]).max() > 1e-3
        features = np.random.default_rng(0).normal(size=(5, heads[0]["kernel"].shape[-2]))
        raw = [jnp.array(features @ h["kernel"] + h["bias"][..., None, :])[..., 0] for h in heads]
        values = [
            Units.of(m).of_rewards(jnp.atleast_2d(x).T[None])
            for m, x in zip((before, after), raw, strict=True)
        ]
        np.testing.assert_allclose(values[0], values[1], rtol=1e-4, atol=1e-4)


def test_without_them_nothing_is_kept_and_the_critic_begins_anywhere():
    groups, config, state, experience = made(True)
    off = replace(config, ppo=replace(config.ppo, normalize_return=False))
    plain = ppo.train_state_factory(groups, off)(jax.random.key(0))
    process = jax.jit(ppo.process_experience_factory(groups, off))
    assert plain["a"].moments == process(plain, jax.random.key(0), experience).moments["a"] == ()
    heads = [s["a"].params["critic"]["params"][CRITIC_HEAD]["kernel"] for s in (state, plain)]
    assert not heads[0].any()
    assert heads[1].any()


class InUnits(SimpleSpread):
    """simple_spread with its rewards in other units."""

    scale = 1.0

    def transition(self, key: Any, state: Any, action: Any) -> Any:
        state, outcome = super().transition(key, state, action)
        return state, outcome._replace(
            reward=jax.tree.map(lambda r: r * self.scale, outcome.reward)
        )


@pytest.mark.slow
def test_a_game_is_learned_in_any_unit(tmp_path):
    """By the defaults alone; random gets -26.2."""
    returns = {}
    for scale in (1e-3, 1.0, 1e3):
        game = InUnits()
        game.scale = scale
        config = Config(env_id="mpe/simple_spread-v3", env_steps=500_000)
        runs = train_many(game, config, [0, 1, 2], run_dir=tmp_path / str(scale), show=False)
        returns[scale] = np.mean([r.summary["returns"]["return/mean"] for r in runs]) / scale
    print({scale: round(float(x), 2) for scale, x in returns.items()})
    assert returns[1.0] > -16, returns
    assert max(returns.values()) - min(returns.values()) < 1, returns
