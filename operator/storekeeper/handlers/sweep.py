"""Whole lists beside the watches: the barrier at the start, and the search for what a watch missed.

Nothing is reconciled before every kind was listed once: a plan that sees half of a store's children would make the
other half again. Later, a list now and then finds events that were lost (a watch that was away for long comes back with
a new list, in which deletions do not show).
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator

import structlog

from storekeeper.adapters.cluster import ClusterError
from storekeeper.adapters.kubernetes_api import KubernetesApi
from storekeeper.handlers.watching import RESOURCE_KINDS, WATCHED_KINDS, label_selector
from storekeeper.manifests.objects import Manifest
from storekeeper.metrics import Metrics
from storekeeper.observe.cache import Cache

GRACE_SECONDS = 10.0
"""Events of changes that a list already shows may take as long; what is unknown after it was missed."""
DEAF_AFTER = 3
"""Sweeps in a row that find missed events of one kind: its watch is dead."""

log = structlog.get_logger(__name__)


class Sweep:
    """Lists into the cache. One thread at a time."""

    def __init__(
        self,
        api: KubernetesApi,
        cache: Cache,
        namespaces: tuple[str | None, ...],
        metrics: Metrics,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._api, self._cache, self._namespaces, self._metrics = api, cache, namespaces, metrics
        self._sleep = sleep
        self._in_a_row: Counter[tuple[str, str | None]] = Counter()

    def prime(self) -> None:
        """List every kind into the cache. Raises ClusterError, with advice where the CRDs are missing."""
        for kind, namespace in self._places():
            try:
                before = self._cache.uids(kind, namespace)
                self._cache.fill(kind, namespace, self._list(kind, namespace), before)
            except ClusterError as error:
                if error.status == 404 and kind in RESOURCE_KINDS:
                    raise ClusterError(
                        f"the API server does not know {kind}: install the CustomResourceDefinitions first "
                        "(kubectl apply -f crds/)",
                        status=404,
                    ) from error
                raise
        self._measure()

    def sweep(self) -> list[Manifest]:
        """Compare every kind with the cache; what was missed is in the cache now, and returned."""
        missed = []
        for kind, namespace in self._places():
            found = self._sweep_one(kind, namespace)
            self._in_a_row[kind, namespace] = self._in_a_row[kind, namespace] + 1 if found else 0
            if found:
                self._metrics.missed_events.labels(kind).inc(len(found))
                log.warning("a watch missed events", kind=kind, namespace=namespace, objects=len(found))
            missed += found
        self._measure()
        return missed

    def _sweep_one(self, kind: str, namespace: str | None) -> list[Manifest]:
        before = self._cache.uids(kind, namespace)
        listed = self._list(kind, namespace)
        if not self._cache.missed(kind, namespace, listed, before):
            return []
        self._sleep(GRACE_SECONDS)
        return self._cache.fill(kind, namespace, listed, before)

    def deaf_kinds(self) -> list[str]:
        """Kinds whose watch has missed something again and again."""
        return sorted({kind for (kind, _), times in self._in_a_row.items() if times >= DEAF_AFTER})

    def _places(self) -> Iterator[tuple[str, str | None]]:
        return ((kind, namespace) for kind in WATCHED_KINDS for namespace in self._namespaces)

    def _list(self, kind: str, namespace: str | None) -> list[Manifest]:
        selector = label_selector(kind)
        pages = self._api.pages(kind, namespace, {"labelSelector": selector} if selector else None)
        return [item for page in pages for item in page]

    def _measure(self) -> None:
        for kind, count in self._cache.counts().items():
            self._metrics.watched_objects.labels(kind).set(count)
