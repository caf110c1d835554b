"""Exported policies act as the agent does, on 1,000 observations of every kind, in NumPy alone."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import jax
import numpy as np
import pytest
from gymnasium import spaces
from scipy.stats import norm

from kitae_marl.algos.ppo.learner import make_learner
from kitae_marl.algos.ppo.units import Units
from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.data.spaces import Leaf, leaves
from kitae_marl.data.stacking import map_leaves, mask_in, without_mask
from kitae_marl.evaluation.export import SOURCE, export_policy
from kitae_marl.runs.agent import Agent
from kitae_marl.types import TrainState

pytestmark = pytest.mark.usefixtures("quickest_compilation")


def box(low: list, high: list) -> spaces.Box:
    return spaces.Box(np.array(low, np.float32), np.array(high, np.float32))


N = 1000
BOX = spaces.Box(-np.inf, np.inf, (5,), np.float32)
IMAGE = spaces.Box(0, 255, (8, 9, 3), np.uint8)
MIXED = spaces.Dict(
    b=spaces.Tuple([spaces.Discrete(3, start=2), spaces.MultiBinary(4), BOX]),
    a=spaces.MultiDiscrete([2, 3], start=[1, 0]),
    image=IMAGE,
    bytes=spaces.Box(0, 255, (3,), np.uint8),
)
MASKED = spaces.Dict(observation=BOX, action_mask=spaces.Box(0, 1, (6,), np.int8))
FOUR = spaces.Discrete(4, start=1)
PARTS = spaces.Dict(
    move=FOUR,
    aim=spaces.Tuple([box([-2.0, 0.5], [1.0, 0.75]), spaces.MultiBinary(2)]),
    level=spaces.Box(-1, 2, (2,), np.int8),
    flags=spaces.Box(0, 1, (2,), np.bool_),
)
MASKED_PARTS = spaces.Tuple(
    [spaces.Discrete(2), box([0.0], [1.0]), spaces.MultiDiscrete([2, 2]), spaces.MultiBinary(2)]
)

CASES: dict[str, tuple[spaces.Space, spaces.Space, dict[str, Any]]] = {
    "mlp": (BOX, FOUR, {}),
    "relu, independent": (BOX, FOUR, {"activation": "relu", "share_params": False}),
    "no hidden layer": (BOX, FOUR, {"hidden_sizes": ()}),
    "small image": (IMAGE, FOUR, {}),
    "two images": (spaces.Tuple([IMAGE, spaces.Box(0, 255, (5, 4, 1), np.uint8)]), FOUR, {}),
    "large image": (spaces.Box(0, 255, (40, 37, 2), np.uint8), FOUR, {}),
    "mixed": (MIXED, FOUR, {}),
    "mixed, normalised": (MIXED, FOUR, {"normalize_observation": True}),
    "normalised, independent": (
        BOX,
        FOUR,
        {"normalize_observation": True, "share_params": False},
    ),
    "names like ours": (  # the file has bounds of actions, too
        spaces.Dict({"bounds": BOX, "bound/low": BOX}),
        box([-2.0, 0.5], [1.0, 0.75]),
        {"normalize_observation": True, "share_params": False},
    ),
    "agent ids": (BOX, FOUR, {"agent_id": True}),
    "mask": (MASKED, spaces.Discrete(6), {}),
    "masked parts": (MASKED, spaces.MultiDiscrete([4, 2], start=[1, 3]), {}),
    "bits": (BOX, spaces.MultiBinary([2, 2]), {}),
    "continuous": (BOX, box([-2.0, 0.5], [1.0, 0.75]), {}),
    "half open": (BOX, box([[-np.inf], [0.0]], [[1.0], [np.inf]]), {}),
    "integers": (BOX, spaces.Box(np.array([[-1], [3]]), np.array([[1], [7]]), dtype=np.int16), {}),
    "a table of choices": (BOX, spaces.MultiDiscrete([[2, 3], [4, 2]]), {}),
    "parts": (BOX, PARTS, {"share_params": False}),
    "parts in a mask": (MASKED, MASKED_PARTS, {}),
    "gru": (BOX, FOUR, {"gru_size": 6}),
    "gru, independent": (BOX, FOUR, {"gru_size": 6, "share_params": False}),
}


class Spaces:
    """Agents and spaces, no game."""

    possible_agents = ("cat_0", "cat_1", "dog_0")

    def __init__(self, observation: gym.Space, action: gym.Space) -> None:
        self._spaces = observation, action

    def observation_space(self, agent: str) -> gym.Space:
        return self._spaces[0] if agent != "dog_0" else BOX

    def action_space(self, agent: str) -> gym.Space:
        return self._spaces[1] if agent != "dog_0" else spaces.Discrete(9)


def make_agent(observation: gym.Space, action: gym.Space, settings: dict[str, Any]) -> Agent:
    """Make an agent whose parameters and moments are random, so that actions differ."""
    settings = {"hidden_sizes": (7, 6), **settings}
    agent = Agent(Spaces(observation, action), Config(ppo=PPOConfig(**settings)))
    generator = np.random.default_rng(0)

    def shaken(x: Any) -> Any:
        if not np.issubdtype(x.dtype, np.floating):
            return x
        return np.asarray(x) + 0.3 * generator.standard_normal(x.shape, np.float32)

    def shaken_state(state: TrainState) -> TrainState:
        moments = jax.tree.map(lambda x: abs(shaken(x)) + 0.1, state.moments)  # variances, too
        return state._replace(params=jax.tree.map(shaken, state.params), moments=moments)

    agent.state = {name: shaken_state(state) for name, state in agent.state.items()}
    return agent


def draw(space: gym.Space) -> Any:
    """Draw 1,000 observations, stacked."""
    space.seed(1)
    samples = [space.sample() for _ in range(N)]
    for sample in samples:
        if isinstance(sample, dict) and "action_mask" in sample:
            sample["action_mask"][:1] = 1  # something is allowed in both parts
            sample["action_mask"][-1:] = 1
    return map_leaves(lambda *xs: np.stack(xs), samples[0], *samples[1:])


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("exported", path.with_suffix(".py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Policy(path)


SLOW = ("two images", "large image")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.slow) if c in SLOW else c for c in CASES]
)
def test_it_acts_as_the_agent_does(tmp_path, case):
    observation_space, action_space, settings = CASES[case]
    agent = make_agent(observation_space, action_space, settings)
    export_policy(agent, tmp_path / "policy.npz")
    policy = load(tmp_path / "policy.npz")
    assert policy.agents == ["cat_0", "cat_1", "dog_0"]
    space = {
        name: Spaces(observation_space, action_space).observation_space(name)
        for name in policy.agents
    }
    observations = {name: draw(space[name]) for name in policy.agents}
    varied = False
    infos = {"_final_observation": np.zeros(N, bool)}
    for step in range(3 if settings.get("gru_size") else 1):
        expected = agent.select_action(observations, infos if step else {})
        for name in policy.agents:
            got = policy.act(name, observations[name])
            acted = Spaces(observation_space, action_space).action_space(name)
            for leaf in leaves(acted):
                own, theirs = leaf.of(got), leaf.of(expected[name])
                assert own.shape == theirs.shape
                if leaf.dtype.kind == "f":
                    np.testing.assert_allclose(own, theirs, rtol=1e-5, atol=1e-5)
                else:
                    assert (own == theirs).mean() >= 0.999  # but for ties to the last bit
                varied |= len(np.unique(own)) > 1
    assert varied


def log_prob_of(leaf: Leaf, probabilities: Any, action: np.ndarray) -> Any:
    """Log-probability of one array of actions by what the exported policy says of it."""
    if isinstance(probabilities, dict):
        low, high = leaf.low.ravel(), leaf.high.ravel()
        mean, deviation, x = (
            np.asarray(part).reshape(len(action), -1)
            for part in (probabilities["mean"], probabilities["deviation"], action)
        )
        tail, head = norm.logcdf((low - mean) / deviation), norm.logsf((high - mean) / deviation)
        each = np.where(x <= low, tail, np.where(x >= high, head, norm.logpdf(x, mean, deviation)))
        return each.sum(axis=-1)
    if leaf.binary:
        each = np.log(np.where(action > 0, probabilities, 1 - probabilities))
        return each.reshape(len(action), -1).sum(axis=-1)
    first = np.broadcast_to(leaf.low, leaf.shape).ravel()
    index = action.reshape(len(action), -1).astype(int) - first
    parts = probabilities if isinstance(probabilities, tuple) else (probabilities,)
    chosen = [np.take_along_axis(p, i[:, None], -1) for p, i in zip(parts, index.T, strict=True)]
    return np.log(np.concatenate(chosen, axis=-1)).sum(axis=-1)


def of_path(value: Any, path: tuple) -> Any:
    for key in path:
        value = value[key]
    return value


SAID: dict[str, tuple[spaces.Space, spaces.Space, dict[str, Any]]] = {
    "relu, independent": (BOX, FOUR, {"activation": "relu", "share_params": False}),
    "small image": CASES["small image"],
    "mixed, normalised": CASES["mixed, normalised"],
    "trunk, ids": (BOX, PARTS, {"shared_trunk": True, "agent_id": True}),
    "units of rewards": (BOX, box([-2.0, 0.5], [1.0, 0.75]), {"normalize_return": False}),
    "mask": CASES["mask"],
    "a table of choices": CASES["a table of choices"],
    "gru": CASES["gru"],
    "gru, trunk, independent": (
        BOX,
        FOUR,
        {"gru_size": 6, "shared_trunk": True, "share_params": False},
    ),
}

RARELY_SAID = ("small image", "mixed, normalised", "a table of choices", "gru, trunk, independent")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.slow) if c in RARELY_SAID else c for c in SAID]
)
def test_it_says_probabilities_and_values_as_the_networks_do(tmp_path, case):
    observation_space, action_space, settings = SAID[case]
    agent = make_agent(observation_space, action_space, settings)
    policy = load(export_policy(agent, tmp_path / "policy.npz")[0])
    (group,) = (g for g in agent.groups if "cat_1" in g.agents)
    state, learner = agent.state[group.name], make_learner(group, agent.config, agent.groups)
    seen = {"cat_1": map_leaves(lambda x: x[:100], draw(observation_space))}
    features, mask = without_mask(seen["cat_1"]), mask_in(seen["cat_1"])
    if group.share_params:  # with an axis of agents
        features = map_leaves(lambda x: np.stack([x, x], 1), features)
        mask = None if mask is None else np.stack([mask, mask], 1)
    else:
        state = jax.tree.map(lambda x: x[1], state)
    size = settings.get("gru_size")
    carry = np.zeros((100, *((2,) if group.share_params else ()), size)) if size else ()
    carries = [carry, carry]
    units = Units.of(state.moments["target"]) if agent.config.ppo.normalize_return else None
    for step in range(3 if size else 1):
        outputs, carries[0] = learner.policy(
            state, features, () if mask is None else mask, carries[0]
        )
        expected, carries[1] = learner.value(state, features, carries[1])
        if units:
            expected = np.asarray(expected) * units.size.item() + units.zero.item()
        value = policy.value("cat_1", seen["cat_1"])
        said = policy.probabilities("cat_1", seen["cat_1"])
        action = policy.act("cat_1", seen["cat_1"], sample=True, rng=step)
        if group.share_params:
            expected = expected[:, 1]
            outputs = outputs[:, 1]
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)
        assert len(np.unique(value)) > 1
        arrays = leaves(action_space)
        got = sum(log_prob_of(x, of_path(said, x.path), x.of(action)) for x in arrays)
        log_prob = learner.distribution.log_prob(outputs, action)
        np.testing.assert_allclose(got, log_prob, rtol=1e-3, atol=1e-3)


WHOLE = MIXED.sample()


@pytest.fixture(scope="module")
def exported_cases(tmp_path_factory, quickest_compilation) -> dict[str, Path]:
    """Exports of a few kinds."""
    folder = tmp_path_factory.mktemp("exported")
    kinds = {name: CASES[name] for name in ("mlp", "mixed", "mask", "parts")}
    kinds["start at two"] = (spaces.Discrete(3, start=2), FOUR, {})
    kinds["policy"] = CASES["gru"]
    paths = {name: folder / f"{name.replace(' ', '_')}.npz" for name in kinds}
    for name, path in paths.items():
        export_policy(make_agent(*kinds[name]), path)
    return paths


class TestUse:
    @pytest.fixture
    def exported(self, exported_cases):
        return exported_cases["policy"]

    def test_it_needs_nothing_but_numpy(self, exported):
        code = (
            "import sys, numpy as np, policy\n"
            "p = policy.Policy('policy.npz')\n"
            "print(int(p.act('cat_0', np.zeros(5, np.float32))) in range(1, 5))\n"
            "print(sorted({'jax', 'flax', 'gymnasium', 'kitae_marl'} & sys.modules.keys()))"
        )
        ran = subprocess.run(
            [sys.executable, "-c", code], cwd=exported.parent, capture_output=True, text=True
        )
        assert ran.stdout.split() == ["True", "[]"], ran.stderr
        assert len(SOURCE.read_text().splitlines()) < 330

    def test_memory_is_kept_by_agent_until_reset(self, exported):
        policy = load(exported)
        seen = np.ones(5, np.float32)
        policy.act("cat_0", seen)
        first, critic = policy._memory["cat_0"]
        policy.act("cat_1", seen)
        assert (policy._memory["cat_0"][0] == first).all()
        policy.probabilities("cat_0", seen)
        policy.value("cat_0", seen)
        assert (policy._memory["cat_0"][1] == critic).all()
        policy.act("cat_0", seen)
        assert (policy._memory["cat_0"][0] != first).any()
        assert (policy._memory["cat_0"][1] != critic).any()
        policy.reset("cat_0")
        assert set(policy._memory) == {"cat_1"}
        policy.reset()
        assert not policy._memory

    def test_samples_are_as_frequent_as_they_are_probable(self, exported_cases):
        policy = load(exported_cases["parts"])
        n, seen = 20_000, np.ones(5, np.float32)
        drawn = policy.act("cat_0", np.tile(seen, (n, 1)), sample=True, rng=0)
        said = policy.probabilities("cat_0", seen)
        assert policy.probabilities("cat_0", seen)["move"].shape == (4,)
        count = np.bincount(drawn["move"] - 1, minlength=4) / n
        np.testing.assert_allclose(count, said["move"], atol=0.02)
        count = np.bincount(drawn["level"][:, 1] + 1, minlength=4) / n
        np.testing.assert_allclose(count, said["level"][1], atol=0.02)
        np.testing.assert_allclose(drawn["aim"][1].mean(axis=0), said["aim"][1], atol=0.02)
        at_low = norm.cdf((-2.0 - said["aim"][0]["mean"][0]) / said["aim"][0]["deviation"][0])
        assert abs((drawn["aim"][0][:, 0] == -2.0).mean() - at_low) < 0.02

    def test_samples_repeat_by_seed_and_stay_within_the_mask(self, exported_cases):
        policy = load(exported_cases["mask"])
        mask = np.array([0, 1, 0, 0, 1, 0])
        rngs = [np.random.default_rng(1) for _ in range(2)]
        twice = [
            [policy.act("cat_0", np.zeros(5), mask, sample=True, rng=r) for _ in range(50)]
            for r in rngs
        ]
        assert twice[0] == twice[1]
        assert set(twice[0]) == {1, 4}
        assert policy.act("cat_0", np.zeros(5), action_mask=mask) in (1, 4)
        assert (policy.probabilities("cat_0", np.zeros(5), mask)[mask == 0] == 0).all()

    def test_a_central_critic_values_nothing_here(self, tmp_path):
        config = Config(algo="mappo", ppo=PPOConfig(hidden_sizes=(4,)))
        agent = Agent(Spaces(BOX, FOUR), config)
        policy = load(export_policy(agent, tmp_path / "policy.npz")[0])
        assert policy.act("cat_0", np.ones(5)) in range(1, 5)
        with pytest.raises(ValueError, match=r"critic that sees what cat_0 sees.*MAPPO"):
            policy.value("cat_0", np.ones(5))

    def test_a_file_from_before_values_still_plays(self, exported_cases, tmp_path):
        with np.load(exported_cases["parts"]) as file:
            about = json.loads(str(file["about"]))
            old = {k: file[k] for k in file.files if "/critic/" not in k and "/value/" not in k}
        for group in about["groups"].values():
            del group["critic"]
        np.savez(tmp_path / "old.npz", **{**old, "about": np.array(json.dumps(about))})
        new = load(exported_cases["parts"])
        policy = type(new)(tmp_path / "old.npz")
        seen = np.ones(5, np.float32)
        assert str(policy.act("cat_0", seen)) == str(new.act("cat_0", seen))
        assert str(policy.probabilities("cat_0", seen)) == str(new.probabilities("cat_0", seen))
        with pytest.raises(ValueError, match=r"older than values.*export the run again"):
            policy.value("cat_0", seen)

    def test_an_agent_of_another_game(self, exported):
        with pytest.raises(ValueError, match=r"one of the agents \[.*\], got 'nobody'"):
            load(exported).act("nobody", np.ones(5, np.float32))

    @pytest.mark.parametrize(
        ("case", "observation", "error"),
        [
            ("mlp", np.zeros(4, np.float32), r"cat_0 expected .*'Box'.*got float32 \(4,\)"),
            ("mlp", np.zeros((5, 1), np.float32), r"got float32 \(5, 1\)"),
            ("mlp", np.float32(1), r"got float32 \(\)"),
            ("mlp", [0, 0, np.nan, 0, 0], "expected finite Box .*nan"),
            ("mlp", ["a"] * 5, "expected finite Box .*'a'"),
            ("mlp", None, "expected finite Box .*object"),
            ("mlp", {"x": np.zeros(5)}, "expected finite Box .*object"),
            (
                "mixed",
                {**WHOLE, "image": np.zeros((9, 8, 3), np.uint8)},
                r"\[8, 9, 3\].*got uint8 \(9, 8, 3\)",
            ),
            ("mixed", {**WHOLE, "bytes": np.zeros(3, np.float32)}, "got float32"),
            ("mixed", {"a": np.ones(2, int)}, "KeyError\\('b'\\)"),
            ("mixed", np.zeros(5), "IndexError"),
            ("mask", {"observation": np.zeros(5)}, "'Box'"),
            ("mask", np.zeros(5), r"cat_0 expected a mask \(6,\), got None"),
            (
                "mask",
                {"observation": np.zeros(5), "action_mask": np.ones(5)},
                r"mask \(6,\), got arr",
            ),
            (
                "mask",
                {"observation": np.zeros(5), "action_mask": np.ones((2, 6))},
                r"a mask \(6,\), got array",
            ),
            ("start at two", 1, "expected finite Discrete"),
            ("start at two", 5, "IndexError"),
            ("start at two", 2.0, "expected finite Discrete .*float"),
        ],
    )
    def test_what_no_observation_can_be(self, exported_cases, case, observation, error):
        with pytest.raises(ValueError, match=error):
            load(exported_cases[case]).act("cat_0", observation)

    def test_who_waits_may_do_nothing_and_gets_the_first_action(self, exported_cases):
        seen = {"observation": np.ones(5, np.float32), "action_mask": np.zeros(6, np.int8)}
        assert load(exported_cases["mask"]).act("cat_0", seen) == 0

    def test_an_error_leaves_the_memory_as_it_was(self, exported):
        policy = load(exported)
        policy.act("cat_0", np.ones(5))
        before = policy._memory["cat_0"]
        for observation, mask in ((np.ones(4), None), (np.ones((2, 5)), None), (np.ones(5), [1])):
            with pytest.raises(ValueError, match="expected"):
                policy.act("cat_0", observation, mask)
        assert policy._memory["cat_0"] is before

    def test_the_file_holds_no_pickle(self, exported):
        with np.load(exported, allow_pickle=False) as file:
            assert all(file[name].dtype != object for name in file.files)

    def test_a_file_of_another_kind(self, exported, tmp_path):
        np.savez(tmp_path / "other.npz", about=np.array('{"format": 1}'))
        policy = load(exported)
        with pytest.raises(ValueError, match="format 2, got 1"):
            type(policy)(tmp_path / "other.npz")

    def test_what_is_in_the_way_is_seen_before_the_work(self, tmp_path):
        (tmp_path / "policy.py").write_text("mine")
        with pytest.raises(ValueError, match="in the way"):
            export_policy(cast(Any, None), tmp_path / "policy.npz")

    def test_what_is_in_the_way_stays(self, tmp_path):
        agent = make_agent(BOX, FOUR, {})
        (tmp_path / "policy.py").write_text("mine")
        with pytest.raises(ValueError, match="in the way"):
            export_policy(agent, tmp_path / "policy.npz")
        assert (tmp_path / "policy.py").read_text() == "mine"
        with pytest.raises(ValueError, match=r"ends in \.npz"):
            export_policy(agent, tmp_path / "policy.zip")
        export_policy(agent, tmp_path / "again.npz")
        export_policy(agent, tmp_path / "again.npz")
