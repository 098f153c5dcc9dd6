"""Answers from parts: newest or oldest N, counts and distinct values. Pure but for reading the parts.

Parts are visited in the order of the answer, and no further than it needs: a part that begins behind the last of N
entries found so far is not opened.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from store_runtime.engine.parts import Part
from store_runtime.engine.rows import REST, SEQUENCE, TIME

if TYPE_CHECKING:
    import polars as pl

_Rest = msgspec.json.Decoder(dict[str, str])


class Found(NamedTuple):
    """One entry."""

    time_ns: int
    sequence: int
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class Selection:
    """Entries with from_ns ≤ time < to_ns whose fields have one of the wanted values each (a missing one has none)."""

    from_ns: int
    to_ns: int
    equal: Mapping[str, tuple[str, ...]]


def find(
    parts: Sequence[Part], selection: Selection, *, limit: int, ascending: bool, after: tuple[int, int] | None
) -> list[Found]:
    """Up to `limit` entries in the order of (time, sequence), those behind `after` in that order."""
    found: list[Found] = []
    for part in sorted(_touched(parts, selection, after, ascending), key=_nearest(ascending)):
        if len(found) == limit and _is_behind(part, found[-1], ascending):
            break
        found += _rows(_matching(part, selection, after, ascending), part, limit, ascending)
        found = sorted(found, key=lambda entry: entry[:2], reverse=not ascending)[:limit]
    return found


def count(parts: Sequence[Part], selection: Selection) -> int:
    """How many entries; parts that lie wholly in a window without conditions are not opened."""
    import polars as pl

    total = 0
    for part in _touched(parts, selection):
        if not selection.equal and selection.from_ns <= part.min_ns and part.max_ns < selection.to_ns:
            total += part.rows
        else:
            total += _matching(part, selection).select(pl.len()).collect().item()
    return total


def distinct(parts: Sequence[Part], field: str, limit: int, selection: Selection) -> list[str]:
    """The values of a field, sorted; of at most `limit` of them."""
    import polars as pl

    values: set[str] = set()
    for part in _touched(parts, selection):
        expression = _field(part, field)
        if expression is not None and len(values) <= limit:
            rows = _matching(part, selection).select(expression.alias(field)).unique().limit(limit + 1)
            values.update(rows.filter(pl.col(field).is_not_null()).collect()[field])
    return sorted(values)[:limit]


def names(parts: Iterable[Part]) -> list[str]:
    """Every field seen, sorted."""
    import polars as pl

    found: set[str] = set()
    for part in parts:
        found.update(column for column in part.columns if column != REST)
        if part.rest is not None:
            found.update(part.rest)
        elif REST in part.columns:
            for text in part.scan().select(REST).filter(pl.col(REST).is_not_null()).collect()[REST]:
                found.update(_Rest.decode(text))
    return sorted(found)


def entries_between(parts: Iterable[Part], first_sequence: int, last_sequence: int) -> list[Found]:
    """Every entry whose sequence lies between the two, both included, in the order of sequences."""
    import polars as pl

    found: list[Found] = []
    for part in parts:
        if part.first_sequence <= last_sequence and first_sequence <= part.last_sequence:
            rows = part.scan().filter(pl.col(SEQUENCE).is_between(first_sequence, last_sequence))
            found += _entries(rows.collect())
    return sorted(found, key=lambda entry: entry.sequence)


# -- one part ---------------------------------------------------------------------------------------------------------


def _touched(
    parts: Iterable[Part], selection: Selection, after: tuple[int, int] | None = None, ascending: bool = False
) -> list[Part]:
    """Parts that can hold something of the selection, by what is known of them without opening them."""
    from_ns, to_ns = selection.from_ns, selection.to_ns
    if after is not None:
        from_ns, to_ns = (max(from_ns, after[0]), to_ns) if ascending else (from_ns, min(to_ns, after[0] + 1))
    return [
        part
        for part in parts
        if part.rows
        and part.max_ns >= from_ns
        and part.min_ns < to_ns
        and all(_may_have(part, field) for field in selection.equal)
    ]


def _may_have(part: Part, field: str) -> bool:
    return field in part.columns or (REST in part.columns if part.rest is None else field in part.rest)


def _nearest(ascending: bool):  # type: ignore[no-untyped-def]
    return (lambda part: part.min_ns) if ascending else (lambda part: -part.max_ns)


def _is_behind(part: Part, last: Found, ascending: bool) -> bool:
    return part.min_ns > last.time_ns if ascending else part.max_ns < last.time_ns


def _matching(
    part: Part, selection: Selection, after: tuple[int, int] | None = None, ascending: bool = False
) -> "pl.LazyFrame":
    import polars as pl

    rows = part.scan()
    if part.min_ns < selection.from_ns:
        rows = rows.filter(pl.col(TIME) >= selection.from_ns)
    if part.max_ns >= selection.to_ns:
        rows = rows.filter(pl.col(TIME) < selection.to_ns)
    if after is not None:
        rows = rows.filter(_behind(after, ascending))
    for field, values in selection.equal.items():
        expression = _field(part, field)
        rows = rows.filter(pl.lit(False) if expression is None else expression.is_in(list(values)))
    return rows


def _behind(after: tuple[int, int], ascending: bool) -> "pl.Expr":
    import polars as pl

    time, sequence = pl.col(TIME), pl.col(SEQUENCE)
    if ascending:
        return (time > after[0]) | ((time == after[0]) & (sequence > after[1]))
    return (time < after[0]) | ((time == after[0]) & (sequence < after[1]))


def _field(part: Part, field: str) -> "pl.Expr | None":
    """The field as an expression over the part's columns; None where no entry has it."""
    import polars as pl

    if field in part.columns and field != REST:
        return pl.col(field)
    if not _may_have(part, field):
        return None
    return pl.col(REST).map_elements(
        lambda text: _Rest.decode(text).get(field), return_dtype=pl.String, skip_nulls=True
    )


def _rows(rows: "pl.LazyFrame", part: Part, limit: int, ascending: bool) -> list[Found]:
    if not part.is_sorted:
        rows = rows.sort(TIME, SEQUENCE)
    return _entries((rows.head(limit) if ascending else rows.tail(limit)).collect())


def _entries(rows: "pl.DataFrame") -> list[Found]:
    names = rows.columns[2:]
    return [
        Found(time_ns, sequence, _fields(names, values))
        for time_ns, sequence, *values in rows.select(TIME, SEQUENCE, *names).rows()
    ]


def _fields(names: Sequence[str], values: Sequence[str | None]) -> dict[str, str]:
    fields = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    rest = fields.pop(REST, None)
    return fields if rest is None else fields | _Rest.decode(rest)
