"""The jobs of a store's life: provision, migrate, release, destroy. Each can be killed and run again.

A LogStore with entries is provisioned and migrated request logs first; it is released and destroyed in the opposite
order, so that what identifies the store goes last.
"""

from collections.abc import Callable

import structlog

from store_runtime.config.wire import JobName, JobReport
from store_runtime.errors import OwnedByAnother, StoreError
from store_runtime.jobs.kinds import Config, openings
from store_runtime.jobs.patience import patiently
from store_runtime.jobs.report import failed

_log = structlog.get_logger(__name__)


def run_job(name: JobName, config: Config) -> JobReport:
    """Do it and say what became of it; never raises."""
    report = JobReport(job=name, ok=True, store_id=config.store.id)
    try:
        return JOBS[name](config, report)
    except StoreError as error:
        _log.debug("job failed", job=name.value, store=config.store.id, exc_info=error)
        return failed(report, error)
    except Exception as error:
        _log.error("job failed", job=name.value, store=config.store.id, exc_info=error)
        return failed(report, error)


def _provision(config: Config, report: JobReport) -> JobReport:
    meta, *_ = [patiently(opening.provision, config) for opening in openings(config)]
    found = {"schema_version": meta.schema_version, "role": meta.role, "epoch": meta.epoch}
    return report.model_copy(update=found | {"message": f"the store {meta.store_id} has its home ({_place(config)})"})


def _migrate(config: Config, report: JobReport) -> JobReport:
    version, *_ = [patiently(opening.migrate, config) for opening in openings(config)]
    return report.model_copy(update={"schema_version": version, "message": f"the schema is at version {version}"})


def _release(config: Config, report: JobReport) -> JobReport:
    for opening in reversed(openings(config)):
        patiently(opening.release, config)
    said = f"the data stays ({_place(config)}); adopt it with spec.adoptStoreID: {config.store.id}"
    return report.model_copy(update={"message": said})


def _destroy(config: Config, report: JobReport) -> JobReport:
    """Only what is ours goes. That it is somebody else's is no failure: then there is nothing of ours to wait for."""
    said = f"the data of {config.store.id} is gone ({_place(config)})"
    for opening in reversed(openings(config)):
        try:
            patiently(opening.destroy, config)
        except OwnedByAnother as error:
            said = f"nothing of {config.store.id} was there to destroy: {error.message}"
    return report.model_copy(update={"message": said})


def _place(config: Config) -> str:
    parts = [config.backend.type.value]
    if len(openings(config)) > 1:
        parts.append("entries")
    return ", ".join(parts)


JOBS: dict[JobName, Callable[[Config, JobReport], JobReport]] = {
    JobName.PROVISION: _provision,
    JobName.MIGRATE: _migrate,
    JobName.RELEASE: _release,
    JobName.DESTROY: _destroy,
}
