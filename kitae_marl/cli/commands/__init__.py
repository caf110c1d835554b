"""What the commands of the command line do; each takes its parsed options, returns its JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kitae_marl.cli.commands.games import bench, doctor, list_games, verify
from kitae_marl.cli.commands.playing import brackets, compare, evaluate
from kitae_marl.cli.commands.showing import export, plot, watch
from kitae_marl.cli.commands.training import show_runs, train
from kitae_marl.cli.options.games import Bench, Doctor, List, Verify
from kitae_marl.cli.options.playing import Brackets, Compare, Evaluate
from kitae_marl.cli.options.showing import Export, Plot, Watch
from kitae_marl.cli.options.training import Runs, Train

RUN: dict[type, Callable[[Any], dict[str, Any]]] = {
    Train: train,
    Runs: show_runs,
    Evaluate: evaluate,
    Compare: compare,
    Brackets: brackets,
    Watch: watch,
    Plot: plot,
    Export: export,
    List: list_games,
    Doctor: doctor,
    Verify: verify,
    Bench: bench,
}
