"""Cursors: where a page of entries ended, so that the next one goes on there whatever was ingested meanwhile."""

import base64
import binascii
import struct

from store_runtime.errors import InvalidInput

_CURSOR = struct.Struct(">Bqq")
_CURSOR_FORMAT = 1


def pack_cursor(time_ns: int, sequence: int) -> str:
    packed = _CURSOR.pack(_CURSOR_FORMAT, time_ns, sequence)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def parse_cursor(cursor: str) -> tuple[int, int]:
    """(time, sequence) of the last entry that was returned; raises InvalidInput."""
    try:
        packed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        version, time_ns, sequence = _CURSOR.unpack(packed)
    except (binascii.Error, struct.error, ValueError) as error:
        raise InvalidInput("the cursor is not one that this store gave out", field="cursor") from error
    if version != _CURSOR_FORMAT:
        raise InvalidInput("the cursor is of another version; start without one", field="cursor")
    return time_ns, sequence
