"""Trying again while a database does not answer: some seconds by ourselves, then the kubelet's back-off takes over."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import structlog

from store_runtime.errors import BackendUnreachable
from store_runtime.jobs.report import REFUSED_CODES

PATIENCE_SECONDS = 20.0
"""Covers a database that restarts or fails over; what takes longer is the kubelet's to wait for."""
FIRST_DELAY_SECONDS = 0.25
DELAY_SECONDS_MAX = 4.0

T = TypeVar("T")
_log = structlog.get_logger(__name__)


def patiently(
    call: Callable[..., T],
    *args: Any,
    seconds: float = PATIENCE_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> T:
    """What `call(*args)` returns; repeated on BackendUnreachable, with doubling delays, until `seconds` have passed."""
    deadline, delay = monotonic() + seconds, FIRST_DELAY_SECONDS
    while True:
        try:
            return call(*args)
        except BackendUnreachable as error:
            if error.specific_code in REFUSED_CODES or monotonic() + delay > deadline:
                raise
            _log.warning("the backend does not answer, trying again", delay_seconds=delay, detail=error.message)
            sleep(delay)
            delay = min(delay * 2, DELAY_SECONDS_MAX)
