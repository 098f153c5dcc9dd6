"""The operator's Prometheus metrics, by the names that controllers of other frameworks have.

One instance a process, handed to those who count; no global registry, so that tests have their own.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

RECONCILE_BUCKETS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
QUEUE_BUCKETS = (0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0)


class Metrics:
    """Thread-safe, as prometheus-client is."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # twice the series, for a time that nobody asks for
        registry = self.registry = CollectorRegistry()
        self.reconciles = Counter("storekeeper_reconcile_total", "Reconciles", ["kind", "result"], registry=registry)
        self.reconcile_errors = Counter(
            "storekeeper_reconcile_errors_total",
            "Reconciles that failed and will be retried",
            ["kind"],
            registry=registry,
        )
        self.reconcile_seconds = Histogram(
            "storekeeper_reconcile_time_seconds",
            "Duration of a reconcile",
            ["kind"],
            buckets=RECONCILE_BUCKETS,
            registry=registry,
        )
        self.queue_depth = Gauge("storekeeper_workqueue_depth", "Keys that are due", registry=registry)
        self.queue_adds = Counter("storekeeper_workqueue_adds_total", "Keys added", registry=registry)
        self.queue_retries = Counter("storekeeper_workqueue_retries_total", "Keys that failed", registry=registry)
        self.queue_seconds = Histogram(
            "storekeeper_workqueue_queue_duration_seconds",
            "From being due to being worked on",
            buckets=QUEUE_BUCKETS,
            registry=registry,
        )
        self.leader = Gauge(
            "storekeeper_leader_election_master_status", "1 where this replica leads", ["name"], registry=registry
        )
        self.api_requests = Counter(
            "storekeeper_api_requests_total",
            "Calls to the Kubernetes API (status 0: no answer)",
            ["verb", "kind", "status"],
            registry=registry,
        )
        self.watched_objects = Gauge("storekeeper_watched_objects", "Objects in the cache", ["kind"], registry=registry)
        self.missed_events = Counter(
            "storekeeper_watch_missed_total", "Objects whose change no watch had told of", ["kind"], registry=registry
        )

    def count_request(self, verb: str, kind: str, status: int) -> None:
        self.api_requests.labels(verb, kind, str(status)).inc()

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)
