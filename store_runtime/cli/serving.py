"""`serve`: the server, and a report where it could not start, so that the operator can tell why."""

import os
import sys
from pathlib import Path
from typing import NoReturn

import structlog
import typer

from store_runtime.config.runtime import load
from store_runtime.config.wire import JobName, JobReport
from store_runtime.errors import StoreError
from store_runtime.http.offload import calls_under_way
from store_runtime.http.server import serve
from store_runtime.jobs.report import OK, exit_status, failed, leave

_log = structlog.get_logger(__name__)


def serve_store(file: Path, report_file: Path | None, grace_seconds: float) -> int:
    """Exit status: 0 after a clean stop; see store_runtime.jobs.report for the others."""
    store_id = ""
    try:
        config = load(file)
        store_id = config.store.id
        serve(config, grace_seconds)
    except Exception as error:
        report = failed(JobReport(job=JobName.SERVE, ok=False, store_id=store_id), error)
        _log.error("cannot serve", code=report.code, exc_info=None if isinstance(error, StoreError) else error)
        leave(report, report_file)
        typer.echo(f"store-runtime: serve: {report.code}: {report.message}", err=True)
        return exit_status(report.code)
    if calls_under_way():
        _leave_threads_behind()
    return OK


def _leave_threads_behind() -> NoReturn:
    """The stores are closed, and Python would wait for threads that hang in calls which nobody waits for any more."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(OK)
