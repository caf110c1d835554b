"""Self-play that remembers: connect four against a pool of earlier selves, rated by its games.

In half of the games the learner plays both seats, in the rest it meets snapshots of itself (about
equal ones more often) and the random policy. The league of the run, on disk, says who beat whom;
at the end the learner meets scripted players that it has never seen, in PettingZoo's own game.

    python examples/self_play_connect_four.py
    python examples/self_play_connect_four.py --env-steps 30000000
    kitae-marl league pool --out league.png
"""

from pathlib import Path

import tyro

from kitae_marl import League, Opponents, tournament, train

GAME = "classic/connect_four-v3"


def main(
    run: Path = Path("runs/pool"), env_steps: int = 8_000_000, n_envs: int = 512, games: int = 200
) -> None:
    """Train against a pool, print who of it is how strong, and meet scripted players."""
    trained = train(
        GAME,
        run,
        overwrite=True,
        opponents=Opponents(
            {"latest": 0.5, "pool": 0.45, "random": 0.05}, matchmaking="pfsp", rematch_every=16
        ),
        env_steps=env_steps,
        n_envs=n_envs,
        n_steps=32,
        n_minibatches=8,
        learning_rate=1e-3,
        hidden_sizes=(256, 256),
        activation="relu",
        entropy_coef=0.15,
        gae_lambda=0.9,
    )
    print(League(run).ratings())
    others = {"one ply": "bot:one_ply", "centre": "bot:centre", "random": "random"}
    print(tournament({"learner": trained.agent, **others}, GAME, games))


if __name__ == "__main__":
    tyro.cli(main)
