"""Request logs as items of an export: `{"row": {column: value}, "payload": JSON text or null}`, keyed by id.

What comes in by an import is checked like anything from outside: it may be of another version, or damaged. A column
that is missing was not there when it was exported; one that is unknown is from a newer version and refused.
"""

from typing import Any

import msgspec
from sqlalchemy import Boolean, Double
from sqlalchemy.types import TypeEngine

from store_runtime.errors import InvalidInput
from store_runtime.logstore.driver import StoredLog
from store_runtime.logstore.model import ID_CHARS_MAX
from store_runtime.logstore.tables import request_log
from store_runtime.switch.driver import ExportItem


def _python_type(type_: TypeEngine[Any]) -> Any:
    if isinstance(type_, Double):
        return float
    return bool if isinstance(type_, Boolean) else type_.python_type


def _field(column: Any) -> Any:
    type_ = _python_type(column.type)
    return (str(column.name), type_ | None, None) if column.nullable else (str(column.name), type_)


_Row: Any = msgspec.defstruct(
    "Row",
    [_field(column) for column in request_log.c if column.name != "bytes"],
    kw_only=True,
    forbid_unknown_fields=True,
)


class _State(msgspec.Struct, forbid_unknown_fields=True):
    row: _Row
    payload: str | None


def to_item(key: str, log: StoredLog | None) -> ExportItem:
    """None does not exist (any more)."""
    return ExportItem(key, None if log is None else {"row": log.row, "payload": log.payload})


def to_log(item: ExportItem) -> StoredLog | None:
    """None is to be deleted. Raises InvalidInput that names the key."""
    if not 1 <= len(item.key) <= ID_CHARS_MAX or "\0" in item.key:
        raise InvalidInput(f"{item.key[:40]!r} is no key of a request log", field="key")
    if item.state is None:
        return None
    try:
        state = msgspec.convert(item.state, _State)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"the state of {item.key!r} is not one of a request log: {error}", field=item.key) from error
    if state.row.id != item.key:
        raise InvalidInput(f"the state of {item.key!r} is that of {state.row.id!r}", field=item.key)
    return StoredLog(msgspec.structs.asdict(state.row), state.payload)
