"""Train tic-tac-toe by self-play for two million steps, then play against what was learned.

You begin (``--seat player_2``: it begins). Say the number of a square; ``u`` takes a move back.

    python examples/play_against_it.py
    python examples/play_against_it.py --seat player_2 --moves 4,0,u,8,1,2,3,5,6,7
"""

import tyro

from kitae_marl import Agent, CompiledVecParallelEnv, Config, PPOConfig, make_vec_env
from kitae_marl.selfplay.boards import Seen, drawing_of
from kitae_marl.selfplay.human import HumanGame, TrainedSeat

GAME = "classic/tictactoe-v3"


def train(env_steps: int, n_envs: int) -> Agent:
    """Train both seats with one network, inside XLA."""
    ppo = PPOConfig(n_steps=16, n_minibatches=8, learning_rate=1e-3, entropy_coef=0.1)
    config = Config(env_id=GAME, n_envs=n_envs, env_steps=env_steps, ppo=ppo)
    env = CompiledVecParallelEnv(GAME, n_envs)
    agent = Agent(env, config)
    agent.train(env)
    return agent


def answers(moves: str):
    """Say what the person says: given moves one after the other, or what is typed."""
    given = iter(moves.split(",")) if moves else None
    while True:
        said = input("your square: ") if given is None else next(given, "q")
        yield said.strip()


def play(game: HumanGame, seat: str, said) -> None:
    """Ask for moves until the game is over, or ``q``."""
    while not game.over:
        (position,) = game.positions()
        if position.agent != seat:
            print(f"it expects {game.thoughts(position).value:+.2f}")
            game.play({})
            continue
        print(drawing_of(GAME).draw(Seen(position.observation, seat == "player_1", ())))
        move = next(said)
        if move == "q":
            return
        if move == "u":
            game.take_back()
        elif move.isdecimal() and int(move) in game.allowed(position):
            game.play({seat: int(move)})
    print(f"over: {game.returns}")


def main(
    seat: str = "player_1", moves: str = "", env_steps: int = 2_000_000, n_envs: int = 512
) -> None:
    """Train, then play one game in PettingZoo's own tic-tac-toe."""
    agent = train(env_steps, n_envs)
    env = make_vec_env(GAME, 1, n_workers=0)
    other = next(name for name in env.possible_agents if name != seat)
    play(HumanGame(env, {other: TrainedSeat(agent)}), seat, answers(moves))
    env.close()


if __name__ == "__main__":
    tyro.cli(main)
