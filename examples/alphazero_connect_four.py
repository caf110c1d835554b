"""Search that learns: connect four by Gumbel AlphaZero, rated bare and with search.

A network learns from searches of 16 positions and from the results of its games against itself. At
the end it meets random and scripted players in PettingZoo's own game, once by its network alone and
once with 64 simulations before each move.

    python examples/alphazero_connect_four.py
    kitae-marl tournament connect_four random --simulations 0,16 --games 20
    kitae-marl play classic/connect_four-v3 connect_four --simulations 64 --moves 3,?,q
"""

from pathlib import Path

import tyro

from kitae_marl import tournament, train

GAME = "classic/connect_four-v3"


def main(
    run: Path = Path("runs/connect_four"),
    env_steps: int = 2_000_000,
    n_envs: int = 256,
    simulations: int = 64,
    games: int = 200,
) -> None:
    """Train, then print who is how strong, the random policy at 0."""
    trained = train(GAME, run, overwrite=True, algo="alphazero", env_steps=env_steps, n_envs=n_envs)
    players = {
        "network alone": trained.agent,
        f"{simulations} simulations": trained.agent.player(simulations=simulations),
        "one ply": "bot:one_ply",
        "centre": "bot:centre",
        "random": "random",
    }
    print(tournament(players, GAME, games))


if __name__ == "__main__":
    tyro.cli(main)
