"""What callers of Streams pass and get, and the limits on it; a leaf."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from store_runtime.errors import InvalidInput

STREAM_NAME_BYTES_MAX = 255
"""UTF-8 bytes of a stream's name: that of a Kubernetes name, with room for other scripts."""
ENTRY_BYTES_MAX = 1024 * 1024
"""JSON bytes of one entry, unless configured: ten stack traces fit."""
BODY_BYTES_MAX = 32 * 1024 * 1024
"""Bytes of one ingest request once decompressed: a batch is in memory a few times while it is checked."""
ENTRY_FIELDS_MAX = 4096
"""Fields of one entry once flattened: twenty times the widest real events."""
FIELD_NAME_BYTES_MAX = 1024
"""UTF-8 bytes of a field's name once flattened."""
NESTING_MAX = 32
"""Objects within objects that are flattened; what lies deeper keeps its JSON text."""
INDEXED_FIELDS_MAX = 64
"""Indexed fields of a stream: each costs a filter of a kilobyte in every segment."""
REASONS_MAX = 10
"""Reasons of rejected entries in a reply; all are counted."""
PAGE_DEFAULT, PAGE_MAX = 100, 10_000
"""Entries in one page."""
CONDITIONS_MAX, CONDITION_VALUES_MAX = 32, 1000
"""Fields in one query's conditions, and values of each."""
DISTINCT_VALUES_MAX = 1000
"""Distinct values told of an indexed field."""
TIME_NS_MAX = 2**63 - 1
"""The year 2262."""


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """A stream's limits (0: none) and indexed fields; `declared`: a Stream resource manages it."""

    max_age_ns: int = 0
    max_bytes: int = 0
    indexed_fields: tuple[str, ...] = ()
    declared: bool = False


class EntryBatch(NamedTuple):
    """Checked entries of one stream.

    `body`: `entries` lines of NDJSON, objects of strings or null (absent), with the keys `columns`, where `_rest` is a
    JSON object of the fields that have no column; other keys are to be ignored, and of equal keys the first counts.
    `times`: int64 little endian nanoseconds since 1970, or empty if all entries have `min_ns`.
    """

    columns: tuple[str, ...]
    entries: int
    min_ns: int
    max_ns: int
    times: bytes
    body: bytes


class IngestReport(NamedTuple):
    """What became of a body: `reasons` tell of the first rejected entries, by line."""

    accepted: int
    rejected: int = 0
    reasons: tuple[str, ...] = ()


class Position(NamedTuple):
    """Where an entry stands among those of its stream: by time, and by sequence where times are equal."""

    time_ns: int
    sequence: int


class Entry(NamedTuple):
    """`key` is `<ms, 20 digits>:<uuid>`, for ever the same."""

    key: str
    position: Position
    fields: dict[str, str]


class EntryPage(NamedTuple):
    """A run of entries in the order asked; `cursor` resumes after them, None at the end."""

    entries: tuple[Entry, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Window:
    """from_ns ≤ time < to_ns, and each field of `equal` has one of its values."""

    from_ns: int = 0
    to_ns: int = TIME_NS_MAX
    equal: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def require_stream_name(name: str) -> str:
    """The name, if it is one; raises InvalidInput."""
    problem = _name_problem(name, STREAM_NAME_BYTES_MAX)
    if problem:
        raise InvalidInput(f"a stream's name {problem}", field="stream")
    return name


def require_field_name(name: str, field: str) -> str:
    if not name or len(name.encode(errors="replace")) > FIELD_NAME_BYTES_MAX:
        raise InvalidInput(f"{field} has to name fields with 1 to {FIELD_NAME_BYTES_MAX} bytes", field=field)
    return name


def _name_problem(name: str, bytes_max: int) -> str:
    if not name:
        return "has to have at least one character"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        return "must not have control characters"
    size = len(name.encode())
    return f"has at most {bytes_max} bytes, not {size}" if size > bytes_max else ""
