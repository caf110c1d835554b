"""After every test with worker processes nothing may be left behind."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
from vector_leaks import children, descriptors


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fail if a test leaves a child, a zombie, a descriptor or a name in /dev/shm."""
    gc.collect()
    before = children(), descriptors(), set(os.listdir("/dev/shm"))
    yield
    gc.collect()
    after = children(), descriptors(), set(os.listdir("/dev/shm"))
    assert not after[0] - before[0]
    assert after[1] <= before[1]
    assert not after[2] - before[2]
