"""Every transport in turn; after tests with worker processes nothing may be left behind."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
from thread_worker import ThreadWorker
from vector_leaks import children, descriptors, new_names

from kitae_marl import SubProcVecParallelEnv


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fail if a test leaves a child, a zombie, a descriptor or a name in /dev/shm."""
    gc.collect()
    before = children(), descriptors(), set(os.listdir("/dev/shm"))
    yield
    gc.collect()
    after = children(), descriptors()
    assert not after[0] - before[0]
    assert after[1] <= before[1]
    assert not new_names(before[2])


@pytest.fixture(params=["inline", "processes", "threads"])
def n_workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Number of workers of a vector, one time for each transport; with threads they are such."""
    if request.param == "threads":
        monkeypatch.setattr(SubProcVecParallelEnv, "transport", ThreadWorker)
    return 0 if request.param == "inline" else 2
