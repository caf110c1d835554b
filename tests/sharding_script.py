"""Train for two updates and save the parameters; run by test_sharding in processes of its own.

Usage: python sharding_script.py OUT VARIANT [ADDRESS N_PROCESSES PROCESS]
"""

import dataclasses
import sys

import jax

if len(sys.argv) > 3:
    jax.distributed.initialize(sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))

import numpy as np

from kitae_marl import Agent, Config, PPOConfig, train_many
from kitae_marl.vector.compiled import CompiledVecParallelEnv

PPO = PPOConfig(n_steps=26, n_epochs=2, n_minibatches=2, hidden_sizes=(8,))
CONFIGS = {
    "plain": Config(env_id="mpe/simple-v3", n_envs=8, env_steps=2 * 26 * 8, ppo=PPO),
    "all": Config(
        env_id="mpe/simple_spread-v3",
        algo="mappo",
        n_envs=8,
        env_steps=2 * 26 * 8,
        ppo=dataclasses.replace(
            PPO,
            share_params=False,
            gru_size=4,
            chunk_length=13,
            normalize_observation=True,
            normalize_return=True,
        ),
    ),
}


def train(out: str, variant: str) -> None:
    """Train with settings that both this script and the test use."""
    jax.config.update("jax_disable_most_optimizations", True)
    if variant == "many":
        config = CONFIGS["plain"]
        agents = [run.agent for run in train_many(config.env_id, config, (1, 2), show=False)]
    else:
        config = CONFIGS[variant]
        env = CompiledVecParallelEnv(config.env_id, config.n_envs)
        agents = [Agent(env, config)]
        agents[0].train(env, None if jax.process_index() else f"{out}.run", show=False)
    states = [agent.run_state() for agent in agents]
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(states)]
    np.savez(out, *leaves, n_devices=len(jax.devices()), n_processes=jax.process_count())


if __name__ == "__main__":
    train(sys.argv[1], sys.argv[2])
