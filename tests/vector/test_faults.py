"""Reports of workers become one error, whose text a person can read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from vector_games import CountGame

from kitae_marl.errors import EnvError
from kitae_marl.vector.stepping.faults import error_from, report_exception
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv


def reports(*errors: Exception) -> list[tuple[dict[str, Any], int, int]]:
    """One report for each environment."""
    return [
        (report_exception(error, env_index=i, phase="step", step=7, seed=i), 100 + i, 0)
        for i, error in enumerate(errors)
    ]


def test_copies_of_one_error_are_counted() -> None:
    text = str(error_from(reports(*[ValueError("out of fuel")] * 16)))
    assert text.startswith("env 0 (pid 100, step 7 of its episode, seed 0): ValueError: out of")
    assert text.endswith("Also failed:\nand 15 more, with the same error")
    assert text.count("out of fuel") == 2  # in the message and in the traceback


def test_other_errors_are_named_once_each() -> None:
    errors = [ValueError("a"), KeyError("b"), ValueError("a"), KeyError("b"), KeyError("c")]
    text = str(error_from(reports(*errors)))
    assert text.split("Also failed:\n")[1].splitlines() == [
        "and 1 more, with the same error",
        "env 1 (pid 101, step 7 of its episode, seed 1): KeyError: 'b' (and 1 more)",
        "env 4 (pid 104, step 7 of its episode, seed 4): KeyError: 'c'",
    ]
    assert "Also failed" not in str(error_from(reports(ValueError("a"))))


def test_a_vector_whose_games_all_fail_says_it_in_one_line() -> None:
    def fail(game: Any) -> None:
        raise ValueError("out of fuel")

    with SubProcVecParallelEnv([lambda: CountGame(fault=fail)] * 5, n_workers=0) as vec:
        vec.reset(seed=0)
        with pytest.raises(EnvError, match="and 4 more, with the same error"):
            vec.step({agent: np.zeros(5, int) for agent in vec.possible_agents})
