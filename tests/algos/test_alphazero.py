"""AlphaZero: what its search finds, what it learns from, and that it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled_runs import OnHost
from kitae_envs.core import Game

from kitae_marl import (
    Agent,
    AlphaZeroConfig,
    CompiledVecParallelEnv,
    Config,
    PPOConfig,
    export_policy,
    make_vec_env,
    worst_case,
)
from kitae_marl.algos.alphazero.algorithm import _turned
from kitae_marl.algos.alphazero.rules import Rules, rules_for
from kitae_marl.algos.alphazero.search import masked, search_factory
from kitae_marl.algos.alphazero.targets import Row, rows_of
from kitae_marl.algos.nets.residual import ResidualNet
from kitae_marl.errors import ConfigError
from kitae_marl.loops.devices import board_convolution
from kitae_marl.selfplay.seats import frozen, policy_for, with_seats
from kitae_marl.types import Experience

pytestmark = pytest.mark.usefixtures("quickest_compilation")
GAME, N_ENVS = "classic/tictactoe-v3", 8
SMALL = AlphaZeroConfig(
    n_steps=6, simulations=4, channels=0, width=8, batch_size=16, replay_iterations=2,
    full_share=0.5, cheap_simulations=2,
)  # fmt: skip
CONFIG = Config(
    env_id=GAME, algo="alphazero", n_envs=N_ENVS, env_steps=6 * N_ENVS * 4, save_every=1, seed=1,
    alphazero=SMALL,
)  # fmt: skip


def make_env(game: str = GAME) -> CompiledVecParallelEnv:
    return CompiledVecParallelEnv(game, N_ENVS)


@pytest.fixture(scope="module")
def rules(quickest_compilation: None) -> Rules:
    return rules_for(make_agent().groups, CONFIG)


def make_agent(config: Config = CONFIG) -> Agent:
    return Agent(make_env(config.env_id), config)


def seen_after(game: Game, moves: list[int]) -> tuple[Any, Any]:
    """What both agents see and may do after some moves, one position ``[1, 2, ...]``."""
    state = game.start(jax.random.key(0))
    for move in moves:
        state, _ = game.step(jax.random.key(0), state, {"player": jnp.full(2, move)})
    view = game.observe(state)
    seen, mask = view.observation["player"]["observation"], view.action_mask["player"]
    return seen[None], mask[None]


def knows_nothing(params: Any, seen: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A network that thinks all moves alike and every game open."""
    return masked(jnp.zeros(mask.shape), mask), jnp.zeros(mask.shape[0])


class TestSearch:
    """Squares: 0 1 2 / 3 4 5 / 6 7 8."""

    @pytest.mark.parametrize(
        ("moves", "best", "value"),
        [
            ([0, 3, 1, 4], {2}, 1),  # the first seat completes its row
            ([0, 3, 1, 4, 8], {5}, 1),  # the second seat does
            ([0, 4, 1], {2}, 0),  # the second seat prevents a row
            ([4, 0, 5], {3}, 0),
            ([0, 1, 4], {8}, 0),
            ([0, 1, 3, 4, 6], set(range(9)), 0),  # it is over: nothing is said
        ],
    )
    def test_it_wins_and_prevents(self, rules: Rules, moves: list[int], best: Any, value: int):
        search = search_factory(rules, knows_nothing, SMALL, 200)
        found = jax.jit(search)((), jax.random.key(0), *seen_after(rules.game, moves), 0.0)
        assert int(found.action[0]) in best
        assert np.isfinite(np.asarray(found.policy)).all()
        if value:
            assert float(found.value[0]) > 0.9
            assert float(found.policy[0, int(found.action[0])]) > 0.9

    @pytest.mark.parametrize("moves", [[0, 1, 4, 2, 3], [3, 0, 7, 4, 5, 2]])
    def test_it_knows_who_is_lost(self, rules: Rules, moves: list[int]):
        """The other seat threatens two squares, whoever it is."""
        search = search_factory(rules, knows_nothing, replace(SMALL, value_scale=2.0), 300)
        found = jax.jit(search)((), jax.random.key(0), *seen_after(rules.game, moves), 0.0)
        assert float(found.value[0]) < -0.6

    def test_what_is_not_allowed_is_not_done(self, rules: Rules):
        search = jax.jit(search_factory(rules, knows_nothing, SMALL, 8))
        seen, mask = seen_after(rules.game, [4, 0])
        for seed in range(20):
            found = search((), jax.random.key(seed), seen, mask, 1.0)
            assert int(found.action[0]) not in (0, 4)
            assert float(found.policy[0, 0] + found.policy[0, 4]) == 0.0


