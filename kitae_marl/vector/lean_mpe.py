"""MPE games in one pass: actions in, one world step, observations out."""

from __future__ import annotations

from typing import Any

from kitae_marl.vector.lean import LeanParallelEnv, Peeled, Step


def is_mpe(core: Any) -> bool:
    """Whether a game is one of mpe2's and steps the way they all do."""
    for base in type(core).__mro__:
        if base.__module__ == "mpe2._mpe_utils.simple_env" and base.__name__ == "SimpleEnv":
            return type(core).step is base.step and core.render_mode != "human"
    return False


class LeanMPEParallelEnv(LeanParallelEnv):
    """A game of mpe2, stepped as one world instead of agent by agent.

    Args:
        peeled: the game without its checking wrappers.
    """

    def __init__(self, peeled: Peeled) -> None:
        super().__init__(peeled)

    def step(self, actions: dict[str, Any]) -> Step:
        """Let every agent act once; after the end everything is empty until ``reset``."""
        core = self.core
        agents = self.agents
        if not agents:
            return {}, {}, {}, {}, {}
        core.current_actions = [self._checks[agent](actions[agent]) for agent in agents]
        core._execute_world_step()
        core.steps += 1
        truncated = bool(core.steps >= core.max_cycles)
        terminated = bool(not truncated and core.scenario.is_terminal(core.world))
        observations = {agent: core.observe(agent) for agent in agents}
        rewards, infos = dict(core.rewards), dict(core.infos)
        if truncated or terminated:
            self.agents = []
            core.agents = []
        return (
            observations,
            rewards,
            dict.fromkeys(agents, terminated),
            dict.fromkeys(agents, truncated),
            infos,
        )
