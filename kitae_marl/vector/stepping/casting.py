"""This file says which values may go into an array of another dtype: those that stay as they are.

NumPy casts integers that are too large by dropping their high bits, in silence, and JAX does so
with those beyond 32 bits. Both would train on numbers that no game has sent.
"""

from __future__ import annotations

from functools import cache

import numpy as np

INTEGERS = "biu"
"""Kinds of dtypes that hold whole numbers."""


def is_kind_of(given: np.dtype, wanted: np.dtype) -> bool:
    """Whether values of one dtype may stand for those of another, if they fit.

    Example:
        >>> is_kind_of(np.dtype(np.int64), np.dtype(np.uint8))
        True
        >>> is_kind_of(np.dtype(np.float32), np.dtype(np.uint8))  # a picture scaled to [0, 1]?
        False
    """
    return given.kind in (INTEGERS if wanted.kind in INTEGERS else "biuf")


@cache  # asked for every value of games whose dtypes are not those of their spaces
def may_wrap(given: np.dtype, wanted: np.dtype) -> bool:
    """Whether some integers of one dtype are none of another.

    Example:
        >>> may_wrap(np.dtype(np.uint8), np.dtype(np.int8))
        True
        >>> may_wrap(np.dtype(np.uint8), np.dtype(np.int16))
        False
    """
    return wanted.kind in INTEGERS and not np.can_cast(given, wanted)


def integer_range(dtype: np.dtype) -> tuple[int, int]:
    """Return smallest and largest value of an integer dtype or of bool."""
    if dtype.kind == "b":
        return 0, 1
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def learnable_range(dtype: np.dtype) -> tuple[int, int] | None:
    """Return the integers of a dtype that JAX keeps as they are; None where it keeps all.

    Example:
        >>> learnable_range(np.dtype(np.int64))
        (-2147483648, 2147483647)
    """
    if dtype.kind not in INTEGERS or dtype.itemsize < 8:
        return None
    return integer_range(np.dtype(np.int32 if dtype.kind == "i" else np.uint32))


def first_outside(values: np.ndarray, low: int, high: int) -> tuple[int, ...] | None:
    """Return the place of the first value that is not in ``[low, high]``; None where all are.

    Example:
        >>> first_outside(np.array([1, 300]), -128, 127)
        (1,)
    """
    places = np.argwhere((values < low) | (values > high))
    return tuple(places[0].tolist()) if len(places) else None


def cast(values: np.ndarray, dtype: np.dtype, what: str) -> np.ndarray:
    """Return values as another dtype.

    Args:
        values: of any shape.
        dtype: what they are to be.
        what: what they are, for the message.

    Raises:
        ValueError: if an integer among them is none of that dtype.

    Example:
        >>> cast(np.array([7]), np.dtype(np.int8), "a number").dtype
        dtype('int8')
    """
    if values.dtype.kind in INTEGERS and may_wrap(values.dtype, dtype):
        low, high = integer_range(dtype)
        place = first_outside(values, low, high)
        if place is not None:
            raise ValueError(
                f"expected {what} in [{low}, {high}], as {dtype} has them, got {values[place]} at "
                f"{list(place)}; declare a wider dtype in the space."
            )
    return np.asarray(values, dtype)
