"""Three agents learn to cover three landmarks without bumping into each other.

The game is mpe2's simple_spread: a shared reward for covered landmarks, a penalty for collisions,
25 steps. Per agent and episode the random policy gets about -26, a scripted oracle -7.4.

    python examples/spread.py                       # five seeds, 2 million steps each
    python examples/spread.py --seeds 0 --env-steps 200000
"""

import tyro

from kitae_marl import Agent, Config, evaluate, make_vec_env, over_seeds, random_policy

GAME = "mpe/simple_spread-v3"


def train(seed: int, env_steps: int) -> Agent:
    """Train the three agents, which share one network, and keep no files."""
    config = Config(env_id=GAME, seed=seed, env_steps=env_steps)
    env = make_vec_env(GAME, config.n_envs)
    agent = Agent(env, config)
    agent.train(env)  # closes env
    return agent


def main(
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4), env_steps: int = 2_000_000, episodes: int = 200
) -> None:
    """Train once per seed and print the return per agent and episode over all seeds."""
    scores = []
    env = make_vec_env(GAME, n_envs=16)
    for seed in seeds:
        agent = train(seed, env_steps)
        result = evaluate(agent.select_action, env, episodes, seed=1_000_000)
        scores.append(float(result.mean_over_agents().mean()))
        print(f"seed {seed}: return per agent {scores[-1]:.2f}")
    chance = evaluate(random_policy(env), env, episodes, seed=1_000_000)
    env.close()
    print(f"random policy: {chance.mean_over_agents().mean():.2f}")
    if len(seeds) > 1:  # one has no interval
        total = over_seeds(scores)
        interval = f"{total['low']:.2f} .. {total['high']:.2f}"
        print(f"{len(seeds)} seeds: {total['mean']:.2f} ({interval})")


if __name__ == "__main__":
    tyro.cli(main)
