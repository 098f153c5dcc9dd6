"""From a config to Streams: the only module that knows which driver hosts them (today: the entry engine).

`provision`, `migrate`, `release` and `destroy` are what jobs call; all of them can be repeated. They need the directory
for themselves: a runtime that serves it makes them raise Conflict (code InUse).
"""

import shutil
from pathlib import Path

from store_runtime.clock import Clock
from store_runtime.config.runtime import Entries, LogStoreConfig, StoreIdentity
from store_runtime.config.wire import Role
from store_runtime.engine.catalogue import SCHEMA_VERSION
from store_runtime.engine.entry_engine import Engine
from store_runtime.engine.switching import EngineSwitch
from store_runtime.errors import Conflict, Fenced, NotFound, OwnedByAnother, SchemaTooNew
from store_runtime.streams.drivers.entry_engine import EntryEngineDriver
from store_runtime.streams.store import Streams
from store_runtime.switch import ownership
from store_runtime.switch.driver import StoreMeta

_OURS = ("catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite-shm", "wal", "segments", "quarantine", "lock")
"""What an engine makes; the catalogue goes first, for without it nothing claims the rest."""


def open_store(config: LogStoreConfig, clock: Clock) -> Streams:
    """Open for serving; raises NotFound, OwnedByAnother, Fenced (a later epoch), SchemaTooNew, Corrupt, Conflict."""
    return open_streams(_entries(config), config.store, config.epoch, clock)


def open_streams(entries: Entries, store: StoreIdentity, epoch: int, clock: Clock) -> Streams:
    """The same, of the parts of a config that matter."""
    engine = Engine(Path(entries.directory), epoch=epoch, clock=clock)
    try:
        _verified(engine.state.meta, store, epoch)
    except BaseException:
        engine.close()
        raise
    return Streams(EntryEngineDriver(engine), clock, auto_create=entries.auto_create)


def provision(config: LogStoreConfig) -> StoreMeta:
    """Create the entries' home and claim it."""
    directory = Path(_entries(config).directory)
    Engine.create(directory)
    engine = Engine(directory)
    try:
        return ownership.claim(EngineSwitch(engine), config.store, epoch=config.epoch, schema_version=SCHEMA_VERSION)
    finally:
        engine.close()


def migrate(config: LogStoreConfig) -> str:
    """The schema version of the data. There is only one so far, so it checks ownership and changes nothing."""
    engine = Engine(Path(_entries(config).directory))
    try:
        return _verified(engine.state.meta, config.store, config.epoch).schema_version
    finally:
        engine.close()


def release(config: LogStoreConfig) -> None:
    """Mark the data as free to be adopted; nothing where there is nothing of ours."""
    try:
        engine = Engine(Path(_entries(config).directory))
    except NotFound:
        return
    try:
        ownership.release(EngineSwitch(engine), config.store)
    finally:
        engine.close()


def destroy(config: LogStoreConfig) -> None:
    """Remove the data if it is ours; nothing where there is none. Raises OwnedByAnother."""
    directory = Path(_entries(config).directory)
    try:
        engine = Engine(directory)
    except NotFound:
        return
    try:
        if engine.state.meta is not None:
            _require_ours(engine.state.meta, config.store)
    finally:
        engine.close()
    for name in _OURS:
        path = directory / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _entries(config: LogStoreConfig) -> Entries:
    if config.entries is None:
        raise NotFound("the config hosts no streams; set spec.entries of the LogStore", field="entries")
    return config.entries


def _verified(meta: StoreMeta | None, store: StoreIdentity, epoch: int) -> StoreMeta:
    if meta is None:
        raise NotFound("these entries carry no identity yet; provision the store first")
    _require_ours(meta, store)
    if meta.role is Role.RELEASED:
        raise Conflict(f"the store {meta.store_id} was released; adopt it with spec.adoptStoreID", code="Released")
    if meta.epoch > epoch:
        raise Fenced(f"the entries are of epoch {meta.epoch} and this runtime of {epoch}: a newer one serves them")
    if int(meta.schema_version or 0) > int(SCHEMA_VERSION):
        raise SchemaTooNew(
            f"the entries have schema {meta.schema_version}; this version knows {SCHEMA_VERSION}: use a newer runtime"
        )
    return meta


def _require_ours(meta: StoreMeta, store: StoreIdentity) -> None:
    if (meta.store_id, meta.owner) != (store.id, store.owner):
        raise OwnedByAnother(
            f"these entries belong to the store {meta.store_id} of resource {meta.owner}, "
            f"not to {store.id} of {store.owner}"
        )
