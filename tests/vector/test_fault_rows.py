"""Which tests cover which row of the fault matrix: their names begin with the row's.

=========  ==========================================================  =====================
rows       fault                                                       file
=========  ==========================================================  =====================
V1 to V3   a worker is killed, dies in its step, dies at every start   test_crashes
V4         exceptions in step, reset and constructor                   test_crashes
V5 to V7   hangs and slowness in step, constructor, reset and close    test_crashes
V8         environments that differ                                    test_crashes
V9 to V11  data of the wrong form, not finite, out of bounds           test_data_faults
V12        agents that die, join, return, vanish                       test_data_faults
V13        wrong actions                                               test_actions
V14        episodes that never end                                     test_data_faults
V15, V16   the parent is killed or gets a signal                       test_lifetime
V17, V18   vectors that are not closed, or made again and again        test_lifetime
V19, V20   JAX in the parent; scripts without a main guard             test_lifetime
V17, V20   tests spread over processes; interactive sessions           test_sessions
D1         the same seed gives the same run                            test_determinism
=========  ==========================================================  =====================

Training through V1 and V10 is in ``test_training_faults``; faults together and at bad moments are
in ``test_recovery``.
"""

from __future__ import annotations

import re
from pathlib import Path

ROWS = {f"v{number}" for number in range(1, 21)} | {"d1"}


def test_every_row_has_its_tests() -> None:
    covered: set[str] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        for first, last in re.findall(r"def test_([vd]\d+)_(?:to_v(\d+)_)?", path.read_text()):
            covered.add(first)
            covered.update(f"v{n}" for n in range(int(first[1:]), int(last or 0) + 1))
    assert covered == ROWS
