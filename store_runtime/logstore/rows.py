"""Between what callers pass (model) and what drivers keep: columns and JSON text. Pure.

A payload is kept as it was given. Times become microseconds; `total_tokens` is prompt and completion together unless
the gateway says otherwise.
"""

import json
from datetime import datetime
from typing import Any

from store_runtime.logstore.driver import Row, StoredLog
from store_runtime.logstore.model import (
    RequestLog,
    RequestLogChange,
    Status,
    microseconds,
    moment,
    payload_text,
    written,
)

_TOKENS = ("prompt_tokens", "completion_tokens")


def to_stored(log: RequestLog, stored_at: datetime) -> StoredLog:
    """A new request log as it is kept. Raises InvalidInput and TooLarge for its payload."""
    fields = {name: getattr(log, name) for name in _FIELDS}
    fields["created_at"] = log.created_at or stored_at
    if log.total_tokens is None:
        fields["total_tokens"] = _total(fields)
    return StoredLog(_columns(fields), None if log.payload is None else payload_text(log.payload))


def to_log(stored: StoredLog) -> RequestLog:
    """A request log as it was given. What is stored was validated when it came in."""
    fields = dict(stored.row)
    fields["timestamp"], fields["created_at"] = moment(fields["timestamp"]), moment(fields["created_at"])
    fields["status"] = Status(fields["status"])
    for name, text in (("metadata", fields["metadata"]), ("payload", stored.payload)):
        fields[name] = None if text is None else json.loads(text)
    return RequestLog.model_construct(**fields)


def revised(stored: StoredLog, change: RequestLogChange) -> StoredLog:
    """What a change makes of a stored request log."""
    fields = {name: getattr(change, name) for name in change.model_fields_set}
    parts = fields.pop("payload", {})
    row = stored.row | _columns(fields)
    if "total_tokens" not in fields and stored.row["total_tokens"] in (None, _total(stored.row)):
        row["total_tokens"] = _total(row)
    return StoredLog(row, _merged(stored.payload, parts))


_FIELDS = tuple(name for name in RequestLog.model_fields if name != "payload")


def _total(row: Row) -> int | None:
    counts = [row[name] for name in _TOKENS if row[name] is not None]
    return sum(counts) if counts else None


def _columns(fields: dict[str, Any]) -> Row:
    row = dict(fields)
    for name in ("timestamp", "created_at"):
        if row.get(name) is not None:
            row[name] = microseconds(row[name])
    if row.get("metadata") is not None:
        row["metadata"] = written(row["metadata"])
    if "status" in row:
        row["status"] = row["status"].value
    return row


def _merged(text: str | None, parts: dict[str, Any]) -> str | None:
    if not parts:
        return text
    payload = (json.loads(text) if text else {}) | parts
    payload = {name: value for name, value in payload.items() if value is not None}
    return payload_text(payload) if payload else None
