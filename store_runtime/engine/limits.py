"""The engine's limits: every one has a reason and a unit; tests make them small."""

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one engine may use."""

    wal_file_bytes: int = 32 * MEBIBYTE
    """A log file above this is sealed and built: about 95,000 entries, 350 MB of a builder's memory."""
    wal_file_seconds: float = 300.0
    """A log file older than this is sealed: quiet streams get at most one small segment each five minutes."""
    queued_bytes_max: int = 64 * MEBIBYTE
    """Batches waiting for the log: above it writers are told to come back. A tenth of a second at disk speed."""
    unbuilt_bytes_max: int = 256 * MEBIBYTE
    """Log waiting for the builders: above it writers are told to come back. A restart reads this much again."""
    group_bytes_max: int = 8 * MEBIBYTE
    """Bytes under one fdatasync: more would make the first of the group wait for the last."""
    group_frames_max: int = 480
    """Batches under one fdatasync: with two buffers each they stay below IOV_MAX (1024)."""
    reserve_bytes: int = 64 * MEBIBYTE
    """Free disk that writers leave alone: builders need it to turn the log into segments, which frees the log."""
    parsed_bytes_max: int = 64 * MEBIBYTE
    """Unbuilt log kept parsed for queries (bytes of log); the rest is parsed again when asked for."""
    builders: int = 1
    """Builder processes. One keeps up with 290,000 entries a second on one core."""
    build_seconds_max: float = 300.0
    """A builder that needs longer for one log file hangs: it is ended and the file tried again."""
    retry_seconds_max: float = 60.0
    """Longest pause before a log file that could not be built is tried again."""
    housekeeping_seconds: float = 60.0
    """How often retention runs by itself."""
    streams_max: int = 100_000
    """Streams of one engine: each costs about a kilobyte of memory."""


BLOCK_ENTRIES = 1024
"""Entries of a stream in one item of export and one dirty mark (docs/formats/keyspace.md)."""

CHUNK_BYTES = MEBIBYTE
CHUNK_ENTRIES = 4096
"""Unbuilt entries of a stream are parsed in runs of this size: 5 ms each, so a newest-N query parses little."""

EXPORT_PAGE_BYTES = 8 * MEBIBYTE
"""Bytes of entries after which a page of an export ends, however many items were asked for."""

ROW_GROUP_ROWS = 16_384
"""Rows in a Parquet row group: the smallest unit a newest-N query decodes."""

COLUMNS_MAX = 64
"""Fields of a stream with a column of their own: 500 would make parsing 15 times slower. The others share one."""
