"""The objects of the local cluster: one JSON file each, with the rules that an API server keeps.

`<directory>/<Kind>/<namespace>/<name>.json` holds `{"object": live, "applied": {manager: what it applied last}}`.
Files are replaced atomically, every change is made under one file lock, so several processes may read and write at the
same time; `subscribe` only tells of changes made in this process. uid, generation and resourceVersion are assigned as
in Kubernetes; an unchanged write is none. An object with finalizers only gets a deletionTimestamp until they are gone;
what names deleted objects as its owners goes with the next `collect_garbage`.
"""

import fcntl
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storekeeper.adapters.cluster import ClusterError
from storekeeper.adapters.processes.folders import Folders
from storekeeper.adapters.processes.serverside import created, intent, merged, updated
from storekeeper.manifests.objects import FIELD_MANAGER, STATUS_MANAGER, Manifest, ObjectRef, ref_of

NAME_CHARS_MAX = 240
"""A file name holds 255 bytes, with the extension of the temporary file beside it."""

Listener = Callable[[Manifest], None]
Record = dict[str, Any]


def timestamp() -> str:
    """Now in UTC, in microseconds: two attempts of a job here may end within one of Kubernetes' whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class ObjectFiles:
    """Live objects by reference. Safe for several threads and processes."""

    def __init__(self, directory: Path, folders: Folders) -> None:
        self._directory = directory
        self._folders = folders
        self._listeners: list[Listener] = []
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with each object that this process changed or removed (after the change)."""
        self._listeners.append(listener)

    # -- reading --------------------------------------------------------------------------------------------------

    def get(self, ref: ObjectRef) -> Manifest | None:
        record = self._read(ref)
        return record["object"] if record else None

    def find(self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None) -> list[Manifest]:
        wanted = labels or {}
        found = []
        for path in sorted((self._directory / kind).glob(f"{namespace or '*'}/*.json")):
            if (record := _load(path)) is not None:
                has = record["object"]["metadata"].get("labels") or {}
                if all(has.get(key) == value for key, value in wanted.items()):
                    found.append(record["object"])
        return found

    # -- writing --------------------------------------------------------------------------------------------------

    def apply(self, manifest: Manifest, manager: str = FIELD_MANAGER) -> bool:
        ref, wanted = ref_of(manifest), intent(manifest)
        with self._changing() as changed:
            record = self._read(ref)
            if record is None:
                self._add(wanted, {manager: wanted}, changed)
            else:
                live = record["object"]
                new = updated(live, merged(live, record["applied"].get(manager, {}), wanted))
                _refuse_immutable(live, new)
                self._replace(record, new, record["applied"] | {manager: wanted}, changed)
        return bool(changed)

    def create(self, manifest: Manifest) -> bool:
        with self._changing() as changed:
            if self._read(ref_of(manifest)) is None:
                self._add(intent(manifest), {FIELD_MANAGER: intent(manifest)}, changed)
        return bool(changed)

    def delete(self, ref: ObjectRef, uid: str | None = None) -> bool:
        """False if it was not there (or, with `uid`, if that one is not there any more)."""
        with self._changing() as changed:
            record = self._read(ref)
            if record is None or (uid and record["object"]["metadata"]["uid"] != uid):
                return False
            self._begin_deletion(record, changed)
        return True

    def set_finalizer(self, ref: ObjectRef, finalizer: str, present: bool) -> bool:
        with self._changing() as changed:
            record = self._read(ref)
            if record is not None:
                metadata = record["object"]["metadata"]
                others = [f for f in metadata.get("finalizers", []) if f != finalizer]
                wanted = [*others, finalizer] if present else others
                new = record["object"] | {"metadata": metadata | {"finalizers": wanted}}
                self._replace(record, new, record["applied"], changed)
                if not wanted and metadata.get("deletionTimestamp"):
                    self._remove(new, changed)
        return bool(changed)

    def apply_status(self, ref: ObjectRef, status: Manifest) -> bool:
        """Replace what STATUS_MANAGER said before; other fields of the status stay."""
        with self._changing() as changed:
            record = self._existing(ref)
            live, before = record["object"], record["applied"].get(STATUS_MANAGER, {})
            new = live | {"status": merged(live.get("status") or {}, before, status)}
            self._replace(record, new, record["applied"] | {STATUS_MANAGER: status}, changed)
        return bool(changed)

    def set_status(self, ref: ObjectRef, status: Manifest) -> bool:
        """The whole status, as a controller of the built-in kinds writes it; False if unchanged or absent."""
        with self._changing() as changed:
            if (record := self._read(ref)) is not None:
                self._replace(record, record["object"] | {"status": status}, record["applied"], changed)
        return bool(changed)

    def annotate(self, ref: ObjectRef, key: str, value: str) -> bool:
        with self._changing() as changed:
            if (record := self._read(ref)) is not None:
                metadata = record["object"]["metadata"]
                annotations = (metadata.get("annotations") or {}) | {key: value}
                new = record["object"] | {"metadata": metadata | {"annotations": annotations}}
                self._replace(record, new, record["applied"], changed)
        return bool(changed)

    def collect_garbage(self) -> bool:
        """Delete what names only owners that are gone (background propagation); True if there was any."""
        objects = [o for kind in self._kinds() for o in self.find(kind)]
        alive = {o["metadata"]["uid"] for o in objects}
        orphans = [o for o in objects if (owners := owner_uids(o)) and not owners & alive]
        for orphan in orphans:
            self.delete(ref_of(orphan), uid=orphan["metadata"]["uid"])
        return bool(orphans)

    # -- inside the lock ------------------------------------------------------------------------------------------

    @contextmanager
    def _changing(self) -> Iterator[list[Manifest]]:
        """Hold the lock of all processes; afterwards tell the listeners of what was put into the list."""
        changed: list[Manifest] = []
        with (self._directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield changed
        for manifest in changed:
            for listener in self._listeners:
                listener(manifest)

    def _add(self, wanted: Manifest, applied: Record, changed: list[Manifest]) -> None:
        live = created(wanted, uid=str(uuid.uuid4()), at=timestamp())
        live = self._folders.keep(live)
        applied = {manager: _without_values(what) for manager, what in applied.items()}
        self._write(live, applied, changed)

    def _replace(self, record: Record, new: Manifest, applied: Record, changed: list[Manifest]) -> None:
        if new == record["object"]:
            if applied != record["applied"]:  # the same outcome by another intent: remembered, but no change
                _store(self._path(ref_of(new)), {"object": new, "applied": applied})
            return
        self._write(self._folders.keep(new), applied, changed)

    def _begin_deletion(self, record: Record, changed: list[Manifest]) -> None:
        live = record["object"]
        if not live["metadata"].get("finalizers"):
            self._remove(live, changed)
        elif "deletionTimestamp" not in live["metadata"]:
            marked = live | {"metadata": live["metadata"] | {"deletionTimestamp": timestamp()}}
            self._replace(record, marked, record["applied"], changed)

    def _remove(self, live: Manifest, changed: list[Manifest]) -> None:
        self._folders.discard(live)
        self._path(ref_of(live)).unlink(missing_ok=True)
        changed.append(live)

    def _kinds(self) -> list[str]:
        return sorted(path.name for path in self._directory.iterdir() if path.is_dir())

    def _write(self, live: Manifest, applied: Record, changed: list[Manifest]) -> None:
        live["metadata"] = live["metadata"] | {"resourceVersion": self._next_version()}
        _store(self._path(ref_of(live)), {"object": live, "applied": applied})
        changed.append(live)

    def _next_version(self) -> str:
        path = self._directory / ".version"
        version = str(int(path.read_text()) + 1 if path.exists() else 1)
        _replace_file(path, version)
        return version

    def _existing(self, ref: ObjectRef) -> Record:
        record = self._read(ref)
        if record is None:
            raise ClusterError(f"{ref} does not exist", status=404, retryable=False)
        return record

    def _read(self, ref: ObjectRef) -> Record | None:
        return _load(self._path(ref))

    def _path(self, ref: ObjectRef) -> Path:
        for part in (ref.kind, ref.namespace, ref.name):
            if not part or "/" in part or part.startswith(".") or len(part.encode()) > NAME_CHARS_MAX:
                raise ClusterError(f"{ref} cannot be kept as a file: bad name {part!r}", status=422, retryable=False)
        return self._directory / ref.kind / ref.namespace / f"{ref.name}.json"


def owner_uids(manifest: Manifest) -> set[str]:
    return {owner["uid"] for owner in manifest["metadata"].get("ownerReferences", [])}


def _refuse_immutable(live: Manifest, new: Manifest) -> None:
    if live.get("immutable") and live.get("data") != new.get("data"):
        raise ClusterError(f"{ref_of(live)} is immutable; its data cannot change", status=422, retryable=False)


def _without_values(manifest: Manifest) -> Manifest:
    """A Secret's values live in its folder only."""
    if manifest["kind"] != "Secret":
        return manifest
    return {k: v for k, v in manifest.items() if k not in ("data", "stringData")}


def _load(path: Path) -> Record | None:
    try:
        return json.loads(path.read_bytes())  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None


def _store(path: Path, record: Record) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _replace_file(path, json.dumps(record, indent=1))


def _replace_file(path: Path, text: str) -> None:
    """Atomic and durable: a reader, or a restart after a crash, sees the old text or the new one."""
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
