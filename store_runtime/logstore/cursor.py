"""Cursors of a page: the last row seen, as text that callers give back unread.

base64url of the JSON array [version, order, timestamp in microseconds, id]. A cursor of an older version is refused,
not misread; it names a row, so rows that come or go meanwhile neither hide nor repeat others.
"""

import base64
import json
from typing import Any

from store_runtime.errors import InvalidInput
from store_runtime.logstore.driver import Position
from store_runtime.logstore.model import ID_CHARS_MAX, TIME_MAX, TIME_MIN, Order, is_utf8, microseconds

VERSION = 1
CHARS_MAX = 6_000
"""An id of 255 characters, each escaped as a surrogate pair, in base64: 4,100."""


def encode(position: Position, order: Order) -> str:
    text = json.dumps([VERSION, order.value, position.timestamp, position.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str, order: Order) -> Position:
    """Raises InvalidInput for what is no cursor of ours, or of the other order."""
    try:
        version, of, timestamp, id_ = _fields(cursor)
        if type(version) is not int or version != VERSION or not _is_row(timestamp, id_):
            raise ValueError(cursor)
    except (ValueError, TypeError, RecursionError) as error:
        raise _not_ours() from error
    if of != order.value:
        raise InvalidInput(f"the cursor goes on in the order {of!r}, not {order.value!r}; keep it", field="cursor")
    return Position(timestamp, id_)


def _fields(cursor: str) -> list[Any]:
    if len(cursor) > CHARS_MAX:
        raise ValueError("too long")
    fields = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    if not isinstance(fields, list):
        raise TypeError("not an array")
    return fields


def _is_row(timestamp: object, id_: object) -> bool:
    if type(timestamp) is not int or not isinstance(id_, str) or not 1 <= len(id_) <= ID_CHARS_MAX:
        return False
    return "\0" not in id_ and is_utf8(id_) and microseconds(TIME_MIN) <= timestamp <= microseconds(TIME_MAX)


def _not_ours() -> InvalidInput:
    return InvalidInput("the cursor is not one that this store gave; start without one", field="cursor")
