"""The vector environment against games stepped plainly, over every transport."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from mpe2 import simple_speaker_listener_v4, simple_spread_v3
from vector_games import BOX, CountGame, ScriptGame, SpaceGame, one

from kitae_marl.data.stacking import map_leaves, stack
from kitae_marl.errors import ClosedError
from kitae_marl.vector.protocol import VecParallelEnv, episode_seed
from kitae_marl.vector.workers.process import SLICE
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv


def act(vec: SubProcVecParallelEnv, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw legal actions."""
    actions = {}
    for agent in vec.possible_agents:
        space = vec.action_space(agent)
        space.seed(int(rng.integers(2**31)))
        actions[agent] = np.stack([np.asarray(space.sample()) for _ in range(vec.num_envs)])
    return actions


def assert_same(tree: Any, other: Any) -> None:
    """Compare nested arrays bit by bit."""
    map_leaves(lambda a, b: np.testing.assert_array_equal(a, b, strict=False), tree, other)


class Plain:
    """One environment stepped by hand, with the seeds of row ``index``."""

    def __init__(self, env: Any, seed: int, index: int) -> None:
        self.env, self.seed, self.index, self.episode = env, seed, index, 0
        self.observations, _ = env.reset(seed=seed + index)
        self.returns = dict.fromkeys(env.possible_agents, 0.0)
        self.final: dict[str, Any] | None = None

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict]:
        live = {agent: actions[agent] for agent in self.env.agents}
        self.observations, rewards, terminated, truncated, _ = self.env.step(live)
        for agent, reward in rewards.items():
            self.returns[agent] += reward
        self.final = None
        if not self.env.agents:
            self.final, self.finished = self.observations, self.returns
            self.returns = dict.fromkeys(self.returns, 0.0)
            self.episode += 1
            seed = episode_seed(self.seed, self.index, self.episode)
            self.observations, _ = self.env.reset(seed=seed)
        return rewards, terminated, truncated


@pytest.mark.parametrize(
    "make",
    [
        simple_spread_v3.parallel_env,
        simple_speaker_listener_v4.parallel_env,
        CountGame,
    ],
)
def test_equals_games_stepped_plainly(make: Any, n_workers: int) -> None:
    n_envs, rng = 3, np.random.default_rng(0)
    with SubProcVecParallelEnv([make] * n_envs, n_workers=n_workers) as vec:
        observations, _ = vec.reset(seed=11)
        plain = [Plain(make(), 11, i) for i in range(n_envs)]
        n_ended = 0
        for _ in range(60):
            for i, game in enumerate(plain):
                for agent in vec.possible_agents:
                    mine = observations[agent][i]
                    if make is CountGame:  # its third number is the process
                        mine = np.delete(mine, 2)
                        np.testing.assert_array_equal(mine, np.delete(game.observations[agent], 2))
                    else:
                        np.testing.assert_array_equal(mine, game.observations[agent])
            actions = act(vec, rng)
            observations, rewards, terminated, truncated, infos = vec.step(actions)
            for i, game in enumerate(plain):
                expected = game.step({agent: int(a[i]) for agent, a in actions.items()})
                for agent in vec.possible_agents:
                    got = (rewards[agent][i], terminated[agent][i], truncated[agent][i])
                    assert got == tuple(e[agent] for e in expected)
                if game.final is None:
                    assert not infos.get("_final_observation", np.zeros(n_envs))[i]
                    continue
                n_ended += 1
                assert infos["_final_observation"][i]
                assert infos["_episode"][i]
                for agent in vec.possible_agents:
                    assert infos["episode"]["return"][agent][i] == pytest.approx(
                        game.finished[agent], abs=1e-9
                    )
                    if make is not CountGame:
                        np.testing.assert_array_equal(
                            infos["final_observation"][agent][i], game.final[agent]
                        )
        assert n_ended >= 2 * n_envs


def test_attributes_and_dtypes(n_workers: int) -> None:
    with SubProcVecParallelEnv([CountGame] * 3, n_workers=n_workers) as vec:
        assert isinstance(vec, VecParallelEnv)
        assert vec.num_envs == 3
        assert vec.possible_agents == ["a_0", "a_1"]
        assert [group.agents for group in vec.groups] == [("a_0", "a_1")]
        assert vec.metadata == {"name": "count"}
        assert vec.observation_space("a_0") == BOX
        assert vec.action_space("a_1") == gym.spaces.Discrete(3)
        assert len(vec.worker_pids) == (n_workers if vec.transport is None else 0)
        vec.reset(seed=0)
        values = vec.step({agent: np.ones(3, np.int64) for agent in vec.possible_agents})
        kinds = [(v["a_0"].shape, v["a_0"].dtype) for v in values[:4]]
        assert kinds == [((3, 4), np.float32), ((3,), np.float64), ((3,), bool), ((3,), bool)]
        assert set(values[4]) == {"active"}
        assert values[0]["a_0"][:, 3].tolist() == [1, 1, 1]


