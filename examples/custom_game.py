"""Write your own compiled game in forty lines: two walkers on a ring look for each other.

The script checks the game with PettingZoo's own test, trains on it without ever leaving XLA, and
compares the walkers with random ones.

    python examples/custom_game.py
"""

import warnings
from typing import Any, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from kitae_envs.core import Game, Outcome, View
from kitae_envs.parallel import GameParallelEnv

from kitae_marl import Agent, CompiledVecParallelEnv, Config, evaluate, random_policy

CELLS, LIMIT = 9, 20


class Walk(NamedTuple):
    place: jax.Array  # int32 [2], the cell of each walker
    age: jax.Array  # int32, steps taken


class Ring(Game):
    """Both walkers see where both are; they get 1 for meeting and -0.1 for every step."""

    id = "mine/ring-v0"
    possible_agents = ("walker_0", "walker_1")  # equal spaces and names: one group, "walker"

    def observation_space(self, agent: str) -> gym.Space:
        return gym.spaces.Box(0.0, 1.0, (2 * CELLS,), np.float32)

    def action_space(self, agent: str) -> gym.Space:
        return gym.spaces.Discrete(3)  # left, stay, right

    def start(self, key: jax.Array) -> Walk:
        return Walk(jax.random.randint(key, (2,), 0, CELLS), jnp.zeros((), jnp.int32))

    def transition(self, key: jax.Array, state: Walk, action: Any) -> tuple[Walk, Outcome]:
        state = Walk((state.place + action["walker"] - 1) % CELLS, state.age + 1)
        met, late = state.place[0] == state.place[1], state.age >= LIMIT
        both = jnp.ones(2, bool)
        reward = jnp.where(both & met, 1.0, -0.1)
        return state, Outcome(
            {"walker": reward}, {"walker": both & met}, {"walker": both & late & ~met}
        )

    def observe(self, state: Walk) -> View:
        mine = jax.nn.one_hot(state.place, CELLS)
        seen = jnp.concatenate([mine, mine[::-1]], axis=1)
        return View({"walker": seen}, {"walker": ()}, {"walker": jnp.ones(2, bool)})

    def frame(self, state: Walk) -> np.ndarray:
        picture = np.full((1, CELLS, 3), 255, np.uint8)
        picture[0, state.place[0], 1:] = 0
        picture[0, state.place[1], :2] = 0
        return picture.repeat(40, axis=0).repeat(40, axis=1)


def main(env_steps: int = 300_000, n_envs: int = 64) -> tuple[float, float]:
    """Check the game, train on it inside XLA, compare with random walkers; return both scores."""
    with warnings.catch_warnings():  # pettingzoo.test imports games the old way
        warnings.simplefilter("ignore", DeprecationWarning)
        from pettingzoo.test import parallel_api_test
    parallel_api_test(GameParallelEnv(Ring()))

    config = Config(env_id="mine/ring-v0", n_envs=n_envs, env_steps=env_steps)
    env = CompiledVecParallelEnv(Ring(), n_envs)
    agent = Agent(env, config)
    agent.train(env)  # closes env; the games run inside the training program

    env = CompiledVecParallelEnv(Ring(), n_envs)
    trained = evaluate(agent.select_action, env, 200, seed=1).mean_over_agents().mean()
    chance = evaluate(random_policy(env), env, 200, seed=1).mean_over_agents().mean()
    env.close()
    print(f"return per walker: trained {trained:.2f}, random {chance:.2f}")
    return float(trained), float(chance)


if __name__ == "__main__":
    tyro.cli(main)
