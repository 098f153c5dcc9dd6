"""`check`: who owns a backend's data and whether it answers, without changing anything or serving it."""

from store_runtime.clock import SystemClock
from store_runtime.config.model import Document
from store_runtime.config.wire import Role
from store_runtime.errors import StoreError
from store_runtime.jobs.kinds import Config, Store, openings
from store_runtime.jobs.report import exit_status


class PartCheck(Document):
    """One part of a store as it was found; `code` is empty when it could be served."""

    part: str
    backend: str
    reachable: bool = False
    store_id: str = ""
    role: Role | None = None
    epoch: int | None = None
    schema_version: str = ""
    code: str = ""
    message: str = ""


class CheckReport(Document):
    """All parts of a store."""

    kind: str
    namespace: str
    name: str
    parts: tuple[PartCheck, ...]

    @property
    def exit_status(self) -> int:
        return max(exit_status(part.code) for part in self.parts)


def check(config: Config) -> CheckReport:
    """Open each part as serving would, look at it, and close it again; never raises a StoreError."""
    names = (config.backend.type.value, "entries")
    parts = []
    for part, backend, opening in zip(("store", "entries"), names, openings(config), strict=False):
        found = PartCheck(part=part, backend=backend)
        try:
            store: Store = opening.open_store(config, SystemClock())
        except StoreError as error:
            parts.append(_wrong(found, error))
            continue
        try:
            parts.append(_looked_at(found, store))
        finally:
            store.close()
    return CheckReport(kind=config.kind, namespace=config.store.namespace, name=config.store.name, parts=tuple(parts))


def _looked_at(found: PartCheck, store: Store) -> PartCheck:
    try:
        store.check_backend()
        meta = store.meta()
    except StoreError as error:
        return _wrong(found, error)
    known = {"store_id": meta.store_id, "role": meta.role, "epoch": meta.epoch, "schema_version": meta.schema_version}
    return found.model_copy(update={"reachable": True} | known)


def _wrong(found: PartCheck, error: StoreError) -> PartCheck:
    return found.model_copy(update={"code": error.specific_code, "message": error.message})