def test_the_views_are_live_and_stack_without_copying(n_workers: int) -> None:
    with SubProcVecParallelEnv([CountGame] * 2, n_workers=n_workers) as vec:
        observations, _ = vec.reset(seed=0)
        again = vec.step({agent: np.zeros(2, int) for agent in vec.possible_agents})[0]
        assert observations is again
        assert stack(observations, vec.groups)["a"] is observations.blocks["a"]
        assert np.shares_memory(observations["a_1"], observations.blocks["a"])


def test_actions_as_a_stacked_block(n_workers: int) -> None:
    from kitae_marl.data.stacking import AgentDict

    with SubProcVecParallelEnv([CountGame] * 2, n_workers=n_workers) as vec:
        vec.reset(seed=0)
        block = AgentDict({"a": np.array([[1, 0], [2, 0]])}, {"a": ("a_0", "a_1")})
        assert vec.step(block)[0]["a_0"][:, 3].tolist() == [1, 2]


SPACES = [
    gym.spaces.Box(0, 255, (3, 4, 2), np.uint8),
    gym.spaces.Box(0, 255, (40, 40, 3), np.uint8),
    gym.spaces.Box(-1, 1, (), np.float32),
    gym.spaces.Box(np.array([-1.0, 0.0]), np.array([0.0, 5.0]), dtype=np.float64),
    gym.spaces.Discrete(5, start=2),
    gym.spaces.MultiDiscrete([3, 4]),
    gym.spaces.MultiBinary(5),
    gym.spaces.Dict(
        {
            "image": gym.spaces.Box(0, 1, (2, 2), np.bool_),
            "n": gym.spaces.Discrete(3),
            "deep": gym.spaces.Tuple((gym.spaces.MultiBinary((2, 2)), gym.spaces.Box(0, 1, (3,)))),
        }
    ),
    gym.spaces.Tuple((gym.spaces.Discrete(2), gym.spaces.Box(-5, 5, (1,), np.int16))),
]
ACTIONS = [
    gym.spaces.Discrete(4, start=-1),
    gym.spaces.MultiDiscrete([2, 3]),
    gym.spaces.MultiBinary(3),
    gym.spaces.Box(-2, 2, (2,)),
]


@pytest.mark.parametrize("observation", SPACES, ids=lambda s: type(s).__name__)
def test_every_kind_of_observation(observation: gym.Space, n_workers: int) -> None:
    _compare_spaces(observation, gym.spaces.Discrete(2), n_workers)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda s: type(s).__name__)
def test_every_kind_of_action(action: gym.Space, n_workers: int) -> None:
    _compare_spaces(gym.spaces.Box(-1, 1, ()), action, n_workers)


def _compare_spaces(observation: gym.Space, action: gym.Space, n_workers: int) -> None:
    """Compare with the game stepped plainly, over two episodes."""
    rng = np.random.default_rng(1)

    def make() -> SpaceGame:
        return SpaceGame(observation, action)

    with SubProcVecParallelEnv([make] * 2, n_workers=n_workers) as vec:
        assert vec.observation_space("b_0") == observation
        assert vec.action_space("a_0") == action
        values, _ = vec.reset(seed=5)
        plain = [Plain(make(), 5, i) for i in range(2)]
        for _ in range(9):
            actions = act(vec, rng)
            for i, game in enumerate(plain):
                rewards, *_ = game.step({a: v[i] for a, v in actions.items()})
                game.rewards = rewards  # pyright: ignore[reportAttributeAccessIssue]
            values, rewards, _, _, infos = vec.step(actions)
            for i, game in enumerate(plain):
                for agent in vec.possible_agents:
                    mine = map_leaves(lambda leaf, i=i: leaf[i], values[agent])
                    theirs = game.observations[agent]
                    map_leaves(np.testing.assert_array_equal, mine, _nested(theirs))
                    assert rewards[agent][i] == game.rewards[agent]  # pyright: ignore[reportAttributeAccessIssue]
                    if game.final is not None:
                        last = infos["final_observation"][agent]
                        last = map_leaves(lambda leaf, i=i: leaf[i], last)
                        map_leaves(np.testing.assert_array_equal, last, _nested(game.final[agent]))


def _nested(value: Any) -> Any:
    """Turn gymnasium's ordered dicts into plain ones."""
    if isinstance(value, dict):
        return {key: _nested(item) for key, item in value.items()}
    return tuple(_nested(item) for item in value) if isinstance(value, tuple) else value


