"""Wrappers by name, and pictures made small: what an agent sees, and what is refused."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from pettingzoo import ParallelEnv

from kitae_marl import make_parallel_env, make_vec_env
from kitae_marl.config.run import Config
from kitae_marl.config.wrapping import imports_wrappers, parse_wrapper
from kitae_marl.errors import ConfigError
from kitae_marl.vector.adapters.pictures import Pictures, wrapped, wrappers_for


class Screen(ParallelEnv[str, Any, Any]):
    """Two players see one picture, drawn into one array: all its pixels have the step's number."""

    metadata = {"name": "screen"}  # noqa: RUF012

    def __init__(self, shape: tuple[int, ...] = (6, 4, 3), length: int = 10) -> None:
        self.possible_agents, self.shape, self.length = ["a_0", "a_1"], shape, length
        self.picture = np.zeros(shape, np.uint8)
        self.space, self.actions = gym.spaces.Box(0, 255, shape, np.uint8), gym.spaces.Discrete(2)

    def observation_space(self, agent: str) -> gym.Space[Any]:
        return self.space

    def action_space(self, agent: str) -> gym.Space[Any]:
        return self.actions

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.agents, self.t = self.possible_agents[:], 0
        self.picture[:] = 0
        return dict.fromkeys(self.agents, self.picture), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        agents, self.t = self.agents, self.t + 1
        self.picture[:] = 10 * self.t if self.t != 3 else 5  # the third one flickers
        ended = self.t >= self.length
        self.agents = [] if ended else agents
        return (
            dict.fromkeys(agents, self.picture),
            dict(zip(agents, (1.0, -1.0), strict=True)),
            dict.fromkeys(agents, ended),
            dict.fromkeys(agents, False),
            {agent: {} for agent in agents},
        )


def play(env: Any) -> Any:
    return env.step(dict.fromkeys(env.agents, 0))


class TestPictures:
    def test_a_step_is_several_and_the_past_is_seen(self):
        env = Pictures(Screen(), 3, 2, stack=3, skip=2)
        seen, _ = env.reset()
        assert seen["a_0"].shape == (3, 2, 3)
        assert env.observation_space("a_0").contains(seen["a_0"])
        seen, rewards, *_ = play(env)
        assert rewards == {"a_0": 2.0, "a_1": -2.0}
        assert seen["a_1"][0, 0].tolist() == [0, 0, 20]
        seen = play(env)[0]
        assert seen["a_0"][0, 0].tolist() == [0, 20, 40]  # of 5 and 40 the larger

    def test_what_flickers_is_seen(self):
        env = Pictures(Screen(), 3, 2, stack=1, skip=3)
        env.reset()
        assert play(env)[0]["a_0"][0, 0, 0] == 20  # of 20 and 5

    def test_the_end_of_an_episode_ends_the_repetition(self):
        env = Pictures(Screen(length=3), 3, 2, skip=2)
        env.reset()
        play(env)
        _, rewards, terminated, *_ = play(env)
        assert rewards["a_0"] == 1.0
        assert terminated["a_0"]
        assert not env.agents
        assert env.reset()[0]["a_0"].max() == 0  # nothing of the last episode is left

    def test_a_pixel_is_the_mean_of_its_area_and_grey(self):
        env = Pictures(Screen(), 3, 2, stack=1)
        picture = np.random.default_rng(0).integers(0, 256, (6, 4, 3)).astype(np.uint8)
        small = env._small(picture)[..., 0]
        grey = picture @ np.array([0.299, 0.587, 0.114])
        expected = grey.reshape(3, 2, 2, 2).mean(axis=(1, 3))
        assert np.abs(small - expected).max() <= 0.51

    def test_colours_stay_where_they_are_asked_for(self):
        env = Pictures(Screen(), 4, 3, stack=2, grey=False)  # 6 rows are not a multiple of 4
        assert env.reset()[0]["a_0"].shape == (4, 3, 6)
        picture = np.zeros((6, 4, 3), np.uint8)
        picture[..., 1] = 200
        assert env._small(picture)[0, 0].tolist() == [0, 200, 0]

    def test_it_is_a_parallel_environment(self):
        with warnings.catch_warnings():  # of PettingZoo's own imports
            warnings.simplefilter("ignore")
            from pettingzoo.test import parallel_api_test
        parallel_api_test(Pictures(Screen(), 3, 2, skip=3), num_cycles=30)

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ({"height": 7}, "at most the game's 6 x 4"),
            ({"skip": 0}, "expected skip to be a whole number above 0, got 0"),
            ({"stack": 1.5}, "expected stack"),
        ],
    )
    def test_numbers_out_of_range_are_refused(self, arguments, expected):
        with pytest.raises(ValueError, match=expected):
            Pictures(Screen(), **{"height": 3, "width": 2, **arguments})

    def test_what_is_no_picture_is_refused(self):
        with pytest.raises(TypeError, match=r"expected pictures, .* 'a_0' sees"):
            Pictures(Screen((6, 4)), 3, 2)


