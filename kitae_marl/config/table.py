"""This file has the settings of policies that are tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kitae_marl.config.checks import require_count
from kitae_marl.config.described import described
from kitae_marl.config.learner import DECLARED, Declared, LearnerConfig


@described
@dataclass(frozen=True)
class TableConfig(LearnerConfig):
    """Settings of a policy that is a table. It learns nothing: ``kitae-marl solve`` writes it."""

    n_rows: int = 1
    """Observations that each agent has a row for, at most."""

    FIXED: ClassVar[tuple[str, ...]] = (*LearnerConfig.FIXED, "n_rows")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count(self.key("n_rows"), self.n_rows)


DECLARED["table"] = Declared(TableConfig)
