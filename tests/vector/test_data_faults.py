"""Games that return what they must not: rows V9 to V12 and V14 of the fault matrix."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from vector_games import BOX, CountGame, ScriptGame, one

from kitae_marl.errors import AgentSetError, EnvDataError
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

pytestmark = pytest.mark.faults

NAN = float("nan")
NAMES = ("a_0", "a_1", "a_2")


class Odd(CountGame):
    """Returns a strange observation, reward or set of keys at time 3 of every episode."""

    def __init__(
        self,
        observation: Any = None,
        reward: Any = None,
        drop: str = "",
        at: int = 3,
        space: gym.Space | None = None,
        seeds: range = range(10**10),
    ) -> None:
        super().__init__(length=6, space=space or gym.spaces.Box(-1e6, 1e6, (5,), np.float32))
        self.odd, self.reward, self.drop, self.at, self.seeds = observation, reward, drop, at, seeds

    def observe(self, last: int = 0) -> dict[str, Any]:
        leaf = np.full(5, self.t, np.float32)
        if isinstance(self.space, gym.spaces.Dict):
            return {agent: {"x": leaf, "y": 1} for agent in self.agents}
        return dict.fromkeys(self.agents, leaf)

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        result = super().step(actions)
        if self.t == self.at and self.seed in self.seeds:
            if self.odd is not None:
                result[0]["a_1"] = self.odd[0]
            if self.reward is not None:
                result[1]["a_1"] = self.reward[0]
            if self.drop:
                del result[["observation", "reward", "termination"].index(self.drop)]["a_1"]
        return result


def play(vec: SubProcVecParallelEnv, n_steps: int) -> list[tuple]:
    """Reset and step with zeros; return copies of rewards and flags."""
    vec.reset(seed=0)
    zeros = {agent: np.zeros(vec.num_envs, int) for agent in vec.possible_agents}
    return [vec.step(zeros) for _ in range(n_steps)]


@pytest.mark.parametrize(
    ("options", "field", "got"),
    [
        ({"observation": [np.zeros(4, np.float32)]}, "observation", "shape (4,)"),
        ({"observation": [np.zeros((5, 1), np.float32)]}, "observation", "shape (5, 1)"),
        ({"observation": [np.zeros((1, 5), np.float32)]}, "observation", "shape (1, 5)"),
        ({"observation": [1.5]}, "observation", "shape ()"),
        ({"observation": [np.zeros(5, np.complex64)]}, "observation", "complex64"),
        ({"observation": [[1, "a", 2, 3, 4]]}, "observation", "list"),
        ({"observation": [None]}, "observation", "None"),
        ({"drop": "observation"}, "observation", "no such key"),
        ({"drop": "reward"}, "reward", "no such key"),
        ({"drop": "termination"}, "termination", "no such key"),
        ({"reward": [None]}, "reward", "None"),
        ({"reward": [np.zeros(2)]}, "reward", "shape (2,)"),
        ({"reward": ["1.0"]}, "reward", "str"),
        ({"observation": [np.full(5, NAN, np.float32)]}, "observation", "nan"),
        ({"observation": [np.full(5, 1e300)]}, "observation", "inf"),
        ({"reward": [float("inf")]}, "reward", "inf"),
        ({"reward": [NAN]}, "reward", "nan"),
        ({"observation": [np.full(5, 2e6, np.float32)]}, "observation", "2000000.0"),
    ],
)
def test_v9_to_v11_are_named(options: dict[str, Any], field: str, got: str) -> None:
    """The in-process vector is the same code; a process is tried below."""
    fns = [Odd, lambda: Odd(**options)]
    with SubProcVecParallelEnv(fns, n_workers=0, strict_bounds=True) as vec:
        play(vec, 2)
        zeros = {agent: np.zeros(2, int) for agent in vec.possible_agents}
        with pytest.raises(EnvDataError) as caught:
            vec.step(zeros)
    error = caught.value
    assert (error.env_index, error.phase, error.agent) == (1, "step", "a_1")
    assert error.field == field
    assert got in error.got
    assert error.expected in str(error)
    assert str(error).startswith(f"env 1 (pid {error.pid}, step 3 of its episode, seed 1): ")


def test_v9_lengths_that_only_add_up_are_named() -> None:
    class Uneven(CountGame):
        def observe(self, last: int = 0) -> dict[str, Any]:
            return {"a_0": np.zeros(4, np.float32), "a_1": np.zeros(6, np.float32)}

    with (
        SubProcVecParallelEnv(
            [lambda: Uneven(space=gym.spaces.Box(-1, 1, (5,)))], n_workers=0
        ) as vec,
        pytest.raises(EnvDataError, match=r"'a_0': expected an array of shape \(5,\)") as caught,
    ):
        vec.reset(seed=0)
    assert "shape (4,)" in caught.value.got


def test_v9_in_a_process_and_reset_afterwards() -> None:
    fns = [lambda: Odd(observation=[np.zeros(4, np.float32)], seeds=range(5))] * 2
    with SubProcVecParallelEnv(fns, n_workers=1) as vec:
        with pytest.raises(EnvDataError, match=r"(?s)env 0 .*Also failed:\nand 1 more"):
            play(vec, 3)
        vec.reset(seed=10)
        zeros = {agent: np.zeros(2, int) for agent in vec.possible_agents}
        assert vec.step(zeros)[0]["a_1"][1].tolist() == [1] * 5


@pytest.mark.parametrize(
    "value",
    [
        np.arange(5),
        [0, 1, 2, 3, 4],
        np.arange(5, dtype=np.float64),
        np.arange(5, dtype=np.uint8),
    ],
)
def test_v9_casts_of_the_same_kind_are_fine(value: Any) -> None:
    with SubProcVecParallelEnv([lambda: Odd(observation=[value])], n_workers=0) as vec:
        assert play(vec, 3)[-1][0]["a_1"][0].tolist() == [0, 1, 2, 3, 4]


def test_v9_nested_observations() -> None:
    space = gym.spaces.Dict({"x": gym.spaces.Box(-9, 9, (5,)), "y": gym.spaces.Discrete(2)})
    for odd, field in (({"x": np.zeros(4), "y": 1}, "['x']"), ({"x": np.zeros(5)}, "['y']")):
        with (
            SubProcVecParallelEnv([lambda o=odd: Odd([o], space=space)], n_workers=0) as vec,
            pytest.raises(EnvDataError, match="agent 'a_1'") as caught,
        ):
            play(vec, 3)
        assert caught.value.field == f"observation{field}"


IMAGE = gym.spaces.Box(0, 9, (80, 80), np.uint8)


@pytest.mark.parametrize("space", [BOX, gym.spaces.Box(0, 10**6, (80, 80), np.int32)])
def test_first_observations_of_few_among_many_are_gathered_and_checked(space: gym.Space) -> None:
    """Where few of many environments begin anew, only theirs are gathered again."""

    class Told(CountGame):
        def observe(self, last: int = 0) -> dict[str, Any]:
            value = np.full(space.shape or (), self.t + 10 * self.n_resets, space.dtype)
            if self.length == 9 and self.n_resets == 3 and self.t == 0:
                value = value[:3]
            return {agent: value + i for i, agent in enumerate(self.agents)}

    fns = [lambda i=i: Told(length=3 + i, space=space) for i in range(8)]
    with SubProcVecParallelEnv(fns, n_workers=0) as vec:
        vec.reset(seed=0)
        zeros = {agent: np.zeros(8, int) for agent in vec.possible_agents}
        for step in range(1, 18):
            got = vec.step(zeros)[0]
            resets, times = np.divmod(step, np.arange(3, 11))
            for i, agent in enumerate(vec.possible_agents):
                told = got[agent].reshape(8, -1)
                np.testing.assert_array_equal(told[:, 0], 10 * (resets + 1) + times + i)
                assert (told == told[:, :1]).all()
        with pytest.raises(EnvDataError, match="env 6 ") as caught:
            vec.step(zeros)
    assert (caught.value.env_index, caught.value.phase) == (6, "reset")


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (np.zeros((80, 81), np.uint8), "shape (80, 81)"),
        (np.zeros((80, 80), np.float32), "float32"),
        (np.full((80, 80), 10, np.uint8), "10 at [0, 0]"),
        (np.zeros((80, 80), np.bool_), ""),
    ],
)
def test_v9_to_v11_images(image: np.ndarray, got: str) -> None:
    """Large observations are not copied twice; they go another way."""

    class Camera(Odd):
        def observe(self, last: int = 0) -> dict[str, Any]:
            return dict.fromkeys(self.agents, np.full(IMAGE.shape, self.t, np.uint8))

    fns = [lambda: Camera([image], space=IMAGE)]
    with SubProcVecParallelEnv(fns, n_workers=0, strict_bounds=True) as vec:
        play(vec, 2)
        zeros = {agent: np.zeros(1, int) for agent in vec.possible_agents}
        if not got:
            assert not vec.step(zeros)[0]["a_1"].any()
            return
        with pytest.raises(EnvDataError) as caught:
            vec.step(zeros)
    assert got in caught.value.got


def test_v10_in_the_first_observation(n_workers: int) -> None:
    class Blank(CountGame):
        def observe(self, last: int = 0) -> dict[str, Any]:
            return dict.fromkeys(self.agents, np.full(4, NAN, np.float32))

    with (
        SubProcVecParallelEnv([Blank], n_workers=n_workers, on_nonfinite="truncate") as vec,
        pytest.raises(EnvDataError, match="finite") as caught,
    ):
        vec.reset(seed=0)
    assert caught.value.phase == "reset"


@pytest.mark.parametrize(
    "options",
    [
        {"observation": [np.full(5, NAN, np.float32)]},
        {"reward": [float("-inf")]},
        {"observation": [np.full(5, 1e300)]},
    ],
)
def test_v10_truncate(options: dict[str, Any], n_workers: int) -> None:
    fns = [Odd, lambda: Odd(**options)]
    with SubProcVecParallelEnv(fns, n_workers=n_workers, on_nonfinite="truncate") as vec:
        play(vec, 2)
        zeros = {agent: np.zeros(2, int) for agent in vec.possible_agents}
        observations, rewards, terminated, truncated, infos = vec.step(zeros)
        assert [observations[a][:, 0].tolist() for a in ("a_0", "a_1")] == [[3, 0], [3, 0]]
        assert rewards["a_1"].tolist() == [3, 0]
        assert truncated["a_0"].tolist() == [False, True]
        assert not terminated["a_0"].any()
        assert infos["_final_observation"].tolist() == [False, True]
        assert infos["final_observation"]["a_1"][1].tolist() == [2] * 5
        assert not infos["_episode"].any()
        assert vec.metrics["faults/nonfinite"] == 1
        assert "worker_restarted" not in infos
        assert vec.step(zeros)[0]["a_0"][:, 0].tolist() == [4, 1]


NARROW = gym.spaces.Box(-1e6, 3, (5,), np.float32)  # times 4 and 5 of an episode are outside


def test_v11_bounds(n_workers: int, caplog: pytest.LogCaptureFixture) -> None:
    with (
        SubProcVecParallelEnv(
            [lambda: Odd(space=NARROW)], n_workers=n_workers, strict_bounds=True
        ) as vec,
        pytest.raises(EnvDataError, match=r"expected values in \[-1000000.0, 3.0\], got 4.0 at"),
    ):
        play(vec, 5)
    with SubProcVecParallelEnv([lambda: Odd(space=NARROW)] * 2, n_workers=n_workers) as vec:
        assert vec.metrics["faults/out_of_bounds"] == 0
        observations = play(vec, 20)[-1][0]
        assert vec.metrics["faults/out_of_bounds"] == 2 * 2 * 3
        assert observations["a_0"][:, 0].tolist() == [2, 2]
    (said,) = (text for text in caplog.messages if "out_of_bounds" in text)
    assert "env " in said
    assert (
        "observation of agent 'a_0': expected values in [-1000000.0, 3.0], got 4.0 at [0]" in said
    )
    assert "strict_bounds raises (said once)" in said


def test_v11_is_looked_at_again_every_1000th_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kitae_marl.vector.stepping.inspection.BOUNDED_STEPS", 2)
    with SubProcVecParallelEnv([lambda: Odd(space=NARROW)], n_workers=0) as vec:
        play(vec, 999)
        assert vec.metrics["faults/out_of_bounds"] == 0
        vec.step({agent: np.zeros(1, int) for agent in vec.possible_agents})  # at time 4
        assert vec.metrics["faults/out_of_bounds"] == 1
    strict = SubProcVecParallelEnv([lambda: Odd(space=NARROW)], n_workers=0, strict_bounds=True)
    with strict, pytest.raises(EnvDataError, match=r"step 4 of its episode.* expected values in"):
        play(strict, 4)


def test_v11_of_a_first_observation(caplog: pytest.LogCaptureFixture) -> None:
    space = gym.spaces.Box(1, 1e6, (5,), np.float32)  # time 0 is outside
    with SubProcVecParallelEnv([lambda: Odd(space=space)], n_workers=0) as vec:
        play(vec, 6)
        assert vec.metrics["faults/out_of_bounds"] == 2
    assert len(caplog.messages) == 1


def row(value: float, reward: float, terminated: bool = False, truncated: bool = False) -> tuple:
    """What a step of a script returns for one agent."""
    return one(value), reward, terminated, truncated


DEATHS = [
    ({a: one(10) for a in NAMES}, NAMES),
    ({"a_0": row(11, 1), "a_1": row(12, 2, True), "a_2": row(13, 3)}, ["a_0", "a_2"]),
    ({"a_0": row(21, 1), "a_2": row(23, 3)}, ["a_0", "a_2"]),
    ({"a_0": row(31, 1, True), "a_2": row(33, 3, False, True)}, []),
]


def trace(script: list, n_steps: int, n_workers: int, **options: Any) -> list[dict[str, Any]]:
    """Play a script and write down everything, by step."""
    with SubProcVecParallelEnv([lambda: ScriptGame(script)], n_workers=n_workers, **options) as vec:
        observations, infos = vec.reset(seed=0)
        table = [{"obs": _row(observations), "active": _row(infos["active"])}]
        for _ in range(n_steps):
            values = vec.step({agent: np.zeros(1, int) for agent in NAMES})
            entry = dict(zip(("obs", "reward", "term", "trunc"), map(_row, values), strict=False))
            entry["active"] = _row(values[4]["active"])
            if "_final_observation" in values[4]:
                entry["final"] = _row(values[4]["final_observation"])
                entry["return"] = _row(values[4]["episode"]["return"])
                entry["length"] = _row(values[4]["episode"]["length"])
            table.append(entry)
    return table


def _row(values: dict[str, np.ndarray]) -> list[Any]:
    return [np.ravel(values[agent])[0].item() for agent in NAMES]


def test_v12_agents_die_one_by_one(n_workers: int) -> None:
    table = trace(DEATHS, 4, n_workers)
    no, yes = False, True
    assert table[1] == {
        "obs": [11, 12, 13],
        "reward": [1, 2, 3],
        "term": [no, yes, no],
        "trunc": [no] * 3,
        "active": [yes, no, yes],
    }
    assert table[2] == {
        "obs": [21, 0, 23],
        "reward": [1, 0, 3],
        "term": [no] * 3,
        "trunc": [no] * 3,
        "active": [yes, no, yes],
    }
    assert table[3] == {
        "obs": [10, 10, 10],
        "reward": [1, 0, 3],
        "term": [yes, no, no],
        "trunc": [no, no, yes],
        "active": [yes] * 3,
        "final": [31, 0, 33],
        "return": [3, 2, 9],
        "length": [3, 1, 3],
    }
    assert table[4]["obs"] == [11, 12, 13]


def test_v12_agents_join_and_wait(n_workers: int) -> None:
    script = [
        ({"a_0": one(10)}, ["a_0"]),
        ({"a_0": row(11, 1), "a_2": row(13, 5)}, ["a_0", "a_2"]),
        ({"a_0": row(21, 1, True), "a_2": row(23, 5)}, ["a_2"]),
        ({"a_2": row(33, 5, True)}, []),
    ]
    table = trace(script, 3, n_workers)
    assert [entry["active"] for entry in table] == [
        [True, False, False],
        [True, False, True],
        [False, False, True],
        [True, False, False],
    ]
    assert [entry["obs"] for entry in table] == [[10, 0, 0], [11, 0, 13], [21, 0, 23], [10, 0, 0]]
    assert table[3]["return"] == [2, 0, 15]
    assert table[3]["length"] == [2, 0, 2]


def test_v12_an_agent_that_vanishes_is_terminated_and_named_once(
    n_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    script = [
        ({a: one(10) for a in NAMES}, NAMES),
        ({"a_0": row(11, 1), "a_2": row(13, 3)}, ["a_0", "a_2"]),  # a_1: gone from everything
        ({"a_0": row(21, 1), "a_2": row(23, 3)}, []),  # the rest: only from env.agents
    ]
    table = trace(script, 4, n_workers)
    assert table[1]["term"] == [False, True, False]
    assert table[1]["obs"] == [11, 0, 13]
    assert table[2]["term"] == [True, False, True]
    assert table[2]["final"] == [21, 0, 23]
    assert table[3]["term"] == [False, True, False]
    assert caplog.text.count("'a_1' left env.agents") == 1


def test_v12_flagged_agents_that_stay_listed_do_not_keep_the_game_alive(n_workers: int) -> None:
    script = [
        ({a: one(10) for a in NAMES}, NAMES),
        ({a: row(11, 1, True) for a in NAMES}, NAMES),
    ]
    table = trace(script, 2, n_workers)
    assert table[1]["final"] == [11] * 3
    assert table[2]["final"] == [11] * 3


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ([*DEATHS[:2], ({a: row(1, 1) for a in NAMES}, NAMES)], r"'a_1' left the game .* is back"),
        ([DEATHS[0], ({**{a: row(1, 1) for a in NAMES}, "x": row(1, 1)}, NAMES)], r"got 'x'; list"),
        ([DEATHS[0], ({a: row(1, 1) for a in NAMES}, [*NAMES, "y"])], "got 'y'"),
        ([({"a_0": one(1), "z": one(1)}, NAMES)], "got 'z'"),
        ([({}, [])], "at least one agent after reset"),
    ],
)
def test_v12_agents_that_must_not_be_named(script: list, text: str, n_workers: int) -> None:
    with pytest.raises(AgentSetError, match=text) as caught:
        trace(script, 2, n_workers)
    assert caught.value.env_index == 0


def test_v12_masks_of_the_dead_are_zero(n_workers: int) -> None:
    infos: list[dict] = [{a: {"action_mask": np.ones(3, np.int8)} for a in NAMES}] * 4
    with SubProcVecParallelEnv(
        [lambda: ScriptGame(DEATHS, infos=infos)], n_workers=n_workers
    ) as vec:
        vec.reset(seed=0)
        zeros = {agent: np.zeros(1, int) for agent in NAMES}
        masks = vec.step(zeros)[4]["action_mask"]
        assert [int(masks[a].sum()) for a in NAMES] == [3, 0, 3]
        vec.step(zeros)
        assert [int(masks[a].sum()) for a in NAMES] == [3, 0, 3]
        vec.step(zeros)
        assert [int(masks[a].sum()) for a in NAMES] == [3, 3, 3]


def test_a_mask_of_the_wrong_form_is_named(n_workers: int) -> None:
    infos = [{"a_0": {"action_mask": np.ones(4, np.int8)}}]
    with (
        SubProcVecParallelEnv(
            [lambda: ScriptGame(DEATHS, infos=infos)], n_workers=n_workers
        ) as vec,
        pytest.raises(EnvDataError, match="expected 3 numbers 0 or 1") as caught,
    ):
        vec.reset(seed=0)
    assert caught.value.field == "action_mask"


def test_v14_an_endless_episode_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("kitae_marl.vector.stepping.collector.LONG_EPISODE", 50)
    with SubProcVecParallelEnv([lambda: CountGame(10**9)] * 2, n_workers=0) as vec:
        play(vec, 120)
        assert vec.metrics["episode/running_steps_max"] == 120
        assert vec.metrics["episode/running_return_mean"] == 120 * 121 / 2
    assert [text in caplog.text for text in ("env 0", "env 1")] == [True, True]
    assert caplog.text.count("give max_episode_steps") == 2


def test_bad_data_raises_no_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with SubProcVecParallelEnv(
            [lambda: Odd(observation=[np.full(5, 1e300)])], n_workers=0, on_nonfinite="truncate"
        ) as vec:
            play(vec, 12)
