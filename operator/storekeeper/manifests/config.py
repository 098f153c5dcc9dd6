"""The runtime's configuration as an immutable ConfigMap, named by epoch and content; beside it the retention policy.

A changed config is another object, so a pod that restarts in the midst of a rollout still finds the one it began with.
Retention is no part of it: it changes often, and must not restart a store.
"""

import hashlib
import json
from datetime import timedelta

from store_runtime.config.backends import (
    FileBackend,
    LogBackend,
    MemoryBackend,
    PostgresBackend,
    SqliteBackend,
    UsageBackend,
)
from store_runtime.config.model import Document
from store_runtime.config.retention import LogRetention
from store_runtime.config.runtime import (
    Auth,
    Cache,
    Entries,
    LogStoreConfig,
    RuntimeStoreConfig,
    Server,
    Tls,
)
from storekeeper.api.backends import LogBackendSpec, PostgresSpec, UsageBackendSpec
from storekeeper.api.logstore import LogStore, LogStoreSpec
from storekeeper.api.runtimestore import RuntimeStore, RuntimeStoreSpec
from storekeeper.manifests.blueprint import Blueprint
from storekeeper.manifests.objects import LABEL_EPOCH, Manifest
from storekeeper.manifests.place import Paths

CONFIG_FILE = "config.json"
POLICY_FILE = "retention.json"
NAME_HASH_HEX = 8
SQLITE_FILE = "requests.db"
FILE_FOLDER = "usage"
ENTRIES_FOLDER = "streams"
"""Below the mount point, because a volume's root may hold things of its file system (lost+found)."""


def runtime_config(blueprint: Blueprint) -> LogStoreConfig | RuntimeStoreConfig:
    """The document that every process of the store starts from."""
    resource = blueprint.resource
    if isinstance(resource, LogStore):
        return _log_store(blueprint, resource.spec)
    assert isinstance(resource, RuntimeStore)
    return _runtime_store(blueprint, resource.spec)


def config_map(blueprint: Blueprint) -> Manifest:
    text = written(runtime_config(blueprint))
    digest = hashlib.sha256(text.encode()).hexdigest()[:NAME_HASH_HEX]
    body = {"immutable": True, "data": {CONFIG_FILE: text}}
    labels = {LABEL_EPOCH: str(blueprint.epoch)}
    return blueprint.child("ConfigMap", f"{blueprint.base}-e{blueprint.epoch}-{digest}", body, labels=labels)


def policy_map(blueprint: Blueprint) -> Manifest | None:
    """What the retention CronJob applies; None where nothing is limited."""
    retention = limited_retention(blueprint)
    if retention is None:
        return None
    return blueprint.child("ConfigMap", f"{blueprint.base}-policy", {"data": {POLICY_FILE: written(retention)}})


def limited_retention(blueprint: Blueprint) -> LogRetention | None:
    """The retention of request logs, if there is any. Streams and usage rings obey theirs by themselves."""
    resource = blueprint.resource
    if not isinstance(resource, LogStore) or not resource.spec.retention.is_limited:
        return None
    limits = resource.spec.retention
    return LogRetention(max_age=limits.max_age, max_size=limits.max_size, payload_max_age=limits.payload_max_age)


def written(document: Document) -> str:
    """Equal documents give equal text, readable by people."""
    return json.dumps(document.document(), sort_keys=True, indent=2) + "\n"


def _log_store(blueprint: Blueprint, spec: LogStoreSpec) -> LogStoreConfig:
    paths = blueprint.place.paths
    return LogStoreConfig(
        store=blueprint.identity,
        epoch=blueprint.epoch,
        server=_server(blueprint),
        auth=_auth(blueprint),
        backend=_log_backend(spec.resolved_backend, paths),
        entries=_entries(spec, paths),
    )


def _log_backend(backend: LogBackendSpec, paths: Paths) -> LogBackend:
    if backend.postgres is not None:
        return LogBackend(type=backend.type, postgres=_postgres(backend.postgres, paths))
    return LogBackend(type=backend.type, sqlite=SqliteBackend(path=f"{paths.data}/{SQLITE_FILE}"))


def _postgres(spec: PostgresSpec, paths: Paths) -> PostgresBackend:
    return PostgresBackend(
        host=spec.host,
        port=spec.port,
        database=spec.database,
        ssl_mode=spec.ssl_mode,
        credentials_directory=paths.credentials,
    )


def _entries(spec: LogStoreSpec, paths: Paths) -> Entries | None:
    if spec.entries is None or not spec.entries.enabled:
        return None
    return Entries(directory=f"{paths.entries}/{ENTRIES_FOLDER}", auto_create=spec.entries.auto_create)


def _runtime_store(blueprint: Blueprint, spec: RuntimeStoreSpec) -> RuntimeStoreConfig:
    return RuntimeStoreConfig(
        store=blueprint.identity,
        epoch=blueprint.epoch,
        server=_server(blueprint),
        auth=_auth(blueprint),
        backend=_usage_backend(spec.resolved_backend, blueprint.place.paths),
        windows=spec.windows,
        cache=Cache(enabled=spec.cache.enabled, ttl=timedelta(seconds=spec.cache.ttl_seconds)),
    )


def _usage_backend(backend: UsageBackendSpec, paths: Paths) -> UsageBackend:
    if backend.memory is not None:
        return UsageBackend(type=backend.type, memory=MemoryBackend(max_keys=backend.memory.max_keys))
    return UsageBackend(type=backend.type, file=FileBackend(directory=f"{paths.data}/{FILE_FOLDER}"))


def _server(blueprint: Blueprint) -> Server:
    place = blueprint.place
    tls = None
    if blueprint.resource.spec.tls is not None:
        tls = Tls(certificate_file=f"{place.paths.tls}/tls.crt", key_file=f"{place.paths.tls}/tls.key")
    return Server(host=place.host, port=place.port, metrics_port=place.metrics_port, tls=tls)


def _auth(blueprint: Blueprint) -> Auth:
    return Auth(audience=blueprint.audience, public_keys=blueprint.place.public_keys)
