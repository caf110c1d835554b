"""Groups, stacking and unstacking, masks, and the one vmap over agents."""

import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
import pytest
from kitae_envs.grouping import agent_groups

from kitae_marl.data.groups import group_specs
from kitae_marl.data.lifting import over_agents
from kitae_marl.data.stacking import AgentDict, map_leaves, split_masks, stack, unstack
from kitae_marl.errors import ConfigError
from kitae_marl.types import GroupSpec

SMALL, LARGE, MOVES = gym.spaces.Box(0, 1, (2,)), gym.spaces.Box(0, 1, (3,)), gym.spaces.Discrete(5)
PAIR = GroupSpec("a", ("a_0", "a_1"), SMALL, MOVES)
SINGLE = GroupSpec("b", ("b",), LARGE, MOVES)
BOTH = (PAIR, SINGLE)


def rows(seed=0, n_envs=4):
    rng = np.random.default_rng(seed)
    return {
        "a_0": rng.normal(size=(n_envs, 2)),
        "a_1": rng.normal(size=(n_envs, 2)),
        "b": rng.normal(size=(n_envs, 3)),
    }


def groups_of(observation_spaces, **options):
    return group_specs(
        list(observation_spaces), observation_spaces.get, lambda agent: MOVES, **options
    )


class TestGrouping:
    def test_same_stem_and_spaces_are_one_group_in_the_order_of_the_game(self):
        spaces = {"x_1": SMALL, "y_0": SMALL, "x_0": SMALL, "y_1": SMALL}
        groups = groups_of(spaces)
        assert [(g.name, g.agents) for g in groups] == [
            ("x", ("x_1", "x_0")),
            ("y", ("y_0", "y_1")),
        ]
        assert groups[0].n_agents == 2

    def test_one_stem_with_two_spaces_is_two_groups(self):
        groups = groups_of({"x_0": SMALL, "x_1": LARGE, "x_2": SMALL, "x_3": LARGE})
        assert [(g.name, g.agents) for g in groups] == [
            ("x", ("x_0", "x_2")),
            ("x_1", ("x_1", "x_3")),
        ]
        assert [g.observation_space for g in groups] == [SMALL, LARGE]

    def test_action_spaces_count_too(self):
        moves = {"x_0": MOVES, "x_1": gym.spaces.Discrete(2)}
        assert len(group_specs(list(moves), lambda a: SMALL, moves.get)) == 2

    def test_no_agent_is_lost_when_names_meet(self):
        spaces = {"x_0": 0, "x": 1, "x_1": 2, "x_1_0": 3}
        groups = agent_groups(list(spaces), spaces.get)
        members = [agent for group in groups.values() for agent in group]
        assert sorted(members) == sorted(spaces)

    def test_sharing_by_pattern_takes_the_first_match(self):
        spaces = {"adversary_0": SMALL, "agent_0": SMALL}
        groups = groups_of(spaces, share_params={"adv*": "shared", "*": "independent"})
        assert [g.share_params for g in groups] == [True, False]
        assert [g.share_params for g in groups_of(spaces, share_params=False)] == [False, False]

    def test_a_group_is_split_where_its_agents_match_different_patterns(self):
        spaces = dict.fromkeys(["b_0", "a_0", "a_1", "a_2"], SMALL)
        groups = groups_of(spaces, share_params={"a_1": "independent", "*": "shared"})
        assert [(g.name, g.agents, g.share_params) for g in groups] == [
            ("b", ("b_0",), True),
            ("a_0", ("a_0", "a_2"), True),
            ("a_1", ("a_1",), False),
        ]

    def test_errors_say_what_to_do(self):
        with pytest.raises(ValueError, match=r"no pattern .* matches 'x_0'.*add a pattern"):
            groups_of({"x_0": SMALL}, share_params={"y*": True})
        with pytest.raises(ValueError, match=r"got \['y\*'\], which match none; leave them out"):
            groups_of({"x_0": SMALL}, share_params={"*": "shared", "y*": "independent"})
        with pytest.raises(ValueError, match="at least one agent"):
            groups_of({})
        with pytest.raises(ValueError, match=r"expected distinct agent names, got \['x', 'x'\]"):
            group_specs(["x", "x"], lambda a: SMALL, lambda a: MOVES)

    def test_a_spec_is_a_key(self):
        again = GroupSpec("a", ("a_0", "a_1"), gym.spaces.Box(0, 1, (2,)), gym.spaces.Discrete(5))
        assert again == PAIR
        assert hash(again) == hash(PAIR)
        assert GroupSpec("a", ("a_0", "a_1"), SMALL, MOVES, share_params=False) != PAIR


