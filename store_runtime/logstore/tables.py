"""The schema of request logs, as SQLAlchemy tables: what the migrations, run one after the other, must amount to.

A narrow row for what is filtered, sorted and summed; the payload apart, so that a page never reads it. Ids compare byte
by byte on every backend (collation "C"), so that export order and cursors mean the same everywhere. `bytes` is what
retention by size counts: a row with its payload, and a payload alone, so that neither has to be read for it.

No foreign key: both tables are only written together, in one transaction, and a look-up for each payload costs.
"""

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

ID = String(255).with_variant(String(255, collation="C"), "postgresql")
SHORT = String(512)

request_log = Table(
    "request_log",
    metadata,
    Column("id", ID, primary_key=True),
    Column("timestamp", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("status", String(16), nullable=False),
    Column("object_type", SHORT),
    Column("provider", SHORT),
    Column("model", SHORT),
    Column("alias", SHORT),
    Column("stream", Boolean),
    Column("latency_ms", Double),
    Column("prompt_tokens", BigInteger),
    Column("completion_tokens", BigInteger),
    Column("total_tokens", BigInteger),
    Column("cached_read_tokens", BigInteger),
    Column("cost", Double),
    Column("stop_reason", SHORT),
    Column("number_of_retries", BigInteger),
    Column("fallback_index", BigInteger),
    Column("parent_request_id", SHORT),
    Column("session_id", SHORT),
    Column("selected_key_id", SHORT),
    Column("virtual_key_id", SHORT),
    Column("routing_rule_id", SHORT),
    Column("user_id", SHORT),
    Column("team_id", SHORT),
    Column("customer_id", SHORT),
    Column("error_message", Text),
    Column("metadata", Text),
    Column("bytes", BigInteger, nullable=False),
    Index("request_log_by_time", "timestamp", "id"),
)

request_log_payload = Table(
    "request_log_payload",
    metadata,
    Column("id", ID, primary_key=True),
    Column("timestamp", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("payload", Text, nullable=False),
    Index("request_log_payload_by_time", "timestamp", "id"),
)

ROW_BYTES = 300
"""What a row takes beside its values: headers, index entries, room in pages. Measured; see benchmarks/logs.py."""
PAYLOAD_ROW_BYTES = 300

# -- the store's identity: made by provision, before any migration ----------------------------------------------------

identity = MetaData()

META_FORMAT = 1

store_meta = Table(
    "_store_meta",
    identity,
    Column("only", Integer, primary_key=True, autoincrement=False),  # always 1: there is one row
    Column("format", Integer, nullable=False),
    Column("store_id", String(255), nullable=False),
    Column("owner", String(255), nullable=False),
    Column("role", String(16), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("capture", Boolean, nullable=False),
    Column("schema_version", String(64), nullable=False),
    Column("successor", String(255), nullable=False),
    Column("migration_id", String(255), nullable=False),
)

store_mark = Table(
    "_store_mark",
    identity,
    Column("key", ID, primary_key=True),
    Column("version", BigInteger, nullable=False),
)
