"""Kuhn poker solved, and met: the player that nobody gains against, and one that always passes.

The solution comes from the rules alone, by counterfactual regret minimisation. Somebody who passes
whatever he holds loses to whoever knows it, and a little to the solution, which does not.

    python examples/solve_kuhn.py
    kitae-marl exploit solved
"""

from pathlib import Path
from typing import Any

import tyro

from kitae_marl import exploitability, play_match, solve

GAME = "kitae/kuhn_poker-v0"
CARDS = "JQK"


def always_pass(observations: dict[str, Any], infos: Any) -> dict[str, Any]:
    """Pass, whatever the card."""
    return {
        agent: seen["observation"][:, 0].astype(int) * 0 for agent, seen in observations.items()
    }


def main(run: Path = Path("runs/solved"), target: float = 1e-4, games: int = 2000) -> None:
    """Solve the game, show how its first player opens, and let it meet another one."""
    solved = solve(GAME, target=target, history=True)
    solved.agent.save(run, overwrite=True)
    print(f"exploitability {solved.exploitability:.6f} after {solved.iterations} iterations")
    print(f"worth of the first seat {solved.values[0]:.4f} (known: -1/18 = {-1 / 18:.4f})")

    for rank, card in enumerate(CARDS):
        table = solved.agent.state["player"]
        opens = (table["seen"][0, :, rank] == 1) & (table["seen"][0, :, 7:].max(axis=-1) == 0)
        bets = table["probabilities"][0][opens][0]
        print(f"the first player with {card} bets with probability {bets[1]:.2f}")

    gained = exploitability(always_pass, GAME).exploitability
    print(f"against who always passes {gained:.2f} chips a game are to be gained")
    match = play_match(solved.agent, always_pass, GAME, games, sample=True, history=True)
    won = sum(one.score if one.first == "a" else 1 - one.score for one in match.games)
    print(f"the solution wins {won / len(match.games):.3f} of {games} games against it")


if __name__ == "__main__":
    tyro.cli(main)
