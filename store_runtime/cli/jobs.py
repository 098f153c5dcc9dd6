"""The job commands: run one, leave its report, and say it in a line."""

from collections.abc import Callable
from pathlib import Path

import structlog
import typer

from store_runtime.cli import Output
from store_runtime.config.runtime import load
from store_runtime.config.wire import JobName, JobReport, RetainRequest, RetainResult
from store_runtime.jobs.lifecycle import run_job
from store_runtime.jobs.patience import patiently
from store_runtime.jobs.remote import retain_by_url as ask
from store_runtime.jobs.report import encode, exit_status, failed, leave
from store_runtime.jobs.retain import load_policy
from store_runtime.jobs.retain import retain_directly as retain_opened

_log = structlog.get_logger(__name__)


def run(name: str, config: Path, report: Path | None, output: Output) -> int:
    """One of a store's life's jobs; a config that cannot be read is reported as well."""
    job = JobName(name)
    return _finish(_reported(job, lambda: run_job(job, load(config))), report, output)


def retain_directly(config: Path, policy: Path, dry_run: bool, report: Path | None, output: Output) -> int:
    """Open the config's store and apply the policy."""

    def job() -> JobReport:
        loaded = load(config)
        request = RetainRequest(retention=load_policy(policy), dry_run=dry_run)
        return _retained(patiently(retain_opened, loaded, request), dry_run, loaded.store.id)

    return _finish(_reported(JobName.RETAIN, job), report, output)


def retain_by_url(
    url: str, token_file: Path, ca_file: Path | None, policy: Path, dry_run: bool, report: Path | None, output: Output
) -> int:
    """Ask the serving store to apply the policy."""

    def job() -> JobReport:
        request = RetainRequest(retention=load_policy(policy), dry_run=dry_run)
        return _retained(patiently(ask, url, token_file, ca_file, request), dry_run)

    return _finish(_reported(JobName.RETAIN, job), report, output)


def _reported(name: JobName, job: Callable[[], JobReport]) -> JobReport:
    try:
        return job()
    except Exception as error:
        _log.debug("job failed", job=name.value, exc_info=error)
        return failed(JobReport(job=name, ok=False), error)


def _retained(result: RetainResult, dry_run: bool, store_id: str = "") -> JobReport:
    verb = "would go" if dry_run else "went"
    said = (
        f"{result.expired} by age, {result.evicted} by size, {result.payloads} payloads and "
        f"{result.segments} segments {verb}"
    )
    return JobReport(job=JobName.RETAIN, ok=True, message=said, store_id=store_id)


def _finish(report: JobReport, file: Path | None, output: Output) -> int:
    """The report to its file, the words to the terminal; returns the exit status."""
    leave(report, file)
    if output is Output.JSON:
        typer.echo(encode(report).decode())
    elif report.ok:
        typer.echo(f"{report.job.value}: {report.message}")
    else:
        typer.echo(f"store-runtime: {report.job.value}: {report.code}: {report.message}", err=True)
    return exit_status(report.code)
