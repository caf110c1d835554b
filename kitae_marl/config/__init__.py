"""Settings: frozen dataclasses, checked when they are made, stored as JSON."""

from kitae_marl.config.alphazero import AlphaZeroConfig
from kitae_marl.config.learner import LearnerConfig
from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config

__all__ = ["AlphaZeroConfig", "Config", "LearnerConfig", "PPOConfig"]
