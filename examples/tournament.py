"""Does more training help? Snapshots of one run, a rule of your own and bots play all against all.

Tic-tac-toe is learned by self-play, and the run keeps its parameters four times on the way. Every
pair then meets in PettingZoo's own game, half of the games from each seat.

    python examples/tournament.py
    python examples/tournament.py --game classic/connect_four-v3 --env-steps 8000000
"""

from pathlib import Path

import numpy as np
import tyro

from kitae_marl import Agent, CompiledVecParallelEnv, Config, PPOConfig, tournament


def train(game: str, run: Path, env_steps: int, n_envs: int) -> list[int]:
    """Train both seats with one network, and return the steps at which it was kept."""
    ppo = PPOConfig(n_steps=16, n_minibatches=8, learning_rate=1e-3, entropy_coef=0.1)
    config = Config(
        env_id=game,
        n_envs=n_envs,
        env_steps=env_steps,
        save_every=env_steps // 4,
        keep="all",
        ppo=ppo,
    )
    env = CompiledVecParallelEnv(game, n_envs)
    Agent(env, config).train(env, run, overwrite=True)
    return sorted(int(p.name.removeprefix("step_")) for p in run.glob("checkpoints/step_*"))


def last_legal(observations, infos):
    """Take the last allowed action: a player is any function from what is seen to actions."""
    return {
        agent: np.argmax(seen["action_mask"] * np.arange(1, seen["action_mask"].shape[1] + 1), 1)
        for agent, seen in observations.items()
    }


def main(
    game: str = "classic/tictactoe-v3",
    run: Path = Path("runs/snapshots"),
    env_steps: int = 2_000_000,
    n_envs: int = 512,
    games: int = 200,
) -> None:
    """Train, let all play all, and print ratings and mean scores."""
    steps = train(game, run, env_steps, n_envs)
    snapshots = {f"after {step:,}": f"{run}@{step}" for step in steps}
    others = {"one_ply": "bot:one_ply", "last_legal": last_legal, "random": "random"}
    result = tournament({**snapshots, **others}, game, games, sample=True)
    print(result)
    print("mean scores against the others, in the order of the lines:")
    for name, scores in zip(result.payoff.players, result.payoff.score, strict=True):
        print(f"{name:20s}", " ".join(f"{score:5.2f}" for score in scores if score == score))


if __name__ == "__main__":
    tyro.cli(main)
