"""Five seeds of simple_spread in one compiled program, then played in mpe2 itself.

The twin of the game runs inside XLA; one program, compiled once, trains all five. Every run is an
ordinary run folder: evaluate it, watch it, go on with it.

    python examples/compiled_spread.py
    python examples/compiled_spread.py --seeds 0 1 --env-steps 200000
"""

from pathlib import Path

import tyro

from kitae_marl import Config, evaluate, make_vec_env, over_seeds, train_many

GAME = "mpe/simple_spread-v3"


def main(
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    env_steps: int = 2_000_000,
    episodes: int = 200,
    run_dir: Path = Path("runs/compiled-spread"),
) -> None:
    """Train all seeds at once and print the return per agent and episode of each."""
    config = Config(env_id=GAME, env_steps=env_steps)
    trained = train_many(GAME, config, seeds, run_dir=run_dir, overwrite=True)
    env = make_vec_env(GAME, n_envs=16)  # mpe2's own game
    scores = []
    for run in trained:
        result = evaluate(run.agent.select_action, env, episodes, seed=1_000_000)
        scores.append(float(result.mean_over_agents().mean()))
        print(f"seed {run.agent.config.seed}: return per agent {scores[-1]:.2f} ({run.run_dir})")
    env.close()
    if len(seeds) > 1:  # one has no interval
        total = over_seeds(scores)
        interval = f"{total['low']:.2f} .. {total['high']:.2f}"
        print(f"{len(seeds)} seeds: {total['mean']:.2f} ({interval})")


if __name__ == "__main__":
    tyro.cli(main)