class TestStacking:
    def test_there_and_back(self):
        data = rows()
        stacked = stack(data, BOTH)
        assert stacked["a"].shape == (4, 2, 2)
        assert stacked["b"].shape == (4, 1, 3)
        back = unstack(stacked, BOTH)
        assert list(back) == ["a_0", "a_1", "b"]
        for agent, values in data.items():
            np.testing.assert_array_equal(back[agent], values)
            assert np.shares_memory(back[agent], stacked["a" if agent != "b" else "b"])

    def test_unchanged_views_are_stacked_without_a_copy(self):
        stacked = stack(rows(), BOTH)
        views = unstack(stacked, BOTH)
        assert stack(views, BOTH)["a"] is stacked["a"]
        assert views.intact_blocks()["b"] is stacked["b"]

    def test_a_replaced_entry_is_not_overlooked(self):
        views = unstack(stack(rows(), BOTH), BOTH)
        views["a_1"] = np.full((4, 2), 7.0)
        again = stack(views, BOTH)
        assert (again["a"][:, 1] == 7.0).all()
        assert again["b"] is views.blocks["b"]  # only the touched group is stacked anew
        assert views.intact_blocks() is None

    def test_a_deleted_or_added_entry_is_not_overlooked(self):
        views = unstack(stack(rows(), BOTH), BOTH)
        views["c"] = views["b"]
        assert views.intact_blocks() is None
        del views["c"], views["a_0"]
        with pytest.raises(ValueError, match=r"missing: \['a_0'\]"):
            stack(views, BOTH)

    def test_other_groups_than_the_stacked_ones(self):
        views = unstack(stack(rows(), BOTH), BOTH)
        swapped = GroupSpec("a", ("a_1", "a_0"), SMALL, MOVES)
        np.testing.assert_array_equal(stack(views, [swapped])["a"][:, 0], views["a_1"])

    def test_nested_observations(self):
        def make(agent):
            x = rows()[agent]
            return {"image": x, "more": (x[:, 0], x[:, 1])}

        data = {agent: make(agent) for agent in ("a_0", "a_1")}
        stacked = stack(data, [PAIR])
        assert stacked["a"]["image"].shape == (4, 2, 2)
        assert stacked["a"]["more"][1].shape == (4, 2)
        back = unstack(stacked, [PAIR])
        np.testing.assert_array_equal(back["a_1"]["more"][0], data["a_1"]["more"][0])
        assert isinstance(back, AgentDict)

    def test_map_leaves(self):
        tree = {"x": 1, "y": (2, {"z": 3})}
        assert map_leaves(lambda a, b: a + b, tree, tree) == {"x": 2, "y": (4, {"z": 6})}
        assert map_leaves(str, 5) == "5"


class TestMasks:
    def test_from_the_observation_which_loses_it(self):
        data = {
            agent: {"observation": rows()[agent], "action_mask": np.ones((4, 5), np.int8)}
            for agent in ("a_0", "a_1")
        }
        features, masks = split_masks(data, {}, [PAIR])
        assert features["a"].shape == (4, 2, 2)
        assert masks["a"].shape == (4, 2, 5)

    def test_further_parts_of_the_observation_stay(self):
        data = {"b": {"x": rows()["b"], "y": rows()["b"], "action_mask": np.ones((4, 5))}}
        features, _ = split_masks(data, {}, [SINGLE])
        assert sorted(features["b"]) == ["x", "y"]

    def test_from_infos_and_none_at_all(self):
        mask = {"a_0": np.zeros((4, 5)), "a_1": np.ones((4, 5))}
        features, masks = split_masks(rows(), {"action_mask": mask}, BOTH)
        np.testing.assert_array_equal(masks["a"][:, 1], 1)
        np.testing.assert_array_equal(masks["a"][:, 0], 0)
        assert masks["b"] == ()
        assert features["b"].shape == (4, 1, 3)


class TestOverAgents:
    def test_shared_is_the_function_itself(self):
        def f(params, x):
            return params * x

        assert over_agents(f, PAIR, 1, 1) is f

    @pytest.mark.parametrize(("agent_axis", "out_axes"), [(1, 1), (2, 0)])
    def test_independent_gives_each_agent_its_own(self, agent_axis, out_axes):
        alone = GroupSpec("a", ("a_0", "a_1"), SMALL, MOVES, share_params=False)
        params = np.array([2.0, 10.0])
        x = np.moveaxis(np.arange(12.0).reshape(2, 3, 2), 0, agent_axis)
        got = over_agents(lambda p, x: p * x, alone, agent_axis, out_axes)(params, x)
        got = np.asarray(got)
        for i in range(2):
            expected = params[i] * np.take(x, i, agent_axis)
            np.testing.assert_array_equal(np.take(got, i, out_axes), expected)


