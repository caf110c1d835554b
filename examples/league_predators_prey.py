"""A league of two sides: predators against prey, each learning against earlier selves of the other.

Three predators (adversary_0 to 2) hunt one prey (agent_0). A side that only meets the newest other
one may forget how to beat older ones. Here a side meets the other's earlier selves in three of four
games, the harder ones more often. Nobody "wins" this game, so there are no ratings: the matrices
say what a period of learning has got against each snapshot, for each side.

    python examples/league_predators_prey.py
    kitae-marl league tag --out tag.png
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tyro

from kitae_marl import League, MemberRecord, Opponents, train


def harder(members: Sequence[MemberRecord]) -> list[float]:
    """Choose opponents: the less the learner has got against one, the more often it is met."""
    return [(1.05 - member.score) ** 2 for member in members]


def main(
    run: Path = Path("runs/tag"), env_steps: int = 2_000_000, n_envs: int = 128, slots: int = 8
) -> None:
    """Train both sides, and print what the last period got against the snapshots of the other."""
    opponents = Opponents(
        {"latest": 0.25, "pool": 0.75},
        teams={"predators": "adversary_*", "prey": "agent_*"},
        matchmaking=harder,
        snapshot_every=env_steps // 10,
        slots=slots,
    )
    train(
        "mpe/simple_tag-v3",
        run,
        overwrite=True,
        opponents=opponents,
        env_steps=env_steps,
        n_envs=n_envs,
        n_steps=25,
        gamma=0.95,
    )
    for team, matrix in League(run).return_matrices().items():
        print(f"mean return of the {team}, by the period that learned (rows) and the opponent:")
        print(" " * 22 + " ".join(f"{name:>12s}" for name in matrix.columns))
        for name, row in zip(matrix.rows, matrix.own, strict=True):
            cells = ["never met" if np.isnan(value) else f"{value:.2f}" for value in row]
            print(f"{name:22s}" + " ".join(f"{cell:>12s}" for cell in cells))


if __name__ == "__main__":
    tyro.cli(main)
