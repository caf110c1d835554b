"""A single-agent Gymnasium task, trained as a game with the one agent ``agent_0``.

python examples/cartpole.py                     # five seeds; 500 is the most there is
"""

import gymnasium
import tyro

from kitae_marl import Agent, Config, check_env, evaluate, make_vec_env, over_seeds

GAME = "gymnasium:CartPole-v1"


def train(seed: int, env_steps: int) -> Agent:
    """Train on a plain Gymnasium vector environment, which ``check_env`` makes a parallel one."""
    config = Config(env_id=GAME, seed=seed, env_steps=env_steps, n_envs=8)
    env = gymnasium.make_vec("CartPole-v1", num_envs=config.n_envs)
    agent = Agent(check_env(env), config)
    agent.train(env)  # closes env
    return agent


def main(
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4), env_steps: int = 400_000, episodes: int = 200
) -> None:
    """Train once per seed and print the mean length of an episode, which is its return."""
    scores = []
    env = make_vec_env(GAME, n_envs=8, n_workers=0)
    for seed in seeds:
        agent = train(seed, env_steps)
        result = evaluate(agent.select_action, env, episodes, seed=1_000_000)
        scores.append(float(result.mean_over_agents().mean()))
        print(f"seed {seed}: return {scores[-1]:.1f}")
    env.close()
    if len(seeds) > 1:  # one has no interval
        total = over_seeds(scores)
        interval = f"{total['low']:.1f} .. {total['high']:.1f}"
        print(f"{len(seeds)} seeds: {total['mean']:.1f} ({interval})")


if __name__ == "__main__":
    tyro.cli(main)
