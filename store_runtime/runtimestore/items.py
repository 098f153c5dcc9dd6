"""What an item of an export has to look like before a backend takes it: keys of keys, states of ledger.

Applying an import must never fail half-way, and in the file driver not again at every start, so its shape is checked
before it is decided.
"""

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec

from store_runtime.errors import InvalidInput
from store_runtime.runtimestore.keys import CACHE, OPERATION, USAGE
from store_runtime.switch.driver import ExportItem

_AboveZero = Annotated[int, msgspec.Meta(ge=1)]
_NotNegative = Annotated[int, msgspec.Meta(ge=0)]


class _Level(msgspec.Struct, forbid_unknown_fields=True):
    """`buckets`: (number, charges, refunds), oldest first."""

    width_ns: _AboveZero
    slots: _AboveZero
    buckets: list[tuple[int, float, float]]


class _Metric(msgspec.Struct, forbid_unknown_fields=True):
    total: float
    levels: list[_Level]


class _Cached(msgspec.Struct, forbid_unknown_fields=True):
    value: str
    expires_ns: _NotNegative


class _Operation(msgspec.Struct, forbid_unknown_fields=True):
    content: str
    expires_ns: _NotNegative


_SHAPES: tuple[tuple[str, int, Any], ...] = ((USAGE, 3, _Metric), (CACHE, 2, _Cached), (OPERATION, 1, _Operation))
"""Prefix of the key, separators in it, and shape of the state."""


def require_items(items: Iterable[ExportItem]) -> None:
    """Raises InvalidInput that names the key of the first that is none."""
    for item in items:
        shape = _shape(item.key)
        if item.state is None:
            continue
        try:
            msgspec.convert(item.state, shape)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"the state of {item.key!r} is not one: {error}", field=item.key) from error


def _shape(key: str) -> Any:
    for prefix, separators, shape in _SHAPES:
        if key.startswith(prefix) and key.count("/") == separators:
            return shape
    raise InvalidInput(f"{key!r} is not the key of an item of a RuntimeStore", field="key")
