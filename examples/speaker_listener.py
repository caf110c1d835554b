"""A speaker learns to name a colour, a listener to go there: two agents with different spaces.

The game is mpe2's simple_speaker_listener. The speaker sees the goal's colour and says one of
three words; the listener hears the word, sees the landmarks and walks. Both get the same reward,
25 steps. Per agent and episode the random policy gets about -38, a listener that knows the goal
-7.0.

    python examples/speaker_listener.py             # five seeds
    python examples/speaker_listener.py --seeds 0 --env-steps 200000
"""

import tyro

from kitae_marl import Agent, Config, PPOConfig, evaluate, make_vec_env, over_seeds, random_policy

GAME = "mpe/simple_speaker_listener-v4"


def train(seed: int, env_steps: int) -> Agent:
    """Train both agents; they differ in spaces, so each is a group with a network of its own."""
    # Few words and late rewards: a short horizon, and little reward for keeping words random.
    ppo = PPOConfig(n_epochs=10, gamma=0.9, gae_lambda=0.9, entropy_coef=0.001)
    config = Config(env_id=GAME, seed=seed, env_steps=env_steps, ppo=ppo)
    env = make_vec_env(GAME, config.n_envs)
    agent = Agent(env, config)
    print({group.name: (group.observation_space, group.action_space) for group in agent.groups})
    agent.train(env)  # closes env
    return agent


def main(
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4), env_steps: int = 1_500_000, episodes: int = 200
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
