"""Three walkers carry a package: continuous actions, and a network for each walker.

The game is PettingZoo's multiwalker, pip install "kitae-marl[sisl]". Each walker moves four motors
with torques in [-1, 1]; all fall when one does. The random policy gets about -100 per walker.

    python examples/multiwalker.py
    python examples/multiwalker.py --env-steps 20000 --run-dir runs/walk
"""

from pathlib import Path

import tyro

from kitae_marl import Agent, Config, PPOConfig, evaluate, make_vec_env, random_policy

GAME = "sisl/multiwalker-v9"


def main(
    env_steps: int = 500_000, episodes: int = 50, seed: int = 0, run_dir: Path | None = None
) -> None:
    """Train, and print the return of every walker beside the random policy's."""
    ppo = PPOConfig(share_params=False, entropy_coef=0.0, learning_rate=3e-4, n_epochs=10)
    config = Config(env_id=GAME, seed=seed, env_steps=env_steps, ppo=ppo)
    env = make_vec_env(GAME, config.n_envs)
    agent = Agent(env, config)
    agent.train(env, run_dir)  # closes env
    env = make_vec_env(GAME, config.n_envs)
    for name, policy in (("trained", agent.select_action), ("random", random_policy(env))):
        rows = evaluate(policy, env, episodes, seed=1_000_000).summary()["returns"]
        shown = {who: f"{row['mean']:.1f} +- {row['stderr']:.1f}" for who, row in rows.items()}
        print(f"{name:8s} {shown}")
    env.close()


if __name__ == "__main__":
    tyro.cli(main)
