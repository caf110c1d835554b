"""Configs: defaults, JSON there and back, and every bad value named."""

import dataclasses
import inspect
import json
import pydoc
import re
from typing import Any

import pytest

from kitae_marl.config.counts import read_count
from kitae_marl.config.described import described
from kitae_marl.config.learner import LearnerConfig
from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import MAX_CONFIG_BYTES, Config
from kitae_marl.errors import ConfigError


def test_json_there_and_back():
    config = Config(
        env_id="mpe/simple_tag-v3",
        env_kwargs={"num_good": 2, "x": [1, None, {"y": 0.5}]},
        seed=7,
        n_workers=0,
        ppo=PPOConfig(hidden_sizes=(32, 16), activation="relu", learning_rate=1e-5, anneal=False),
    )
    text = config.to_json()
    assert Config.from_json(text) == config
    assert Config.from_json(text).ppo.hidden_sizes == (32, 16)
    assert json.loads(text)["ppo"]["learning_rate"] == 1e-5
    assert Config.from_json(Config().to_json()) == Config()


def test_a_part_is_enough():
    assert Config.from_json('{"n_envs": 4, "ppo": {"gamma": 0.5}}').ppo == PPOConfig(gamma=0.5)


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 3


def test_sizes_follow_from_the_settings():
    config = Config(n_envs=4, env_steps=1001, ppo=PPOConfig(n_steps=10))
    assert config.rollout_size == 40
    assert config.n_updates == 26
    assert dataclasses.replace(config, env_steps=1000).n_updates == 25


def test_every_field_has_a_sentence():
    for cls in (Config, PPOConfig):
        body = "".join(inspect.getsource(c) for c in cls.__mro__ if dataclasses.is_dataclass(c))
        for field in dataclasses.fields(cls):
            after = body.split(f"\n    {field.name}:")[1].split("\n")[1]
            assert after.strip().startswith('"""'), field.name


TEXT = {
    "not json": "{",
    "not an object": "[1]",
    "null": "null",
    "unknown key": '{"sed": 1}',
    "unknown key inside": '{"ppo": {"lr": 1}}',
    "ppo is no object": '{"ppo": null}',
    "deep": "[" * 100_000,
    "a number of 5000 digits": '{"seed": ' + "9" * 5000 + "}",
    "a tag of another format": "!!python/object/apply:os.system [id]",
}


@pytest.mark.parametrize("text", TEXT.values(), ids=TEXT)
def test_bad_text_is_a_config_error(text):
    with pytest.raises(ConfigError):
        Config.from_json(text)


def test_unknown_keys_are_named_beside_the_known_ones():
    with pytest.raises(ConfigError, match=r"ppo\.lr: unknown key; .*learning_rate") as caught:
        Config.from_json('{"ppo": {"lr": 1}}')
    assert caught.value.key == "ppo.lr"


def test_size_is_limited():
    padding = " " * MAX_CONFIG_BYTES
    with pytest.raises(ConfigError, match=f"at most {MAX_CONFIG_BYTES} bytes"):
        Config.from_json("{}" + padding)


BAD = [
    ("env_id", ""),
    ("env_id", 3),
    ("env_kwargs", [1]),
    ("seats", ["random"]),
    ("seats", {"player_1": "module:function"}),
    ("seats", {"player_1": "frozen:"}),
    ("seats", {"player_1": None}),
    ("algo", "dqn"),
    ("algo", ["ippo"]),
    ("seed", -1),
    ("seed", 2**31),
    ("seed", 1.0),
    ("seed", True),
    ("n_envs", 0),
    ("n_workers", -1),
    ("env_steps", 0),
    ("env_steps", 10**12),
    ("save_every", "often"),
    ("save_every", 10**19),
    ("max_episode_steps", 10**19),
    ("keep", 0),
    ("keep", 10**19),
    ("keep", "some"),
    ("keep", True),
    ("keep", "every:1k"),
    ("ppo.n_steps", 0),
    ("ppo.n_epochs", 1.5),
    ("ppo.n_minibatches", 3),
    ("ppo.learning_rate", 0.0),
    ("ppo.learning_rate", float("nan")),
    ("ppo.learning_rate", 10**400),
    ("ppo.gamma", 1.01),
    ("ppo.gae_lambda", -0.1),
    ("ppo.clip", 0.0),
    ("ppo.entropy_coef", -1e-9),
    ("ppo.value_coef", float("inf")),
    ("ppo.max_grad_norm", "0.5"),
    ("ppo.anneal", 1),
    ("ppo.normalize_advantage", None),
    ("ppo.hidden_sizes", [64, 0]),
    ("ppo.hidden_sizes", "64"),
    ("ppo.hidden_sizes", 64),
    ("ppo.hidden_sizes", None),
    ("ppo.activation", "gelu"),
    ("ppo.activation", ["tanh"]),
    ("ppo.share_params", "yes"),
]


