"""Connect four by mirror self-play: one network plays both seats against itself.

Games and learning run inside XLA, on the compiled twin. What was learned is then played in
PettingZoo's own game, from both seats, against a player who moves at random.

    python examples/compiled_connect_four.py
    python examples/compiled_connect_four.py --game classic/tictactoe-v3 --env-steps 5000000
"""

import tyro

from kitae_marl import (
    Agent,
    CompiledVecParallelEnv,
    Config,
    PPOConfig,
    evaluate_sides,
    make_vec_env,
    random_policy,
)


def train(game: str, seed: int, env_steps: int, n_envs: int) -> Agent:
    """Train by self-play: both seats are one group, and a group shares its network."""
    ppo = PPOConfig(
        n_steps=32,
        n_minibatches=8,
        learning_rate=1e-3,
        entropy_coef=0.12,  # much: a player that varies its moves meets the positions of weak ones
        gae_lambda=0.9,
        hidden_sizes=(256, 256),
        activation="relu",
    )
    config = Config(env_id=game, seed=seed, n_envs=n_envs, env_steps=env_steps, ppo=ppo)
    env = CompiledVecParallelEnv(game, n_envs)
    agent = Agent(env, config)
    agent.train(env)
    return agent


def main(
    game: str = "classic/connect_four-v3",
    seed: int = 0,
    env_steps: int = 8_000_000,
    n_envs: int = 512,
    episodes: int = 500,
) -> None:
    """Train, play so many games from each seat, and print how they ended."""
    agent = train(game, seed, env_steps, n_envs)
    env = make_vec_env(game, 16)  # PettingZoo's own game
    result = evaluate_sides(agent.select_action, random_policy(env), env, episodes, seed=1_000_000)
    env.close()
    for seat, returns in result.returns.items():
        won, lost = (returns > 0).mean(), (returns < 0).mean()
        print(f"{seat}: won {won:.1%}, lost {lost:.1%} of {len(returns)} games against random")


if __name__ == "__main__":
    tyro.cli(main)
