"""The entry engine: log entries of many streams in one directory, owned by one process.

Write path: entry_engine → wal (one log, group commit, fdatasync, then the acknowledgement) → workshop → builder
processes → segments (Parquet) and catalogue (SQLite) → the log file goes. Read path: reading → parts (segments, and
chunks of log that are not built yet) → query. Formats: docs/formats/wal.md, segment.md, catalogue.md, keyspace.md.
"""