class TestTargets:
    def test_a_short_rollout_by_hand(self, rules: Rules):
        """Two games: in one the first seat wins with its third move, the other is not over."""
        moves = [[0, 3, 1, 4, 2], [4, 0, 8, 2, 1]]
        positions = [[seen_after(rules.game, m[:t]) for m in moves] for t in range(5)]
        seen, mask = (
            jnp.stack([jnp.concatenate([p[i] for p in row]) for row in positions]) for i in (0, 1)
        )
        reward = np.zeros((5, 2, 2), np.float32)
        reward[4, 0] = 1.0, -1.0
        over = np.zeros((5, 2, 2), bool)
        over[4, 0] = True
        root = np.full((5, 2), 0.4, np.float32)
        full = np.array([1, 1, 0, 1, 1], np.float32)[:, None].repeat(2, 1)
        both = {"policy": jnp.ones((5, 2, 9)) / 9, "value": jnp.asarray(root), "full": full}
        group = make_agent().groups[0]
        experience = Experience(
            observation={"player": seen},
            action_mask={"player": mask},
            reward={"player": jnp.asarray(reward)},
            terminated={"player": jnp.asarray(over)},
            truncated={"player": jnp.zeros((5, 2, 2), bool)},
            active={"player": jnp.any(mask != 0, -1)},
            extras={"player": jax.tree.map(lambda x: jnp.stack([x, x], 2), both)},
        )
        rows = jax.tree.map(
            lambda x: np.asarray(x).reshape(5, 2, *x.shape[1:]),
            rows_of(rules, group, experience, 0.0),
        )
        won = [1, -1, 1, -1, 1]  # as the agent to move sees it
        assert rows.value[:, 0].tolist() == won
        # The other is cut after the first seat's third move: what the search there expected.
        assert rows.value[:, 1].tolist() == pytest.approx([0.4, -0.4, 0.4, -0.4, 0.4])
        assert rows.weight.tolist() == np.ones((5, 2)).tolist()
        assert rows.policy_weight[:, 0].tolist() == full[:, 0].tolist()
        # Plane 0 holds the tokens of the agent to move.
        assert rows.seen[1, 0, ..., 1].sum() == 1
        assert rows.seen[1, 0, ..., 0].sum() == 0
        mixed = rows_of(rules, group, experience, 0.25).value.reshape(5, 2)
        assert np.asarray(mixed)[1, 0] == pytest.approx(0.75 * -1 + 0.25 * 0.4)

    def test_the_opponents_moves_are_not_learned_from(self, rules: Rules):
        seen, mask = seen_after(rules.game, [])
        none = {"player": jnp.zeros((1, 1, 2), bool)}
        extras = {"policy": jnp.ones((1, 1, 2, 9)), "value": jnp.ones((1, 1, 2))}
        experience = Experience(
            observation={"player": seen[None]},
            action_mask={"player": mask[None]},
            reward={"player": jnp.zeros((1, 1, 2))},
            terminated=none,
            truncated=none,
            active=none,
            extras={"player": {**extras, "full": jnp.ones((1, 1, 2))}},
        )
        rows = rows_of(rules, make_agent().groups[0], experience, 0.0)
        assert rows.weight.tolist() == rows.policy_weight.tolist() == [0.0]

    def test_a_mirrored_row_is_that_of_the_mirrored_game(self, rules: Rules):
        moves = [0, 4, 1]
        seen, mask = (x[:, 1] for x in seen_after(rules.game, moves))
        policy = jnp.eye(9)[jnp.array([2])]
        one = jnp.ones(1)
        row = Row(seen, mask, policy, one, one, one)
        many = jax.tree.map(lambda x: jnp.repeat(x, 64, 0), row)
        turned = _turned(rules, jax.random.key(0), many)
        expected = set()
        for symmetry in (None, *rules.game.symmetries):
            actions = range(9) if symmetry is None else symmetry.actions
            there = seen_after(rules.game, [actions[m] for m in moves])[0][:, 1]
            expected.add((np.asarray(there).tobytes(), actions[2]))
        got = {
            (np.asarray(seen).tobytes(), int(np.argmax(policy)))
            for seen, policy in zip(turned.seen, turned.policy, strict=True)
        }
        assert got == expected
        squares = turned.seen.reshape(64, 9, 2).sum(-1)
        assert np.array_equal(turned.mask, 1 - squares)