class TestWrap:
    def test_wrappers_are_put_around_in_their_order(self):
        env = wrapped(Screen(), ["pictures:3,2,stack=1", "supersuit.frame_stack_v1:4"])
        assert env.observation_space("a_0").shape == (3, 2, 4)

    def test_in_workers_too(self):
        env = make_vec_env(
            "mpe/simple_spread-v3", 2, n_workers=1, wrap=["supersuit.delay_observations_v0:2"]
        )
        delayed, _ = env.reset(seed=0)
        assert not np.any(delayed["agent_0"])
        env.close()

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("picture:3,2", "expected pictures:84,84 or module.name"),
            ("pictures:3,,2", "expected pictures:84,84"),
            ("pictures:skip=2,3", "expected pictures:84,84"),
            ("supersuit.nothing:3", "cannot import name"),
            ("pictures:300,2", "at most the game's 6 x 4"),
            ("pictures:a", "height"),
            ("json.dumps", "takes this game"),
        ],
    )
    def test_what_is_no_wrapper_is_refused(self, text, expected):
        with pytest.raises(ConfigError, match=expected):
            wrapped(Screen(), [text])

    @pytest.mark.parametrize("wrap", ["pictures:3,2", None, [3]])
    def test_a_list_is_expected(self, wrap):
        for make in (make_parallel_env, lambda id, wrap: make_vec_env(id, 2, wrap=wrap)):
            with pytest.raises(ConfigError, match=r"wrap: expected"):
                make("classic/rps-v2", wrap=wrap)

    def test_a_pool_takes_none(self):
        with pytest.raises(ConfigError, match="EnvPool steps"):
            make_vec_env("envpool:Pong-v5", 2, wrap=["pictures:84,84"])

    def test_a_config_keeps_them_and_they_need_python(self):
        config = Config(wrap=["supersuit.clip_reward_v0"])
        assert config.needs_python
        assert Config.from_json(config.to_json()).wrap == ("supersuit.clip_reward_v0",)
        with pytest.raises(ConfigError, match="wrap: expected nothing with the compiled"):
            Config(wrap=("supersuit.clip_reward_v0",), backend="compiled")

    def test_whose_code_is_imported_unasked(self):
        given = ["pictures:3,2", "supersuit.clip_reward_v0", "mine.Wrapper:3"]
        assert imports_wrappers(given) == ["mine.Wrapper:3"]

    def test_values(self):
        _, args, kwargs = parse_wrapper("mine.Wrapper:1,B,true,x=null,y=a b")
        assert (args, kwargs) == ([1, "B", True], {"x": None, "y": "a b"})

    def test_one_game_by_id(self):
        env = make_parallel_env("mpe/simple_spread-v3", wrap=["supersuit.frame_stack_v1:2"])
        assert env.observation_space("agent_0").shape == (36,)


class TestAdvice:
    def test_only_single_pictures_get_some(self):
        numbers = gym.spaces.Box(0, 1, (3,))
        small, stacked = (gym.spaces.Box(0, 255, (42, 99, n), np.uint8) for n in (1, 4))
        assert wrappers_for([small]) == ("pictures:42,84",)
        assert wrappers_for([small, numbers]) == wrappers_for([stacked]) == wrappers_for([]) == ()
