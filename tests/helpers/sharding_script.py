"""Train for two updates and save the parameters; run by test_devices in processes of its own.

Usage: python sharding_script.py OUT VARIANT [ADDRESS N_PROCESSES PROCESS]

With the variant ``exchanges``, save in which parts of an update the devices exchange something.
"""

import dataclasses
import json
import re
import sys
from pathlib import Path

import jax

if len(sys.argv) > 3:
    jax.distributed.initialize(sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))

import numpy as np

from kitae_marl import Agent, Config, PPOConfig, train_many
from kitae_marl.loops.program import CompiledLoop
from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv

PPO = PPOConfig(n_steps=26, n_epochs=2, n_minibatches=2, hidden_sizes=(8,))
PARTS = ("play", "process", "update")
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


def exchanges(out: str) -> None:
    """Count what the compiled program exchanges, by the part of an update that asks for it."""
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_enable_compilation_cache", False)  # programs in it bear other names
    config = CONFIGS["plain"]
    env = CompiledVecParallelEnv(config.env_id, config.n_envs)
    program = CompiledLoop(env.game, [Agent(env, config)], [0])._run.as_text() or ""
    collective = re.compile(r" (all-[a-z]+|reduce-scatter|collective-permute)(-start)?\(.*op_name=")
    asked_by = [line for line in program.splitlines() if collective.search(line)]
    counts = {part: sum(f"/{part}/" in line for line in asked_by) for part in PARTS}
    counts["instructions of play"] = program.count("/play/")
    Path(out).write_text(json.dumps(counts))


if __name__ == "__main__":
    exchanges(sys.argv[1]) if sys.argv[2] == "exchanges" else train(sys.argv[1], sys.argv[2])