def test_importing_groups_imports_no_jax():
    code = "import sys, kitae_marl.data.groups; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestNames:
    """What agents are called must not decide whether they can share a network."""

    @pytest.mark.parametrize(
        ("names", "group"),
        [
            (["red_0", "red_1"], "red"),
            (["drone0", "drone10"], "drone"),
            (["agent-1", "agent-2"], "agent"),
            (["red.0", "red.1"], "red"),
            (["red 0", "red 1"], "red"),
            (["0", "1"], "agent"),
            (["läufer1", "läufer2"], "läufer"),
            (["a_1_0", "a_1_1"], "a_1"),
            (["a__0", "a__1"], "a_"),
        ],
    )
    def test_a_trailing_number_with_any_sign_before_it_or_none(self, names, group):
        found = groups_of(dict.fromkeys(names, SMALL))
        assert [(g.name, g.agents, g.share_params) for g in found] == [(group, tuple(names), True)]

    def test_the_names_of_groups_with_an_underscore_are_as_they_were(self):
        """Runs, metrics and compiled games know their groups by these names."""
        names = ["leadadversary_0", "adversary_0", "adversary_1", "agent_0", "first_0", "second_0"]
        found = agent_groups(names, lambda agent: 0)
        assert list(found) == ["leadadversary", "adversary", "agent", "first", "second"]

    def test_other_names_are_groups_of_their_own(self):
        found = groups_of(dict.fromkeys(["alice", "bob", "p_0_red", "p_1_red"], SMALL))
        assert [g.name for g in found] == ["alice", "bob", "p_0_red", "p_1_red"]

    def test_groups_are_merged_by_name_and_pattern(self):
        spaces = dict.fromkeys(["alice", "p_0_red", "bob", "p_1_red", "x_0", "x_1"], SMALL)
        found = groups_of(spaces, named={"team": ["alice", "bob"], "red": "p_*_red"})
        assert [(g.name, g.agents, g.share_params) for g in found] == [
            ("team", ("alice", "bob"), True),
            ("red", ("p_0_red", "p_1_red"), True),
            ("x", ("x_0", "x_1"), True),
        ]

    def test_groups_are_split_and_the_first_one_counts(self):
        spaces = dict.fromkeys(["x_0", "x_1", "x_2", "x"], SMALL)
        found = groups_of(spaces, named={"x": ["x_1"], "y": ["x_[12]"]}, share_params=False)
        assert [(g.name, g.agents) for g in found] == [
            ("x_0", ("x_0", "x")),
            ("x", ("x_1",)),
            ("y", ("x_2",)),
        ]
        assert not any(g.share_params for g in found)

    def test_a_name_that_reads_as_a_pattern_is_a_name_first(self):
        found = groups_of(dict.fromkeys(["[0]", "b"], SMALL), named={"team": ["[0]", "b"]})
        assert [g.agents for g in found] == [("[0]", "b")]

    def test_errors_of_named_groups(self):
        with pytest.raises(ConfigError, match=r"groups: .*equal spaces in 'team'.*'b' with .*3"):
            groups_of({"a": SMALL, "b": LARGE}, named={"team": ["a", "b"]})
        with pytest.raises(ConfigError, match=r"groups: .* got \['c'\] for 'team'"):
            groups_of({"a": SMALL}, named={"team": ["c"]})

    def test_many_agents_without_anything_in_common_are_stacked_and_keep_their_networks(self):
        names = [f"p_{i}_red" for i in range(9)]
        spaces = {"x_0": SMALL, **dict.fromkeys(names, SMALL), "x_1": SMALL, "boss": LARGE}
        found = groups_of(spaces)
        assert [(g.name, g.n_agents, g.share_params) for g in found] == [
            ("x", 2, True),
            ("agents", 9, False),
            ("boss", 1, True),
        ]
        (team, *_) = groups_of(spaces, named={"team": ["p_*_red"]})[1:]
        assert (team.name, team.n_agents, team.share_params) == ("team", 9, True)
        assert len(groups_of(dict.fromkeys(names[:8], SMALL))) == 8

    @pytest.mark.parametrize("name", ["{}", "drone{}", "p_{}_red", "x_{}"])
    def test_six_hundred_agents_are_grouped_in_no_time(self, name):
        names = [name.format(i) for i in range(600)]
        start = time.process_time()
        found = group_specs(names, lambda a: gym.spaces.Box(0, 1, (2,)), lambda a: MOVES)
        assert time.process_time() - start < 3
        assert [g.n_agents for g in found] == [600]