class TestNetwork:
    @pytest.mark.parametrize(("size", "n_in", "n_out"), [(3, 2, 5), (3, 4, 3), (5, 3, 2)])
    def test_its_convolutions_are_those_of_jax(self, size: int, n_in: int, n_out: int):
        """Values and both gradients; the fast ones are for a CPU."""
        board_key, kernel_key = jax.random.split(jax.random.key(0))
        boards = jax.random.normal(board_key, (4, 6, 7, n_in))
        kernel = jax.random.normal(kernel_key, (size, size, n_in, n_out))

        def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
            layout = ("NHWC", "HWIO", "NHWC")
            return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)

        expected, back = jax.vjp(plain, boards, kernel)
        got, own_back = jax.vjp(board_convolution, boards, kernel)
        np.testing.assert_allclose(got, expected, atol=1e-5)
        for mine, theirs in zip(own_back(jnp.sin(got)), back(jnp.sin(got)), strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-3)

    @pytest.mark.parametrize("sizes", [(4, 1, 0, 0), (4, 1, 8, 1), (0, 0, 8, 1)])
    def test_it_begins_with_even_moves_and_no_value(self, sizes: tuple[int, ...]):
        space = gym.spaces.Box(0, 1, (6, 7, 2), np.int8)
        network = ResidualNet(space, 7, *sizes)
        seen = jax.random.bernoulli(jax.random.key(1), 0.5, (3, 6, 7, 2)).astype(jnp.int8)
        params = network.init(jax.random.key(0), seen)
        logits, value = network.apply(params, seen)
        assert value.tolist() == [0.0] * 3
        assert np.abs(logits).max() < 0.1


@pytest.fixture(scope="module")
def through(
    quickest_compilation: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Agent, Path]:
    """A run from its beginning to its end, and its folder."""
    path = tmp_path_factory.mktemp("runs") / "through"
    agent = make_agent()
    agent.train(make_env(), path, show=False)
    return agent, path


