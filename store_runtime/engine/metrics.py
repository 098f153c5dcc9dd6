"""The engine's own metrics; those of calls are the portable class's."""

from prometheus_client import Counter, Gauge, Histogram

WAL_BYTES = Counter("storekeeper_entries_wal_bytes_total", "Bytes made durable in the write-ahead log.")
WAL_BATCHES = Counter("storekeeper_entries_wal_batches_total", "Batches made durable in the write-ahead log.")
SYNC_SECONDS = Histogram(
    "storekeeper_entries_wal_sync_seconds",
    "Time of one fdatasync of the write-ahead log.",
    buckets=(0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1),
)
UNBUILT_BYTES = Gauge("storekeeper_entries_unbuilt_bytes", "Sealed log that waits for a builder.")
BUILT_ROWS = Counter("storekeeper_entries_built_rows_total", "Entries built into segments.")
BUILD_SECONDS = Histogram(
    "storekeeper_entries_build_seconds", "Time to build one log file.", buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
)
BUILD_FAILURES = Counter("storekeeper_entries_build_failures_total", "Attempts to build a log file that failed.")
BUILDER_DEATHS = Counter("storekeeper_entries_builder_deaths_total", "Builder processes that ended unasked.")
DAMAGE = Counter("storekeeper_entries_damage_total", "Damaged data that was found and put aside.", ["what"])
TORN_BYTES = Counter("storekeeper_entries_wal_torn_bytes_total", "Unacknowledged bytes cut off the log after a crash.")
DROPPED_SEGMENTS = Counter("storekeeper_entries_dropped_segments_total", "Segments dropped by retention.", ["why"])
