"""Entry keys and cursors: an entry's key, the same before and after it is built (docs/formats/keyspace.md)."""

import secrets
import uuid

from store_runtime.errors import InvalidInput

SALT_BITS = 58
_SEQUENCE_BITS = 64


def new_salt() -> int:
    """What makes the uuids of one stream differ from those of all others."""
    return secrets.randbits(SALT_BITS)


def entry_key(time_ns: int, sequence: int, salt: int) -> str:
    """`<ms, 20 digits>:<uuid>`; the uuid has the form of RFC 9562's version 4, its free bits are salt and sequence."""
    free = salt << _SEQUENCE_BITS | sequence
    high, middle, low = free >> 74, free >> 62 & 0xFFF, free & (1 << 62) - 1
    value = uuid.UUID(int=high << 80 | 0x4 << 76 | middle << 64 | 0b10 << 62 | low)
    return f"{time_ns // 1_000_000:020d}:{value}"


def sequence_of(key: str) -> tuple[int, int]:
    """(milliseconds, sequence) of an entry key; raises InvalidInput."""
    try:
        milliseconds, identifier = key.split(":")
        value = uuid.UUID(identifier).int
        middle = value >> 64 & 0xFFF
        return int(milliseconds), ((middle << 62) | (value & (1 << 62) - 1)) & (1 << _SEQUENCE_BITS) - 1
    except ValueError as error:
        raise InvalidInput(f"{key!r} is not an entry key", field="key") from error
