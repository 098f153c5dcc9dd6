"""Retention, applied to an opened store: by the serving pod when it is asked, or by a job on a network database.

How the serving pod is asked stands in remote.
"""

from pathlib import Path

from pydantic import ValidationError

from store_runtime.clock import SystemClock
from store_runtime.config.retention import LogRetention
from store_runtime.config.runtime import RuntimeStoreConfig
from store_runtime.config.wire import RetainRequest, RetainResult
from store_runtime.errors import Conflict, InvalidInput
from store_runtime.jobs.kinds import Config, Runtime, open_runtime


def retain(runtime: Runtime, request: RetainRequest) -> RetainResult:
    """Request logs by the request's retention, entries by each stream's own; what went, of both."""
    if isinstance(runtime.config, RuntimeStoreConfig):
        raise Conflict("a RuntimeStore keeps no history: it has nothing to retain", code="NothingToRetain")
    result: RetainResult = runtime.store.retain(request.retention, dry_run=request.dry_run)
    if runtime.streams is None:
        return result
    entries: RetainResult = runtime.streams.retain(dry_run=request.dry_run)
    total = {name: getattr(result, name) + getattr(entries, name) for name in RetainResult.model_fields}
    return RetainResult(**total)


def retain_directly(config: Config, request: RetainRequest) -> RetainResult:
    """Open the store of a config and retain; for databases that several processes may open."""
    runtime = open_runtime(config, SystemClock())
    try:
        return retain(runtime, request)
    finally:
        runtime.close()


def load_policy(path: Path) -> LogRetention:
    """Read a retention policy; raises InvalidInput that names the file and the field."""
    try:
        return LogRetention.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"cannot read the policy {path}: {error.strerror}", field="policy") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"policy {path}: {field}: {first['msg']}", field=field) from error
