"""`storekeeper uninstall`: leave a cluster so that nothing waits for an operator that is gone.

It takes the Lease from the running operator, which ends it, and holds it while the finalizers come off; until the
Deployment is deleted, restarted replicas stand by. Stores go on running and keep their data. With `--delete-resources`
the operator is first left to remove every resource in its own way (releasing or deleting data, as each policy says).
"""

import sys
import time
from collections.abc import Iterator

from pydantic import ValidationError

from storekeeper.adapters.cluster import ClusterError
from storekeeper.adapters.kubernetes import KubernetesCluster
from storekeeper.adapters.kubernetes_api import KubernetesApi, connect
from storekeeper.cli.logs import configure_logs
from storekeeper.handlers.lease import RENEW_DEADLINE_SECONDS, Lease
from storekeeper.manifests.objects import FINALIZER, Manifest, ref_of
from storekeeper.observe.cache import Cache
from storekeeper.settings import LogFormat, LogLevel, Settings

KINDS = ("Stream", "LogStore", "RuntimeStore")
IDENTITY = "uninstall"
POLL_SECONDS = 1.0
HELD_SECONDS = 300
"""The lease is held so long: the Deployment must be gone before a replica could lead again."""
SEIZE_ATTEMPTS = 5
"""The operator renews every 2 s, so a write of ours may lose now and then."""


def uninstall(*, delete_resources: bool, timeout_seconds: float) -> int:
    """Exit status 0 when nothing can get stuck any more."""
    configure_logs(LogLevel.WARNING, LogFormat.CONSOLE)
    try:
        settings = Settings()
        api = connect(pool_size=2)
        if delete_resources:
            _delete_all(api, settings, timeout_seconds)
        if not _seize(api, settings):
            return _fail("the lease could not be taken from the running operator; try again")
        # The old leader ends at its next renewal, or when it cannot reach the API: then it cannot write either.
        time.sleep(RENEW_DEADLINE_SECONDS)
        freed = _let_go(api, settings)
    except (ClusterError, ValidationError) as error:
        return _fail(str(error))
    print(f"took the finalizer off {freed} resources; their stores and data stay as they are")  # noqa: T201
    return 0


def _resources(api: KubernetesApi, settings: Settings) -> Iterator[Manifest]:
    for kind in KINDS:
        for namespace in settings.watched_namespaces:
            try:
                for page in api.pages(kind, namespace):
                    yield from page
            except ClusterError as error:
                if error.status != 404:  # 404: the CRD is gone, and its resources with it
                    raise


def _delete_all(api: KubernetesApi, settings: Settings, timeout_seconds: float) -> None:
    cluster = KubernetesCluster(api, Cache())
    for resource in list(_resources(api, settings)):
        cluster.delete(ref_of(resource))
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline and any(True for _ in _resources(api, settings)):
        time.sleep(POLL_SECONDS)


def _seize(api: KubernetesApi, settings: Settings) -> bool:
    lease = Lease(api, settings.namespace, settings.lease_name, IDENTITY, duration_seconds=HELD_SECONDS)
    return any(lease.hold(seize=True) for _ in range(SEIZE_ATTEMPTS))


def _let_go(api: KubernetesApi, settings: Settings) -> int:
    cluster = KubernetesCluster(api, Cache())
    held = [r for r in _resources(api, settings) if FINALIZER in (r["metadata"].get("finalizers") or [])]
    return sum(cluster.set_finalizer(ref_of(resource), FINALIZER, False) for resource in held)


def _fail(message: str) -> int:
    print(f"storekeeper uninstall: {message}", file=sys.stderr)  # noqa: T201
    return 1