def test_a_space_without_fixed_size_is_refused_by_name(n_workers: int) -> None:
    text = gym.spaces.Text(5)
    with pytest.raises(RuntimeError, match=r"got Text\(.*\); wrap the environment"):
        SubProcVecParallelEnv(
            [lambda: SpaceGame(text, gym.spaces.Discrete(2))], n_workers=min(n_workers, 1)
        )


def test_state_final_state_and_render(n_workers: int) -> None:
    with SubProcVecParallelEnv([CountGame] * 2, n_workers=n_workers, with_state=True) as vec:
        vec.reset(seed=7)
        zeros = {agent: np.zeros(2, int) for agent in vec.possible_agents}
        assert vec.state().tolist() == [[7, 0], [8, 0]]
        for _ in range(4):
            vec.step(zeros)
        assert vec.state().tolist() == [[7, 4], [8, 4]]
        assert vec.render(1).shape == (4, 6, 3)
        assert (vec.render(1) == 4).all()
        infos = vec.step(zeros)[4]
        assert infos["final_state"].tolist() == [[7, 5], [8, 5]]
        assert vec.state()[:, 1].tolist() == [0, 0]
    with SubProcVecParallelEnv([CountGame] * 2, n_workers=n_workers) as vec:
        vec.reset(seed=7)
        vec.step(zeros)
        assert vec.state().tolist() == [[7, 1], [8, 1]]
        assert "final_state" not in vec.step(zeros)[4]


