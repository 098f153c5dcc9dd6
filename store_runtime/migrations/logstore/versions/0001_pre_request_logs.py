"""Request logs: a narrow row for what is filtered and summed, the payload apart."""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Double, String, Text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = String(255).with_variant(String(255, collation="C"), "postgresql")
SHORT = String(512)


def upgrade() -> None:
    op.create_table(
        "request_log",
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
    )
    op.create_index("request_log_by_time", "request_log", ["timestamp", "id"])
    op.create_table(
        "request_log_payload",
        Column("id", ID, primary_key=True),
        Column("timestamp", BigInteger, nullable=False),
        Column("bytes", BigInteger, nullable=False),
        Column("payload", Text, nullable=False),
    )
    op.create_index("request_log_payload_by_time", "request_log_payload", ["timestamp", "id"])


def downgrade() -> None:
    op.drop_table("request_log_payload")
    op.drop_table("request_log")
