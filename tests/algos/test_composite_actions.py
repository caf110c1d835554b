"""Actions of several parts: their distribution, their way to the games, and learning by them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import jax
import numpy as np
import pytest
from gymnasium import spaces
from small_games import Parts

from kitae_marl import Agent, Config, PPOConfig, SubProcVecParallelEnv, check_env
from kitae_marl.algos.nets.distributions import MASKED_LOGIT, distribution_for
from kitae_marl.data.spaces import leaves
from kitae_marl.players.policies import FirstLegal, random_policy

pytestmark = pytest.mark.usefixtures("quickest_compilation")

AIM, MOVE, KEYS = spaces.Box(-1, 1, (2,)), spaces.Discrete(3, start=1), spaces.MultiBinary(2)
LEVEL, GEARS = spaces.Box(-1, 1, (1,), np.int8), spaces.MultiDiscrete([2, 2])
SPACE = spaces.Dict(aim=AIM, move=MOVE, rest=spaces.Tuple([KEYS, LEVEL, GEARS]))
PLACES = {"aim": slice(0, 2), "move": slice(2, 5), "keys": slice(5, 7), "level": slice(7, 10)}
PLACES["gears"] = slice(10, 14)


def parts_of(params: np.ndarray) -> list[tuple[gym.Space, np.ndarray]]:
    """Each part with the parameters of its own."""
    own = {name: params[..., place] for name, place in PLACES.items()}
    aim = np.concatenate([own["aim"], params[..., 14:]], axis=-1)
    pairs = [(AIM, aim), (MOVE, own["move"]), (KEYS, own["keys"])]
    return [*pairs, (LEVEL, own["level"]), (GEARS, own["gears"])]


@pytest.fixture(scope="module")
def params() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(500, 16)).astype(np.float32)


def flat(action: Any) -> list[Any]:
    return [leaf.of(action) for leaf in leaves(SPACE)]


def test_it_is_the_product_of_its_parts(params: np.ndarray) -> None:
    distribution = distribution_for(SPACE)
    assert (distribution.n_outputs, distribution.n_scales) == (14, 2)
    action = jax.jit(distribution.sample)(params, jax.random.key(0))
    assert [x.shape for x in flat(action)] == [(500, 2), (500,), (500, 2), (500, 1), (500, 2)]
    parts = [(distribution_for(space), own) for space, own in parts_of(params)]
    parted = zip(parts, flat(action), strict=True)
    log_probs = [jax.jit(d.log_prob)(own, x) for (d, own), x in parted]
    log_prob = jax.jit(distribution.log_prob)(params, action)
    np.testing.assert_allclose(log_prob, np.sum(log_probs, axis=0), rtol=1e-4)
    entropies = [jax.jit(d.entropy)(own) for d, own in parts]
    entropy = jax.jit(distribution.entropy)(params)
    np.testing.assert_allclose(entropy, np.sum(entropies, axis=0), rtol=1e-4)
    for mine, (d, own) in zip(flat(jax.jit(distribution.mode)(params)), parts, strict=True):
        np.testing.assert_array_equal(mine, jax.jit(d.mode)(own))


def test_its_samples_are_actions_of_the_space_and_independent(params: np.ndarray) -> None:
    distribution = distribution_for(SPACE)
    rows = np.broadcast_to(params[0], (4000, 16))
    action = jax.jit(distribution.sample)(rows, jax.random.key(1))
    for leaf, values in zip(leaves(SPACE), map(np.asarray, flat(action)), strict=True):
        assert (values >= leaf.low).all()
        assert (values <= leaf.high).all()
    columns = np.concatenate([np.asarray(x, float).reshape(4000, -1) for x in flat(action)], axis=1)
    between = np.corrcoef(columns.T) - np.eye(columns.shape[1])
    assert np.abs(between).max() < 0.08


def test_a_mask_lies_over_the_parts_with_choices(params: np.ndarray) -> None:
    distribution = distribution_for(SPACE)
    mask = np.broadcast_to(np.array([0, 1, 0, 1, 0, 0, 1], np.int8), (500, 7))
    masked = jax.jit(distribution.mask)(params, mask)
    forbidden = np.flatnonzero(np.asarray(masked)[0] == MASKED_LOGIT)
    assert forbidden.tolist() == [2, 4, 11, 12]
    drawn = jax.jit(distribution.sample)(masked, jax.random.key(2))
    for action in (drawn, jax.jit(distribution.mode)(masked)):
        assert (np.asarray(action["move"]) == 2).all()
        assert (np.asarray(action["rest"][2]) == [0, 1]).all()
    assert distribution.mask(params, ()) is params


@pytest.mark.parametrize("n_workers", [0, 2])
def test_games_get_actions_of_their_spaces(n_workers: int) -> None:
    vec = SubProcVecParallelEnv([Parts] * 3, n_workers=n_workers)
    observations, infos = vec.reset(seed=0)
    for policy in (random_policy(vec), FirstLegal(vec)):
        for _ in range(3):
            observations, rewards, _, _, infos = vec.step(policy(observations, infos))
            assert np.isfinite(rewards["bot_0"]).all()
    wrong = random_policy(vec)(observations, infos)
    wrong["bot_1"]["level"] = np.array([[0], [9], [0]])
    with pytest.raises(ValueError, match=r"actions\['level'\] inside .* 'bot_1' of env 1"):
        vec.step(wrong)
    del wrong["bot_1"]["level"]
    with pytest.raises(ValueError, match=r"expected an array at \['level'\]"):
        vec.step(wrong)
    vec.close()


@pytest.mark.slow
def test_runs_with_them_are_kept_and_loaded(tmp_path: Any) -> None:
    ppo = PPOConfig(
        n_steps=8, n_epochs=1, n_minibatches=1, hidden_sizes=(8,), gru_size=4, chunk_length=8
    )
    config = Config(env_id="small_games:Parts", n_envs=2, env_steps=2 * 8, ppo=ppo)
    vec = SubProcVecParallelEnv([Parts] * 2, n_workers=0)
    agent = Agent(vec, config)
    agent.train(vec, tmp_path / "run", show=False)
    loaded = Agent.load(tmp_path / "run")
    assert loaded.groups == agent.groups
    vec = SubProcVecParallelEnv([Parts] * 2, n_workers=0)
    first = vec.reset(seed=0)
    acted, expected = loaded.select_action(*first), agent.select_action(*first)
    for leaf in leaves(Parts.SPACE):
        np.testing.assert_array_equal(leaf.of(acted["bot_1"]), leaf.of(expected["bot_1"]))
    assert np.isfinite(vec.step(acted)[1]["bot_0"]).all()  # the game asserts what it is given
    vec.close()


class Solo(gym.Env):
    """One agent whose action has parts."""

    observation_space, action_space = spaces.Box(0, 1, (1,)), Parts.SPACE

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        return np.zeros(1, np.float32), 1.0, False, True, {}


@pytest.mark.parametrize("vector", [gym.vector.SyncVectorEnv, None])
def test_gymnasium(vector: Any) -> None:
    env = check_env(Solo() if vector is None else vector([Solo] * 2))
    vec = SubProcVecParallelEnv([env], n_workers=0) if vector is None else env
    observations, infos = vec.reset(seed=0)
    for _ in range(3):
        observations, rewards, *_, infos = vec.step(random_policy(vec)(observations, infos))
    assert rewards["agent_0"].max() == 1
    vec.close()