def test_render_says_what_is_missing(n_workers: int) -> None:
    class Blind(CountGame):
        def render(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            return None

    with SubProcVecParallelEnv([Blind], n_workers=min(n_workers, 1)) as vec:
        vec.reset(seed=0)
        with pytest.raises(ValueError, match=r'NoneType; make the environment.*"rgb_array"'):
            vec.render()


def test_seeds_follow_the_rule(n_workers: int) -> None:
    with SubProcVecParallelEnv([CountGame] * 3, n_workers=n_workers) as vec:
        observations, _ = vec.reset(seed=40)
        assert observations["a_0"][:, 0].tolist() == [40, 41, 42]
        zeros = {agent: np.zeros(3, int) for agent in vec.possible_agents}
        for episode in (1, 2):
            for _ in range(5):
                vec.step(zeros)
            expected = [episode_seed(40, i, episode) % 100_000 for i in range(3)]
            assert observations["a_0"][:, 0].tolist() == expected
        first = vec.reset()[0]["a_0"][:, 0].copy()
        vec.reset(seed=40)
        assert vec.reset()[0]["a_0"][:, 0].tolist() == first.tolist()
        assert vec.reset()[0]["a_0"][:, 0].tolist() != first.tolist()
    with pytest.raises(ClosedError):
        vec.reset()


def test_v14_max_episode_steps_truncates(n_workers: int) -> None:
    make = lambda: CountGame(length=10**9)  # noqa: E731
    with SubProcVecParallelEnv([make] * 2, n_workers=n_workers, max_episode_steps=3) as vec:
        vec.reset(seed=0)
        zeros = {agent: np.zeros(2, int) for agent in vec.possible_agents}
        for _ in range(2):
            assert not vec.step(zeros)[3]["a_0"].any()
        _, rewards, terminated, truncated, infos = vec.step(zeros)
        assert truncated["a_0"].all()
        assert not terminated["a_0"].any()
        assert rewards["a_1"].tolist() == [3, 3]
        assert infos["episode"]["return"]["a_1"].tolist() == [6, 6]
        assert infos["final_observation"]["a_0"][:, 1].tolist() == [3, 3]


def test_infos_are_kept_as_json_like_values(
    n_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    infos = [{"a_0": {"n": np.int64(t), "x": np.arange(2), "odd": object()}} for t in range(3)]
    script = [
        ({"a_0": one(0)}, ["a_0"]),
        ({"a_0": (one(1), 0.0, False, False)}, ["a_0"]),
        ({"a_0": (one(2), 0.0, True, False)}, []),
    ]
    make = lambda: ScriptGame(script, ("a_0",), infos=infos)  # noqa: E731
    with SubProcVecParallelEnv([make], n_workers=min(n_workers, 1), keep_infos=True) as vec:
        first = vec.reset(seed=0)[1]
        assert first["env_infos"] == [{"a_0": {"n": 0, "x": [0, 1]}}]
        zeros = {"a_0": np.zeros(1, int)}
        assert vec.step(zeros)[4]["env_infos"] == [{"a_0": {"n": 1, "x": [0, 1]}}]
        last = vec.step(zeros)[4]
        assert last["env_infos"][0]["a_0"]["n"] == 0
        assert last["final_infos"][0]["a_0"]["n"] == 2
    assert caplog.text.count("'odd'") == 1


def test_masks_from_infos_appear_when_the_first_one_does(n_workers: int) -> None:
    """Env 0 has masks from step 1, env 1 never: its rows allow everything."""
    mask = np.array([1, 0, 1], np.int8)
    script = [
        ({"a_0": one(0), "a_1": one(0)}, ["a_0", "a_1"]),
        *[
            (
                {"a_0": (one(1), 0.0, False, False), "a_1": (one(1), 0.0, False, False)},
                ["a_0", "a_1"],
            )
        ]
        * 3,
    ]
    infos = [{}, {"a_0": {"action_mask": mask}}, {"a_1": {"active": False}}, {}]
    fns = [
        lambda: ScriptGame(script, ("a_0", "a_1"), infos=infos),
        lambda: ScriptGame(script, ("a_0", "a_1")),
    ]
    with SubProcVecParallelEnv(fns, n_workers=n_workers) as vec:
        assert "action_mask" not in vec.reset(seed=0)[1]
        zeros = {agent: np.zeros(2, int) for agent in vec.possible_agents}
        masks = vec.step(zeros)[4]["action_mask"]
        assert masks["a_0"].tolist() == [[1, 0, 1], [1, 1, 1]]
        assert masks["a_1"].tolist() == [[1, 1, 1], [1, 1, 1]]
        assert masks["a_0"].dtype == np.int8
        infos_2 = vec.step(zeros)[4]
        assert infos_2["active"]["a_1"].tolist() == [False, True]
        assert infos_2["action_mask"]["a_0"].tolist() == [[1, 1, 1], [1, 1, 1]]
        assert vec.step(zeros)[4]["active"]["a_1"].tolist() == [True, True]


def test_masks_from_observations(n_workers: int) -> None:
    space = gym.spaces.Dict(
        {
            "observation": gym.spaces.Box(0, 1, (2,)),
            "action_mask": gym.spaces.Box(0, 1, (2,), np.int8),
        }
    )
    make = lambda: SpaceGame(space, gym.spaces.Discrete(2))  # noqa: E731
    with SubProcVecParallelEnv([make] * 2, n_workers=n_workers) as vec:
        observations, infos = vec.reset(seed=0)
        for agent in vec.possible_agents:
            np.testing.assert_array_equal(
                infos["action_mask"][agent], observations[agent]["action_mask"]
            )
            assert infos["action_mask"][agent].shape == (2, 2)


def test_calls_out_of_order_say_what_to_do(n_workers: int) -> None:
    with SubProcVecParallelEnv([CountGame] * 2, n_workers=n_workers) as vec:
        zeros = {agent: np.zeros(2, int) for agent in vec.possible_agents}
        with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
            vec.step(zeros)
        vec.reset(seed=0)
        with pytest.raises(RuntimeError, match=r"call step_async\(\) first"):
            vec.step_wait()
        vec.step_async(zeros)
        with pytest.raises(RuntimeError, match=r"call step_wait\(\) first"):
            vec.step_async(zeros)
        assert vec.step_wait()[1]["a_0"].tolist() == [1, 1]
        vec.step_async(zeros)
        assert vec.reset(seed=1)[0]["a_0"][:, 1].tolist() == [0, 0]
    vec.close()
    with pytest.raises(ClosedError):
        vec.step(zeros)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"on_crash": "ignore"}, "on_crash to be one of"),
        ({"n_workers": -1}, "n_workers of at least 0"),
        ({"on_nonfinite": "x"}, "on_nonfinite"),
    ],
)
def test_wrong_options(option: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        SubProcVecParallelEnv([CountGame], **option)
    with pytest.raises(ValueError, match="at least one env_fn"):
        SubProcVecParallelEnv([])


@pytest.mark.parametrize("seconds", [0.1, SLICE + 0.05])
def test_the_slowest_worker_is_waited_for_first(seconds: float) -> None:
    """Whichever it is, and when that changes; nobody's answer is lost over it."""

    class Sleepy(CountGame):
        def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
            time.sleep(seconds * (actions["a_0"] == 1))
            return super().step(actions)

    with SubProcVecParallelEnv([Sleepy] * 3, n_workers=3) as vec:
        vec.reset(seed=0)
        for step, slow in enumerate([2, 2, 0, 0, 1], 1):
            actions = {agent: np.eye(3, dtype=int)[slow] for agent in vec.possible_agents}
            observations = vec.step(actions)[0]
            assert observations["a_0"][:, 1].tolist() == [step % 5] * 3
            assert vec._pool._last_number == slow