class TestRuns:
    def test_one_that_continues_equals_one_that_never_stopped(
        self, through: tuple[Agent, Path], tmp_path: Path
    ):
        whole = replace(CONFIG, alphazero=replace(SMALL, anneal=False))
        half = replace(whole, env_steps=whole.env_steps // 2)
        never = make_agent(whole)
        never.train(make_env(), show=False)
        make_agent(half).train(make_env(), tmp_path / "run", show=False)
        again = Agent.load(tmp_path / "run", config=whole)
        assert int(again.state["player"].replay.n_added) == 2
        again.resume(make_env(), tmp_path / "run", show=False, exact=True)
        for a, b in zip(
            jax.tree.leaves(never.run_state()), jax.tree.leaves(again.run_state()), strict=True
        ):
            assert np.array_equal(a, b)

    def test_acting_reads_the_parameters_alone(self, through: tuple[Agent, Path]):
        agent, _ = through
        player = agent.player()
        assert jax.tree.structure(player.state["player"].params)
        assert len(jax.tree.leaves(player.state)) == len(
            jax.tree.leaves(agent.state["player"].params)
        )

    @pytest.mark.parametrize("simulations", [0, 6])
    def test_it_plays_the_original_game_from_what_one_agent_sees(
        self, through: tuple[Agent, Path], simulations: int
    ):
        """Asked for one agent, for all, or in a seat: it plays the same."""
        agent = Agent.load(through[1], simulations=simulations)
        assert agent.config.alphazero.play_simulations == simulations
        player = through[0].player(simulations=simulations)
        env = make_vec_env(GAME, 1, n_workers=0)
        second = policy_for(agent, ["player_2"])
        observations, infos = env.reset(seed=0)
        for _ in range(9):
            (mover,) = [a for a, active in infos["active"].items() if active[0]]
            actions = player.select_action(observations, infos)
            alone = jax.tree.map(lambda x: x[0], observations[mover])
            assert agent.act(mover, alone) == actions[mover][0]
            if mover == "player_2":
                assert second(observations, infos)[mover][0] == actions[mover][0]
            varied = agent.select_action(observations, infos, sample=True)
            assert observations[mover]["action_mask"][0, varied[mover][0]]
            observations, _, _, _, infos = env.step(actions)
        env.close()

    def test_it_takes_a_seat_inside_compiled_games(self, through: tuple[Agent, Path]):
        seat = frozen(Agent.load(through[1], simulations=2), sample=False)
        env = with_seats(make_env(), {"player_2": seat})
        learner = Agent(env, Config(GAME, n_envs=N_ENVS, env_steps=64, ppo=PPOConfig(n_steps=8)))
        assert learner.train(env, show=False)["env_steps"] == 64

    @pytest.mark.long
    def test_it_meets_its_earlier_selves(self, tmp_path: Path):
        from kitae_marl import oppose

        config = replace(CONFIG, opponents={"latest": 0.5, "pool": 0.5})
        env = make_env()
        agent = Agent(env, config)
        summary = agent.train(oppose(env, agent), tmp_path / "run", show=False)
        assert summary["env_steps"] == CONFIG.env_steps

    def test_it_has_no_export(self, through: tuple[Agent, Path], tmp_path: Path):
        with pytest.raises(ValueError, match="expected an algorithm whose policies can be export"):
            export_policy(through[0], tmp_path / "policy.npz")


@pytest.mark.long
@pytest.mark.parametrize(
    ("env_steps", "simulations"), [(30_000, 64), pytest.param(60_000, 0, marks=pytest.mark.slow)]
)
def test_tic_tac_toe_is_learned(env_steps: int, simulations: int):
    """No opponent wins against it, from either seat; in the end it need not search for that."""
    settings = AlphaZeroConfig(
        n_steps=16, channels=0, width=64, dense_blocks=1, batch_size=256, learning_rate=5e-3,
        simulations=24, reuse=4.0, gumbel_scale=2.0, play_simulations=simulations,
    )  # fmt: skip
    config = Config(GAME, algo="alphazero", n_envs=64, env_steps=env_steps, alphazero=settings)
    agent = Agent(CompiledVecParallelEnv(GAME, 64), config)
    agent.train(CompiledVecParallelEnv(GAME, 64), show=False)
    for seat in ("player_1", "player_2"):
        assert worst_case(agent.select_action, GAME, seat).value == 0.0


class TestRefusals:
    @pytest.mark.parametrize(
        ("game", "why"),
        [
            ("mpe/simple_spread-v3", "it is for 3 agents, not for two"),
            ("classic/rps-v2", "its agents move at the same time"),
            ("kitae/kuhn_poker-v0", "it hides something from its agents"),
        ],
    )
    def test_games_that_cannot_be_searched(self, game: str, why: str):
        with pytest.raises(ConfigError, match=rf"got {game}: {why}.*train it by ippo"):
            make_agent(replace(CONFIG, env_id=game))

    def test_a_game_without_compiled_rules(self):
        env = make_env()
        with pytest.raises(ConfigError, match=r"expected a game with compiled rules.*chess"):
            Agent(env, replace(CONFIG, env_id="classic/chess-v6"))

    def test_a_module_that_nobody_imported(self):
        with pytest.raises(ConfigError, match="import never_seen first, if you trust it"):
            Agent(make_env(), replace(CONFIG, env_id="never_seen:Game"))

    def test_agents_that_do_not_share_a_network(self):
        groups = {"one": ["player_1"], "two": ["player_2"]}
        with pytest.raises(ConfigError, match=r"its agents learn as \[\['player_1'\], \['play"):
            make_agent(replace(CONFIG, groups=groups))
        with pytest.raises(ConfigError, match=r"alphazero.share_params: expected true"):
            replace(SMALL, share_params=False)

    def test_games_in_python_are_for_play_alone(self, tmp_path: Path):
        agent = make_agent()
        with pytest.raises(ConfigError, match="backend: expected compiled games for alphazero"):
            agent.train(OnHost(make_env()), tmp_path / "run", show=False)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("settings", "text"),
        [
            ({"simulations": 0}, "alphazero.simulations: expected an integer of at least 1"),
            ({"play_simulations": -1}, "play_simulations: expected an integer of at least 0"),
            ({"full_share": 0.0}, r"full_share: expected a number in \(0.0, 1.0\]"),
            ({"root_share": 1.5}, "root_share: expected a number in"),
            ({"channels": 0, "width": 0}, "width: expected a width where there are no channels"),
            ({"width": 0, "channels": 4, "dense_blocks": 1}, "dense_blocks: expected 0 without a"),
            ({"symmetries": 1}, "symmetries: expected true or false"),
            ({"simulations": 10**9}, "simulations: expected at most"),
        ],
    )
    def test_settings_out_of_range(self, settings: dict[str, Any], text: str):
        with pytest.raises(ConfigError, match=text):
            replace(SMALL, **settings)

    def test_simulations_of_what_does_not_search(self):
        with pytest.raises(ConfigError, match="algorithm that searches, such as alphazero, got ip"):
            Config(GAME).with_simulations(4)
        with pytest.raises(ConfigError, match="simulations: expected an integer"):
            CONFIG.with_simulations(-1)
