"""Compiled games as PettingZoo environments, one at a time and in a vector."""

import warnings
from typing import Any

import gymnasium as gym
import jax
import kitae_envs
import numpy as np
import pytest
from kitae_envs import render
from kitae_envs.core import View, reset_batch, step_batch
from kitae_envs.games.tictactoe import TicTacToe
from kitae_envs.parallel import GameParallelEnv

from kitae_marl.data.keys import ENVIRONMENT, key_for
from kitae_marl.errors import ClosedError, UnknownEnvironmentError
from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv
from kitae_marl.vector.adapters.compiled_games import twin_serves
from kitae_marl.vector.catalogue.doctor import check_parallel_env
from kitae_marl.vector.make import make_parallel_env
from kitae_marl.vector.protocol import VecParallelEnv

QUICK = ["mpe/simple_speaker_listener-v4", "classic/connect_four-v3", "classic/rps-v2"]
SLOW = [pytest.param(i, marks=pytest.mark.slow) for i in kitae_envs.ids() if i not in QUICK]


def legal(rng: np.random.Generator, space: Any, observation: Any) -> Any:
    if not isinstance(observation, dict):
        return space.sample()
    options = np.flatnonzero(observation["action_mask"])
    return int(rng.choice(options)) if len(options) else 0


@pytest.mark.parametrize("id", [*QUICK, *SLOW])
def test_pettingzoos_own_test_and_rendering(id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pettingzoo.test imports the old way
        from pettingzoo.test import parallel_api_test
    env = GameParallelEnv(id, render_mode="rgb_array")
    parallel_api_test(env, num_cycles=50)
    rng = np.random.default_rng(0)
    observations, _ = env.reset(seed=1)
    for _ in range(3):
        if env.agents:
            actions = {a: legal(rng, env.action_space(a), observations[a]) for a in env.agents}
            observations, *_ = env.step(actions)
    frame = env.render()
    assert frame is not None
    assert frame.dtype == np.uint8
    assert frame.ndim == 3
    assert len(np.unique(frame.reshape(-1, 3), axis=0)) > 5, "an empty picture"
    assert not np.array_equal(frame, (env.reset(seed=2), env.render())[1])


def test_names_of_agents_at_the_border_are_whole() -> None:
    def picture(x: float, y: float) -> np.ndarray:
        place = np.array([[x, y]])
        return render.particles(place, np.array([0.15]), [(1.0, 0.0, 0.0)], ["adversary_0"], {})

    def ink(frame: np.ndarray) -> int:
        return int((frame[..., 1] < 100).sum())  # the disc and its name; nothing else is red

    whole = ink(picture(0.0, 0.0))
    for place in ((-1.05, 0.0), (1.05, 0.0), (0.0, 1.05), (1.05, 1.05)):
        assert abs(ink(picture(*place)) / whole - 1) < 0.01, place


@pytest.mark.parametrize("id", QUICK)
def test_our_own_conformance_check(id: str) -> None:
    report = check_parallel_env(lambda: GameParallelEnv(id), episodes=3, max_steps=50)
    assert report.ok, "\n".join(report.lines())


def play(env: GameParallelEnv, seed: int | None, episodes: int = 1) -> list[Any]:
    rng, seen = np.random.default_rng(0), []
    for episode in range(episodes):
        observations, infos = env.reset(seed=seed if episode == 0 else None)
        while env.agents:
            actions = {a: legal(rng, env.action_space(a), observations[a]) for a in env.agents}
            observations, rewards, terminated, truncated, infos = env.step(actions)
            seen.append((observations, rewards, terminated, truncated, infos))
    return seen


def test_seeds_make_whole_runs_reproducible() -> None:
    env = GameParallelEnv("classic/leduc_holdem-v4")
    first, again = play(env, 5, episodes=4), play(env, 5, episodes=4)
    assert str(first) == str(again)
    assert str(first) != str(play(env, 6, episodes=4))


def test_who_is_to_act_and_who_was_paid() -> None:
    env = GameParallelEnv("classic/tictactoe-v3")
    _, infos = env.reset(seed=0)
    assert infos["player_1"]["active"]
    assert not infos["player_2"]["active"]
    for move in (0, 3, 1, 4):  # player_1 is about to win by square 2
        observations, _, _, _, infos = env.step(dict.fromkeys(env.agents, move))
    assert not observations["player_2"]["action_mask"].any()
    observations, rewards, terminated, truncated, infos = env.step({"player_1": 2})
    assert rewards == {"player_1": 1.0, "player_2": -1.0}
    assert all(terminated.values())
    assert not any(truncated.values())
    assert not any(info["active"] for info in infos.values())
    assert env.agents == []
    assert env.step({}) == ({}, {}, {}, {}, {})


class Unsaid(TicTacToe):
    turn_based = False


def test_who_waits_is_told_though_the_game_does_not_call_itself_turn_based() -> None:
    env = GameParallelEnv(Unsaid())
    _, infos = env.reset(seed=0)
    assert infos == {"player_1": {}, "player_2": {"active": False}}
    *_, infos = env.step({"player_1": 0})
    assert infos == {"player_1": {"active": False}, "player_2": {}}
    report = check_parallel_env(lambda: GameParallelEnv(Unsaid()), episodes=2, max_steps=50)
    assert report.ok, "\n".join(report.lines())


class MaskApart(TicTacToe):
    """Tic-tac-toe whose observations are nested and hold no mask."""

    def observation_space(self, agent: str) -> gym.Space:
        board = super().observation_space(agent)["observation"]
        return gym.spaces.Dict(seen=gym.spaces.Tuple([board, gym.spaces.Box(0, 1, (3, 3, 2))]))

    def observe(self, state: Any) -> View:
        view = super().observe(state)
        board = view.observation["player"]["observation"]
        return view._replace(observation={"player": {"seen": (board, board.astype("float32"))}})


def test_masks_that_nested_observations_do_not_hold_are_in_the_infos() -> None:
    env = GameParallelEnv(MaskApart())
    observations, infos = env.reset(seed=0)
    assert env.observation_space("player_1").contains(observations["player_1"])
    assert infos["player_1"]["action_mask"].tolist() == [1] * 9
    *_, infos = env.step({"player_1": 4})
    assert infos["player_2"]["action_mask"].tolist() == [1, 1, 1, 1, 0, 1, 1, 1, 1]


OWN = "kitae_envs.games.rps:RockPaperScissors"  # as a user names a game of his own


def test_games_of_ones_own_are_made_by_module_and_class() -> None:
    env = make_parallel_env(OWN, num_actions=5, render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (240, 360, 3)
    assert env.action_space("player_0").n == 5
    assert CompiledVecParallelEnv(OWN, 2, num_actions=7).game.num_actions == 7
    with pytest.raises(UnknownEnvironmentError, match="has no 'Chess'"):
        CompiledVecParallelEnv("kitae_envs.games.rps:Chess", 2)
    with pytest.raises(TypeError, match="expected a compiled game"):
        CompiledVecParallelEnv("builtins:dict", 2)


@pytest.mark.parametrize(
    ("id", "own"),
    [("classic/leduc_holdem-v4", {"history": True}), ("mpe/simple_tag", {"curriculum_stage": 1})],
)
def test_arguments_that_no_original_takes_bring_the_compiled_game(id: str, own: Any) -> None:
    env, game = make_parallel_env(id, render_mode="rgb_array", **own), kitae_envs.make(id, **own)
    assert {a: env.observation_space(a) for a in env.possible_agents} == {
        a: game.observation_space(a) for a in game.possible_agents
    }
    env.reset(seed=0)
    assert env.render() is not None


def test_which_ids_are_compiled_by_themselves() -> None:
    refused: list[str] = []
    assert twin_serves(OWN, {})
    assert not twin_serves(OWN, {"num_actions": 4}, refused.append)
    assert "odd" in refused[0]
    for other in ("builtins:dict", "gymnasium:CartPole-v1", "gymnasium:kitae_envs.games.rps:X-v0"):
        assert not twin_serves(other, {})


def test_misuse_is_named() -> None:
    with pytest.raises(RuntimeError, match="reset"):
        GameParallelEnv("classic/rps-v2").step({})
    with pytest.raises(NotImplementedError, match="global state"):
        _state_of("classic/rps-v2")
    with pytest.raises(ValueError, match="render_mode"):
        GameParallelEnv("classic/rps-v2", render_mode="human")


def _state_of(id: str) -> np.ndarray:
    env = GameParallelEnv(id)
    env.reset(seed=0)
    return env.state()


# --- vector -------------------------------------------------------------------------------------


def random_actions(env: CompiledVecParallelEnv, infos: dict[str, Any], rng: Any) -> dict[str, Any]:
    actions = {}
    for agent in env.possible_agents:
        if "action_mask" in infos:
            masks = infos["action_mask"][agent]
            actions[agent] = np.array(
                [rng.choice(np.flatnonzero(m)) if m.any() else 0 for m in masks]
            )
        else:
            actions[agent] = rng.integers(env.action_space(agent).n, size=env.num_envs)
    return actions


def rows(game: Any, step: Any, agent: str) -> dict[str, Any]:
    """Pick one agent's rows out of a batch's TimeStep."""
    group, i = next((g, m.index(agent)) for g, m in game.groups.items() if agent in m)
    names = set(step._fields) - {"over", "state", "next_state"}
    return {n: jax.tree.map(lambda x: x[:, i], getattr(step, n)[group]) for n in names}


@pytest.mark.parametrize("id", ["mpe/simple_speaker_listener-v4", "classic/leduc_holdem-v4"])
def test_the_vector_steps_exactly_what_the_core_steps(id: str) -> None:
    env = CompiledVecParallelEnv(id, 5, with_state=id.startswith("mpe"))
    assert isinstance(env, VecParallelEnv)
    game, root = env.game, jax.random.key(3)
    state, step = reset_batch(game, key_for(root, ENVIRONMENT, 0), 5)
    advance = jax.jit(lambda k, s, a: step_batch(game, k, s, a))
    observations, infos = env.reset(seed=3)
    rng, ended = np.random.default_rng(0), 0
    returns = {a: np.zeros(5) for a in env.possible_agents}
    for t in range(1, 30):
        actions = random_actions(env, infos, rng)
        stacked = {g: np.stack([actions[a] for a in m], 1) for g, m in game.groups.items()}
        state, step = advance(key_for(root, ENVIRONMENT, t), state, stacked)
        observations, rewards, terminated, truncated, infos = env.step(actions)
        step = jax.device_get(step)
        over = step.over
        for agent in env.possible_agents:
            expected = rows(game, step, agent)
            assert str(observations[agent]) == str(expected["observation"])
            assert np.array_equal(rewards[agent], expected["reward"])
            assert np.array_equal(terminated[agent], expected["terminated"])
            assert np.array_equal(truncated[agent], expected["truncated"])
            assert np.array_equal(infos["active"][agent], expected["active"])
            returns[agent] += rewards[agent]
            if over.any():
                final = infos["final_observation"][agent]
                assert str(final) == str(expected["next_observation"])
                total = infos["episode"]["return"][agent]
                assert np.array_equal(total[over], returns[agent][over])
                returns[agent][over] = 0
        assert ("_episode" in infos) == over.any()
        if over.any():
            ended += over.sum()
            assert np.array_equal(infos["_episode"], over)
            assert np.array_equal(infos["_final_observation"], over)
        if game.state_space is not None:
            assert np.array_equal(env.state(), step.state)
            if over.any():
                assert np.array_equal(infos["final_state"], step.next_state)
                assert (infos["episode"]["length"]["speaker_0"][over] == 25).all()
    assert ended >= 5


def test_what_the_vector_returns_is_kept_and_stacked() -> None:
    env = CompiledVecParallelEnv("mpe/simple-v3", 3, continuous_actions=True)
    first, _ = env.reset(seed=0)
    copy = first["agent_0"].copy()
    actions = {"agent_0": np.full((3, 5), 0.5, np.float32)}
    env.step(actions)
    assert np.array_equal(first["agent_0"], copy)
    assert first.stacked("agent", ("agent_0",)).shape == (3, 1, 4)
    assert env.render(2).shape == (400, 400, 3)
    env.close()
    env.close()
    with pytest.raises(ClosedError):
        env.step(actions)


def test_wrong_actions_are_refused_before_anything_is_stepped() -> None:
    env = CompiledVecParallelEnv("classic/tictactoe-v3", 2)
    with pytest.raises(RuntimeError, match="reset"):
        env.step({})
    env.reset(seed=0)
    good = {"player_1": np.array([0, 8]), "player_2": np.array([99, 99])}  # player_2 is idle
    for wrong in (
        {"player_2": np.array([0, 0])},
        {**good, "player_1": np.array([0, 9])},
        {**good, "player_1": np.array([0])},
        {**good, "player_1": np.array([0.0, 1.0])},
    ):
        with pytest.raises(ValueError, match="expected"):
            env.step(wrong)
    observations, *_ = env.step(good)
    assert observations["player_2"]["observation"][..., 1].sum() == 2
    with pytest.raises(ValueError, match="n_envs"):
        CompiledVecParallelEnv("classic/tictactoe-v3", 0)
    with pytest.raises(ValueError, match="state_space"):
        CompiledVecParallelEnv("classic/tictactoe-v3", 1, with_state=True)


def test_seeds_of_the_vector() -> None:
    env = CompiledVecParallelEnv("mpe/simple-v3", 4)
    a = env.reset(seed=1)[0]["agent_0"].copy()
    later = env.reset()[0]["agent_0"].copy()
    assert np.array_equal(env.reset(seed=1)[0]["agent_0"], a)
    assert np.array_equal(env.reset()[0]["agent_0"], later)
    assert not np.array_equal(a, later)
    assert len(np.unique(a[:, 2])) == 4


def test_games_of_an_environment_do_not_depend_on_how_many_there_are() -> None:
    few, many = (CompiledVecParallelEnv("mpe/simple-v3", n, max_cycles=2) for n in (3, 8))
    (seen, _), (all_seen, _) = few.reset(seed=1), many.reset(seed=1)
    for _ in range(5):
        assert np.array_equal(seen["agent_0"], all_seen["agent_0"][:3])
        seen, *_ = few.step({"agent_0": np.zeros(3, np.int64)})
        all_seen, *_ = many.step({"agent_0": np.zeros(8, np.int64)})
