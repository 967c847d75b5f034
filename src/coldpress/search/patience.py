"""A storage whose calls are repeated for a while: a database that is locked for a moment ends no search."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, get_storage

from coldpress.errors import StorageError, first_line

logger = logging.getLogger("coldpress.search")

WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between the attempts of a call; a database waits some seconds more within each."""


class Patient:
    """Stands for a storage and passes its calls on, again after each of `WAITS` where it does not answer.

    Every call is one transaction, and is taken back where it fails.

    Args:
        storage: the storage.
        place: what the user calls it.

    Attributes:
        trouble: when it last did not answer, by the monotonic clock (seconds).

    Raises:
        StorageError: by any call that found no answer in all that time.
    """

    def __init__(self, storage: BaseStorage, place: str) -> None:
        self._storage, self._place = get_storage(storage), place
        self.trouble = -math.inf

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._storage, name)
        return functools.partial(self._call, found) if callable(found) else found

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        for wait in (*WAITS, None):
            try:
                return function(*args, **kwargs)
            except StorageInternalError as error:
                self.trouble, words = monotonic(), first_line(error.__cause__ or error)
                if wait is None:
                    raise StorageError(
                        f"the storage {self._place} does not answer any more ({words}); finished trials are kept: see "
                        "that it is there, may be written and is not locked, then give the same command again"
                    ) from error
                if wait == WAITS[0]:
                    logger.warning("the storage does not answer (%s); trying again for %.0f s", words, sum(WAITS))
            sleep(wait)
        raise AssertionError("the last attempt returns or raises")
