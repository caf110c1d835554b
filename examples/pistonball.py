"""Twenty pistons push a ball by what they see: pictures made small by SuperSuit's wrappers.

The game is PettingZoo's pistonball, pip install "kitae-marl[butterfly]". Every piston sees its
surroundings as a picture of 457 x 120 pixels; here they become grey, 42 x 42, and the last four are
stacked to show motion. PettingZoo's and SuperSuit's wrappers go around our environments as around
PettingZoo's own.

    python examples/pistonball.py
    python examples/pistonball.py --n-pistons 5 --env-steps 20000
    cd examples && kitae-marl train pistonball:pictures --n-envs 8
"""

from functools import partial

import supersuit
import tyro
from pettingzoo import ParallelEnv

from kitae_marl import (
    Agent,
    Config,
    PPOConfig,
    SubProcVecParallelEnv,
    evaluate,
    make_parallel_env,
    random_policy,
)


def pictures(n_pistons: int = 20, size: int = 42) -> ParallelEnv:
    """Pistonball whose pistons see four small grey pictures."""
    env = make_parallel_env("butterfly/pistonball-v6", n_pistons=n_pistons)
    env = supersuit.color_reduction_v0(env, mode="B")
    env = supersuit.resize_v1(env, x_size=size, y_size=size)
    return supersuit.frame_stack_v1(env, 4)


def main(
    n_pistons: int = 20,
    env_steps: int = 200_000,
    n_envs: int = 8,
    n_steps: int = 64,
    episodes: int = 8,
    seed: int = 0,
) -> None:
    """Train, and print the return per piston beside the random policy's."""
    ppo = PPOConfig(n_steps=n_steps)
    config = Config(
        env_id="pistonball:pictures", seed=seed, n_envs=n_envs, env_steps=env_steps, ppo=ppo
    )
    env_fns = [partial(pictures, n_pistons)] * n_envs
    env = SubProcVecParallelEnv(env_fns)
    agent = Agent(env, config)
    agent.train(env)  # closes env
    env = SubProcVecParallelEnv(env_fns)
    for name, policy in (("trained", agent.select_action), ("random", random_policy(env))):
        returns = evaluate(policy, env, episodes, seed=1_000_000).mean_over_agents()
        print(f"{name:8s} {returns.mean():.1f} per piston")
    env.close()


if __name__ == "__main__":
    tyro.cli(main)