@pytest.mark.parametrize(("key", "value"), BAD)
def test_bad_values_are_named(key, value):
    section, _, name = key.rpartition(".")
    data = {section: {name: value}} if section else {name: value}
    with pytest.raises(ConfigError, match=r"expected .*, got") as caught:
        Config.from_json(json.dumps(data))
    assert caught.value.key == key
    assert str(caught.value).startswith(f"{key}: ")


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"gru_size": 10**7}, "ppo.gru_size"),
        ({"hidden_sizes": (1,) * 1000}, "ppo.hidden_sizes"),
        ({"agent_id": True, "share_params": False}, "ppo.agent_id"),
        ({"agent_id": True, "share_params": {"*": "independent"}}, "ppo.agent_id"),
    ],
)
def test_settings_that_fill_the_memory_or_do_nothing(settings, key):
    with pytest.raises(ConfigError, match="expected") as caught:
        PPOConfig(**settings)
    assert caught.value.key == key


@pytest.mark.parametrize("text", [None, 3, b"{}", "\ud800"])
def test_configs_that_are_no_text(text):
    with pytest.raises(ConfigError, match="expected a config"):
        Config.from_json(text)


def test_a_run_folder_with_absurdly_many_environments():
    with pytest.raises(ConfigError, match=r"n_envs: expected at most 1048576, got 10{12}\."):
        Config.from_json('{"n_envs": 1000000000000}')


def test_whole_numbers_may_be_floats():
    config = Config(env_steps=1e6, save_every=2e4, keep="every:50k")  # type: ignore[arg-type]
    assert (config.env_steps, type(config.env_steps), config.save_every) == (10**6, int, 20_000)
    assert Config.from_json(config.to_json()) == config


@pytest.mark.parametrize("key", ["save_every", "keep", "env_steps", "seed"])
def test_a_number_that_python_does_not_write_is_named(key):
    with pytest.raises(ConfigError, match=f"{key}: expected .*, got a value of type int too long"):
        Config(**{key: 10**5000})


@pytest.mark.parametrize(
    "text", ["9" * 5000, "", "k", "1.5", "1e-3", "5 M", "1e999", "0x10", "5MM", "five"]
)
def test_what_is_no_whole_number(text):
    with pytest.raises(ValueError, match="expected a whole number such as"):
        read_count(text)


@pytest.mark.parametrize("settings", [Config, PPOConfig, LearnerConfig])
def test_help_explains_every_setting(settings):
    told = inspect.getdoc(settings) or ""
    for field in dataclasses.fields(settings):
        assert re.search(rf"^    {field.name}: [A-Z]", told, re.MULTILINE), field.name
    assert told in pydoc.render_doc(settings, renderer=pydoc.plaintext).replace(" |  ", "")


def test_of_a_class_without_a_source_help_says_what_it_says_itself():
    namespace: dict[str, Any] = {"described": described, "dataclass": dataclasses.dataclass}
    exec("@described\n@dataclass\nclass Typed:\n    'Typed in.'\n    x: int = 1", namespace)
    assert namespace["Typed"].__doc__ == "Typed in."
