"""What a job leaves behind: one JobReport, for the operator as a termination message, and an exit status.

0  done
1  failed, worth another try: the database does not answer, or somebody was quicker
2  wrong usage or config: another try needs another config
3  refused: the data is somebody else's or too new, or the credentials may not do it; a person has to decide
"""

import os
from pathlib import Path

from store_runtime.config.wire import REPORT_BYTES_MAX, JobReport
from store_runtime.errors import StoreError

TERMINATION_LOG = Path("/dev/termination-log")
"""Where Kubernetes looks for a container's last words, unless the pod says otherwise."""

OK, RETRYABLE, USAGE, REFUSED = 0, 1, 2, 3
REFUSED_CODES = frozenset(
    {
        *("OwnedByAnother", "Released", "SchemaTooNew", "UnsuitableDatabase"),
        *("InsufficientPrivileges", "AuthenticationFailed", "DatabaseMissing", "SecretIncomplete"),
    }
)
MESSAGE_CHARS_MAX = 1000
"""Enough for what is wrong and what to do; the report has to be a message that people read."""


def exit_status(code: str) -> int:
    """Of a report's `code`, which is empty when all went well."""
    if not code:
        return OK
    if code == "InvalidInput":
        return USAGE
    return REFUSED if code in REFUSED_CODES else RETRYABLE


def failed(report: JobReport, error: Exception) -> JobReport:
    """The report of a job that ended with `error`; only our own errors' words are shown."""
    if isinstance(error, StoreError):
        code, message = error.specific_code, error.message
    else:
        code, message = "InternalError", f"unexpected {type(error).__name__}; the job's log tells more"
    return report.model_copy(update={"ok": False, "code": code, "message": _shortened(message, MESSAGE_CHARS_MAX)})


def encode(report: JobReport) -> bytes:
    """JSON of at most REPORT_BYTES_MAX; what is too much is taken from the message."""
    while len(encoded := report.model_dump_json(by_alias=True, exclude_none=True).encode()) > REPORT_BYTES_MAX:
        report = report.model_copy(update={"message": _shortened(report.message, len(report.message) * 3 // 4)})
    return encoded


def leave(report: JobReport, path: Path | None) -> None:
    """Write the report to `path`, or to the termination log where there is one; nowhere else."""
    if path is None:
        if not (TERMINATION_LOG.is_file() and os.access(TERMINATION_LOG, os.W_OK)):
            return
        path = TERMINATION_LOG
    path.write_bytes(encode(report))  # in place: the termination log is a mount and cannot be replaced


def _shortened(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"
