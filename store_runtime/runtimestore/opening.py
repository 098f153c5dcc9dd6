"""From a config to a store: the only module that knows which driver a backend's type means.

`provision`, `migrate`, `release` and `destroy` are what jobs call; all of them can be repeated. Memory has nothing to
provision or destroy: its data is made, claimed, when the store is opened.
"""

from pathlib import Path

from store_runtime.clock import Clock
from store_runtime.config.backends import MemoryBackend, UsageBackendType
from store_runtime.config.runtime import RuntimeStoreConfig
from store_runtime.config.wire import Role
from store_runtime.errors import Conflict, Fenced, NotFound, OwnedByAnother, SchemaTooNew
from store_runtime.runtimestore.drivers.file import FileDriver, remove_files
from store_runtime.runtimestore.drivers.memory import MemoryDriver
from store_runtime.runtimestore.model import Limits
from store_runtime.runtimestore.rings import levels_for
from store_runtime.runtimestore.store import SCHEMA_VERSION, RuntimeStore
from store_runtime.switch import ownership
from store_runtime.switch.driver import StoreMeta


def open_store(config: RuntimeStoreConfig, clock: Clock) -> RuntimeStore:
    """Open for serving; raises NotFound, OwnedByAnother, Fenced (a later epoch), SchemaTooNew, Corrupt."""
    driver = _memory(config) if config.backend.type is UsageBackendType.MEMORY else _opened_file(config)
    return RuntimeStore(driver, config.windows, config.cache, clock)


def provision(config: RuntimeStoreConfig) -> StoreMeta:
    """Create the data's home and claim it."""
    if config.backend.type is UsageBackendType.MEMORY:
        return StoreMeta(config.store.id, config.store.owner, epoch=config.epoch, schema_version=SCHEMA_VERSION)
    FileDriver.create(_directory(config), levels_for(config.windows))
    driver = FileDriver(_directory(config), Limits())
    try:
        return ownership.claim(driver, config.store, epoch=config.epoch, schema_version=SCHEMA_VERSION)
    finally:
        driver.close()


def migrate(config: RuntimeStoreConfig) -> str:
    """The schema version of the data. There is only one so far, so it checks ownership and changes nothing."""
    if config.backend.type is UsageBackendType.MEMORY:
        return SCHEMA_VERSION
    driver = FileDriver(_directory(config), Limits())
    try:
        return _verified(driver.read_meta(), config).schema_version
    finally:
        driver.close()


def release(config: RuntimeStoreConfig) -> None:
    """Mark the data as free to be adopted; nothing where there is nothing of ours."""
    if config.backend.type is UsageBackendType.MEMORY:
        return
    try:
        driver = FileDriver(_directory(config), Limits())
    except NotFound:
        return
    try:
        ownership.release(driver, config.store)
    finally:
        driver.close()


def destroy(config: RuntimeStoreConfig) -> None:
    """Remove the data if it is ours; nothing where there is none. Raises OwnedByAnother."""
    if config.backend.type is UsageBackendType.MEMORY:
        return
    try:
        driver = FileDriver(_directory(config), Limits())
    except NotFound:
        return
    try:
        meta = driver.read_meta()
        if meta is not None:
            _require_ours(meta, config)
    finally:
        driver.close()
    remove_files(_directory(config))


def _memory(config: RuntimeStoreConfig) -> MemoryDriver:
    backend = config.backend.memory or MemoryBackend()
    limits = Limits(metrics_max=backend.max_keys, cache_entries_max=backend.max_keys)
    driver = MemoryDriver(levels_for(config.windows), limits, config.epoch)
    ownership.claim(driver, config.store, epoch=config.epoch, schema_version=SCHEMA_VERSION)
    return driver


def _opened_file(config: RuntimeStoreConfig) -> FileDriver:
    driver = FileDriver(_directory(config), Limits(), config.epoch)
    try:
        _verified(driver.read_meta(), config)
        driver.set_levels(levels_for(config.windows))
    except BaseException:
        driver.close()
        raise
    return driver


def _directory(config: RuntimeStoreConfig) -> Path:
    if config.backend.file is None:
        raise NotFound("the config has no file backend", field="backend.file")
    return Path(config.backend.file.directory)


def _verified(meta: StoreMeta | None, config: RuntimeStoreConfig) -> StoreMeta:
    if meta is None:
        raise NotFound("the store's files carry no identity yet; provision it first")
    _require_ours(meta, config)
    if meta.role is Role.RELEASED:
        raise Conflict(f"the store {meta.store_id} was released; adopt it with spec.adoptStoreID", code="Released")
    if meta.epoch > config.epoch:
        raise Fenced(f"the data is of epoch {meta.epoch} and this runtime of {config.epoch}: a newer one serves it")
    if int(meta.schema_version or 0) > int(SCHEMA_VERSION):
        raise SchemaTooNew(
            f"the data has schema {meta.schema_version}; this version knows {SCHEMA_VERSION}: use a newer runtime"
        )
    return meta


def _require_ours(meta: StoreMeta, config: RuntimeStoreConfig) -> None:
    if (meta.store_id, meta.owner) != (config.store.id, config.store.owner):
        raise OwnedByAnother(
            f"this directory belongs to the store {meta.store_id} of resource {meta.owner}, "
            f"not to {config.store.id} of {config.store.owner}"
        )
