"""This file collects what is logged of games, for others to log it or to report it.

A worker sends it to the parent, which says it once for all; the doctor takes it as notes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger("kitae_marl.vector")
"""What has to be said of games goes here."""


@contextmanager
def collected() -> Iterator[list[logging.LogRecord]]:
    """Collect what this thread would log of games, in place of logging it.

    Example:
        >>> with collected() as records:
        ...     logger.warning("a game that %s", "limps")
        >>> [record.getMessage() for record in records]
        ['a game that limps']
    """
    records: list[logging.LogRecord] = []
    own = threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        if record.thread != own:
            return True
        records.append(record)
        return False

    logger.addFilter(keep)
    try:
        yield records
    finally:
        logger.removeFilter(keep)
