"""One entry, flattened: nested objects become dotted names, null is absent, other values keep their JSON text.

`{"a": {"b": 1.50}, "c": [1, 2], "d": null}` is `a.b` = "1.50" and `c` = "[1, 2]". Where two names meet, the first wins.
"""

import json
from typing import Any

import msgspec

from store_runtime.streams.event_time import NotATime, parse_time_ns
from store_runtime.streams.model import ENTRY_FIELDS_MAX, FIELD_NAME_BYTES_MAX, NESTING_MAX

TIME_FIELD = "_time"
_Object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_Text = msgspec.json.Decoder(str)


class Rejected(ValueError):
    """This entry cannot be stored; says why."""


def flatten(line: bytes) -> tuple[int | None, dict[str, str]]:
    """(event time in nanoseconds if it has one, fields) of one JSON object; raises Rejected."""
    try:
        line.decode()
        members = _Object.decode(line)
        if not _is_plain(line, members):
            members = _first_wins(line)
        fields: dict[str, str] = {}
        _collect(members, "", 1, fields)
        return _event_time(members.get(TIME_FIELD), fields), fields
    except UnicodeError as error:
        raise Rejected("not UTF-8") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise Rejected(f"not a JSON object: {error}") from error
    except NotATime as error:
        raise Rejected(f"{TIME_FIELD}: {error}") from error


def _is_plain(line: bytes, members: dict[str, msgspec.Raw]) -> bool:
    """Whether keys cannot have been repeated: as many key-like places as members, in an object without objects."""
    return line.count(b'":') == len(members) and line.count(b"{") == 1


def _first_wins(line: bytes) -> dict[str, msgspec.Raw]:
    """Decoded again with the first of equal keys; only if there are any, as numbers become text in this."""
    repeated = False

    def keep_first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        kept: dict[str, Any] = {}
        for name, value in pairs:
            repeated = repeated or name in kept
            kept.setdefault(name, value)
        return kept

    value = json.loads(line, object_pairs_hook=keep_first, parse_int=str, parse_float=str)
    return _Object.decode(json.dumps(value, ensure_ascii=False).encode() if repeated else line)


def _collect(members: dict[str, msgspec.Raw], prefix: str, depth: int, fields: dict[str, str]) -> None:
    for name, raw in members.items():
        data = bytes(raw)
        full = prefix + name
        if full == TIME_FIELD:
            continue
        if data[:1] == b"{" and depth < NESTING_MAX and (inner := _Object.decode(data)):
            _collect(inner, full + ".", depth + 1, fields)
        elif data != b"null" and full not in fields:
            fields[_checked(full)] = _Text.decode(data) if data[:1] == b'"' else data.decode()
            if len(fields) > ENTRY_FIELDS_MAX:
                raise Rejected(f"more than {ENTRY_FIELDS_MAX} fields")


def _checked(name: str) -> str:
    if len(name) * 4 > FIELD_NAME_BYTES_MAX and len(name.encode()) > FIELD_NAME_BYTES_MAX:
        raise Rejected(f"the field {name[:40]!r}… has a name of more than {FIELD_NAME_BYTES_MAX} bytes")
    return name


def _event_time(raw: msgspec.Raw | None, fields: dict[str, str]) -> int | None:
    if raw is None or bytes(raw) == b"null":
        return None
    data = bytes(raw)
    if data[:1] == b'"':
        return parse_time_ns(_Text.decode(data))
    if data[:1] in b"-0123456789":
        return parse_time_ns(data.decode())
    raise NotATime("it has to be text or a number")
