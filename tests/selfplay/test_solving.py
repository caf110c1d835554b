"""Best responses and equilibria, beside what is known of the games and beside OpenSpiel."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import numpy as np
import pytest
from kitae_envs import make
from kitae_envs.trees import GameTree, game_tree

from kitae_marl import Agent, CompiledVecParallelEnv, Config, PPOConfig, exploitability, solve
from kitae_marl.errors import ConfigError
from kitae_marl.selfplay.exact.responses import best_response, gains, values_of
from kitae_marl.selfplay.exact.solving import equilibrium
from kitae_marl.selfplay.exact.strategies import Strategy, allowed, strategy_of, uniform

KUHN, TICTACTOE, LEDUC = "kitae/kuhn_poker-v0", "classic/tictactoe-v3", "classic/leduc_holdem-v4"


def arbitrary(tree: GameTree, seed: int) -> Strategy:
    """Return a strategy that does anything, the same wherever an agent knows the same."""
    chance = np.random.default_rng(seed)
    strategy = []
    for level in tree.levels:
        own = np.zeros(level.mask.shape)
        for seat in range(2):
            weights = chance.exponential(size=(level.n_known[seat], own.shape[2]))
            own[:, seat] = weights[level.known[:, seat]] * allowed(level)[:, seat]
        strategy.append(own / np.maximum(own.sum(axis=2, keepdims=True), 1e-12))
    return strategy


def pure(tree: GameTree, seat: int) -> list[Strategy]:
    """Return everything that an agent can do without chance."""
    places = [
        (number, known)
        for number, level in enumerate(tree.levels)
        for known in np.unique(level.known[level.active[:, seat], seat])
    ]
    found = []
    for actions in itertools.product(range(2), repeat=len(places)):
        chosen = dict(zip(places, actions, strict=True))
        strategy = [np.zeros(level.mask.shape) for level in tree.levels]
        for number, level in enumerate(tree.levels):
            for row in np.flatnonzero(level.active[:, seat]):
                strategy[number][row, seat, chosen[number, level.known[row, seat]]] = 1.0
        found.append(strategy)
    return found


@pytest.mark.parametrize("seat", [0, 1])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_pure_response_is_better_than_the_best(seat: int, seed: int) -> None:
    tree = game_tree(make(KUHN))
    given = arbitrary(tree, seed)
    others = [np.where((np.arange(2) == seat)[None, :, None], 0.0, x) for x in given]

    def value(own: Strategy) -> float:
        return values_of(tree, [a + b for a, b in zip(own, others, strict=True)])[seat]

    found = best_response(tree, given, seat)
    assert found.value == pytest.approx(max(map(value, pure(tree, seat))))
    assert value(found.strategy) == pytest.approx(found.value)


def test_what_is_known_of_leduc_and_kuhn() -> None:
    tree = game_tree(make(LEDUC))
    assert gains(tree, uniform(tree)).exploitability == pytest.approx(1.4716, abs=1e-4)
    tree = game_tree(make(KUHN))
    solved = equilibrium(tree, target=5e-4)
    assert solved.exploitability <= 5e-4
    assert values_of(tree, solved.strategy)[0] == pytest.approx(-1 / 18, abs=1e-3)
    lowest = tree.levels[0].observation["observation"][:, 0, 0] == 1
    highest = tree.levels[0].observation["observation"][:, 0, 2] == 1
    bets = solved.strategy[0][:, 0, 1]  # the first player bets a king three times as often
    assert bets[highest] == pytest.approx(3 * bets[lowest][0], abs=0.05)


def test_leduc_is_solved() -> None:
    tree = game_tree(make(LEDUC, history=True))
    solved = equilibrium(tree, target=2e-3)
    assert solved.exploitability <= 2e-3
    assert 0 < solved.iterations < 1000


def test_moves_at_once_are_solved() -> None:
    tree = game_tree(make("classic/rps-v2", num_actions=3, max_cycles=2))
    solved = equilibrium(tree)
    assert solved.exploitability <= 1e-4
    assert np.allclose(solved.strategy[0], 1 / 3, atol=0.02)
    rock = [np.where(np.arange(3) == 0, 1.0, 0.0) * np.ones_like(x) for x in solved.strategy]
    assert gains(tree, rock).responses == (2.0, 2.0)


def test_the_best_moves_of_tic_tac_toe_are_draws() -> None:
    tree = game_tree(make(TICTACTOE))
    solved = equilibrium(tree)
    assert (solved.exploitability, solved.iterations) == (0.0, 0)
    assert values_of(tree, solved.strategy) == (0.0, 0.0)
    two = tree.levels[1]  # a corner is answered in the middle alone
    corner = two.observation["observation"][:, 1, 0, 0, 1] == 1
    assert solved.strategy[1][corner, 1].argmax(axis=1).tolist() == [4]
    assert solved.strategy[1][corner, 1].max() == 1.0


def test_games_that_are_not_zero_sum_are_refused() -> None:
    tree = game_tree(make("classic/rps-v2", max_cycles=1))
    both = tree._replace(levels=[x._replace(reward=np.ones_like(x.reward)) for x in tree.levels])
    with pytest.raises(ValueError, match="zero-sum"):
        equilibrium(both)


@pytest.mark.parametrize("gru_size", [0, 4])
def test_an_agent_is_asked_for_what_it_samples(gru_size: int) -> None:
    env = CompiledVecParallelEnv(KUHN, 256)
    ppo = PPOConfig(hidden_sizes=(8,), gru_size=gru_size)
    agent = Agent(env, Config(KUHN, n_envs=256, ppo=ppo))
    agent.state = {  # policies that are far from uniform
        name: state._replace(params=_larger(state.params)) for name, state in agent.state.items()
    }
    tree = game_tree(env.game)
    strategy = strategy_of(agent, tree)
    observations, infos = env.reset(seed=0)
    cards = observations["player_0"]["observation"][:, :3].argmax(axis=1)
    counts = np.zeros((3, 2))
    for _ in range(20):
        actions = agent.select_action(observations, infos, sample=True)
        np.add.at(counts, (cards, actions["player_0"]), 1)
    first = tree.levels[0]
    for row in range(len(first.known)):
        card = first.observation["observation"][row, 0, :3].argmax()
        share = counts[card] / counts[card].sum()
        assert np.allclose(strategy[0][row, 0], share, atol=0.05)
    greedy = strategy_of(agent, tree, sample=False)
    for level, own, sure in zip(tree.levels, strategy, greedy, strict=True):
        acts = level.active
        assert np.array_equal(own[acts].argmax(axis=1), sure[acts].argmax(axis=1))
        assert np.allclose(own[acts].sum(axis=1), 1)
        assert not own[~acts].any()


def _larger(params: Any) -> Any:
    """Return parameters of a policy that is surer of itself."""
    return jax.tree.map(lambda x: 3 * x if x.ndim > 1 else x, params)


def test_memory_is_refused_where_positions_have_no_past() -> None:
    env = CompiledVecParallelEnv(TICTACTOE, 1)
    agent = Agent(env, Config(TICTACTOE, n_envs=1, ppo=PPOConfig(gru_size=4)))
    with pytest.raises(ValueError, match="without memory"):
        strategy_of(agent, game_tree(env.game))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exploitability_is_that_of_openspiel(seed: int) -> None:
    pytest.importorskip("pyspiel")
    import pyspiel
    from open_spiel.python import policy
    from open_spiel.python.algorithms import exploitability as theirs

    tree = game_tree(make(KUHN, history=True))
    ours = arbitrary(tree, seed)
    by_text: dict[str, np.ndarray] = {}
    for level, own in zip(tree.levels, ours, strict=True):
        for row, seat in zip(*np.nonzero(level.active), strict=True):
            seen = level.observation["observation"][row, seat]
            card, moves = seen[:3].argmax(), seen[7:].reshape(3, 2)
            said = "".join("pb"[int(m.argmax())] for m in moves if m.any())
            by_text[f"{card}{said}"] = own[row, seat]
    game = pyspiel.load_game("kuhn_poker")
    tabular = policy.TabularPolicy(game)
    assert set(tabular.state_lookup) == set(by_text)
    for text, row in tabular.state_lookup.items():
        tabular.action_probability_array[row] = by_text[text]
    expected = theirs.exploitability(game, tabular)
    assert gains(tree, ours).exploitability == pytest.approx(expected, abs=1e-6)


def test_agents_of_another_game_are_refused() -> None:
    env = CompiledVecParallelEnv(KUHN, 1)
    agent = Agent(env, Config(KUHN, n_envs=1))
    with pytest.raises(ValueError, match="made for"):
        exploitability(agent, TICTACTOE)
    with pytest.raises(ValueError, match="made for"):
        exploitability(agent, make(KUHN, history=True))


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ({"env_id": None}, TypeError, "the id of a game"),
        ({"env_id": KUHN, "target": 0.0}, ConfigError, "target"),
        ({"env_id": KUHN, "target": float("nan")}, ConfigError, "target"),
        ({"env_id": KUHN, "target": "low"}, ConfigError, "target"),
        ({"env_id": KUHN, "max_iterations": 0}, ConfigError, "max_iterations"),
        ({"env_id": KUHN, "hist": True}, TypeError, "hist"),
        ({"env_id": "classic/connect_five-v0"}, ValueError, "connect_five"),
    ],
)
def test_what_cannot_be_solved_is_told(
    args: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        solve(**args)
