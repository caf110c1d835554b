"""What ``reset`` and ``step`` return: dicts of views, made once, and the infos of one step."""

from __future__ import annotations

from typing import Any

import numpy as np

from kitae_marl.data.stacking import AgentDict, map_leaves
from kitae_marl.vector.stepping.blocks import Blocks, observed_mask


class Views:
    """The per-agent dicts over the shared blocks.

    Every dict is made once; a step only changes the memory behind its arrays.
    """

    def __init__(self, blocks: Blocks, with_state: bool) -> None:
        self._blocks = blocks
        self._agents = {group.name: group.agents for group in blocks.groups}
        self._with_state = with_state
        self.observation = AgentDict(blocks.observation, self._agents)
        self.reward = self._numbers(blocks.reward)
        self.terminated = self._numbers(blocks.terminated)
        self.truncated = self._numbers(blocks.truncated)
        self._active = self._numbers(blocks.active)
        self._final = AgentDict(blocks.final, self._agents)
        self._return = self._numbers(blocks.episode_return)
        self._length = self._numbers(blocks.episode_length)
        self._mask: AgentDict | None = None
        self._unmasked: list[tuple[np.ndarray, np.ndarray, int]] = []
        self.find_masks()

    def _numbers(self, numbers: np.ndarray) -> AgentDict:
        """Split ``[E, N]`` numbers by agent."""
        return AgentDict(self._blocks.per_group(numbers), self._agents)

    def find_masks(self) -> None:
        """Collect the groups that have action masks; called again when a worker met the first."""
        blocks = self._blocks
        masks, self._unmasked = {}, []
        active = blocks.per_group(blocks.active)
        for i, group in enumerate(blocks.groups):
            mask = observed_mask(group, blocks.observation[group.name])
            if mask is not None:
                masks[group.name] = mask
            elif blocks.masked[:, i].any():
                masks[group.name] = blocks.mask[group.name]
                if not blocks.masked[:, i].all():
                    self._unmasked.append((blocks.mask[group.name], active[group.name], i))
        self._mask = AgentDict(masks, self._agents) if masks else None

    def infos(self, ended: bool) -> dict[str, Any]:
        """Return the infos of one step."""
        infos: dict[str, Any] = {"active": self._active}
        if self._mask is not None:
            for block, active, i in self._unmasked:
                rows = ~self._blocks.masked[:, i]
                block[rows] = active[rows][..., None]
            infos["action_mask"] = self._mask
        if ended:
            self._add_final(infos)
        return infos

    def _add_final(self, infos: dict[str, Any]) -> None:
        """Add what belongs to episodes that ended on this step."""
        blocks = self._blocks
        infos["_final_observation"] = blocks.ended.copy()
        infos["final_observation"] = self._final
        if self._with_state and blocks.final_state is not None:
            infos["final_state"] = blocks.final_state
        infos["_episode"] = blocks.finished.copy()
        infos["episode"] = {"return": self._return, "length": self._length}

    def interrupt(self, rows: list[int], in_game: np.ndarray) -> None:
        """Turn rows of environments that were started again into the end of an episode.

        Args:
            rows: the environments; their final observations have been kept before.
            in_game: which agents ``[E, N]`` were in the game when it was lost.
        """
        blocks = self._blocks
        blocks.reward[rows] = 0.0
        blocks.terminated[rows] = False
        blocks.truncated[rows] = in_game[rows]
        blocks.ended[rows] = True
        blocks.finished[rows] = False

    def keep_final(self, rows: list[int]) -> None:
        """Copy the observations delivered last into the final ones."""
        blocks = self._blocks

        def keep(final: np.ndarray, block: np.ndarray) -> None:
            final[rows] = block[rows]

        for name, block in blocks.observation.items():
            map_leaves(keep, blocks.final[name], block)
        if blocks.final_state is not None and blocks.state is not None:
            blocks.final_state[rows] = blocks.state[rows]


def metrics(blocks: Blocks, restarts: int, cuts: int) -> dict[str, float]:
    """Return the metrics of a vector environment; see ``SubProcVecParallelEnv.metrics``."""
    return {
        "faults/worker_restarts": float(restarts),
        "faults/nonfinite": float(cuts),
        "env/step_ms_mean": 1e3 * float(blocks.seconds.mean()),
        "env/step_ms_max": 1e3 * float(blocks.seconds.max()),
        "episode/running_steps_max": float(blocks.steps.max()),
        "episode/running_return_mean": float(blocks.running_return.mean()),
    }
