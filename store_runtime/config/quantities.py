"""Durations and sizes as people write them in YAML: `5m`, `720h`, `30d`, `1Gi`, `0`.

Written forms: Go durations plus `d` and `w` (https://pkg.go.dev/time#ParseDuration), and Kubernetes quantities
(https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/). Parsed, a duration is a
`timedelta` and a size an `int` of bytes, so units cannot be mixed up. They serialise back to a written form.
"""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_UNIT_SECONDS = {
    "ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600),
    "d": Decimal(86_400), "w": Decimal(604_800),
}  # fmt: skip
_UNIT_BYTES = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50,
}  # fmt: skip
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
DURATION_PATTERN = r"^(0|([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+)$"
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"

WRITTEN_CHARS_MAX = 32
"""Of a duration or a size, where a schema is checked: what is longer is a typing error."""
DURATION_MAX = timedelta(days=36_500)
"""A hundred years: what is longer is a typing error."""


def parse_duration(value: Any) -> timedelta:
    """`5m`, `1h30m`, `30d`, `0`; a bare number other than 0 has no unit and is refused."""
    if isinstance(value, timedelta):
        duration = value
    elif value in (0, "0"):
        return timedelta()
    elif isinstance(value, str) and re.fullmatch(DURATION_PATTERN, value):
        seconds = sum(Decimal(n) * _UNIT_SECONDS[unit] for n, unit in _DURATION_PART.findall(value))
        if seconds > DURATION_MAX.total_seconds():
            raise ValueError(f"{value!r} is longer than a hundred years")
        duration = timedelta(seconds=float(seconds))
    else:
        raise ValueError(f"{value!r} is not a duration; write for example 30s, 5m, 720h or 30d (0 is unlimited)")
    if not timedelta() <= duration <= DURATION_MAX:
        raise ValueError(f"{value!r} is out of range: 0 to a hundred years")
    return duration


def format_duration(value: timedelta) -> str:
    """The shortest single-unit form: `24h`, `90m`, `1500ms`, `0`."""
    milliseconds = round(value.total_seconds() * 1000)
    if milliseconds == 0:
        return "0"
    for unit in ("h", "m", "s"):
        step = int(_UNIT_SECONDS[unit] * 1000)
        if milliseconds % step == 0:
            return f"{milliseconds // step}{unit}"
    return f"{milliseconds}ms"


def parse_size(value: Any) -> int:
    """`10Gi`, `1.5G`, `1048576`, 0; fractions are rounded down to a whole byte."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and re.fullmatch(SIZE_PATTERN, value):
        number, unit = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", value).groups()  # type: ignore[union-attr]
        size = int(Decimal(number) * _UNIT_BYTES[unit])
    else:
        raise ValueError(f"{value!r} is not a size; write for example 500Mi, 10Gi or 1048576 (0 is unlimited)")
    if not 0 <= size < 2**63:
        raise ValueError(f"{value!r} is out of range: 0 to 8Ei")
    return size


def format_size(value: int) -> str:
    """The shortest exact binary form: `10Gi`, `1536`, `0`."""
    for unit in ("Pi", "Ti", "Gi", "Mi", "Ki"):
        step = _UNIT_BYTES[unit]
        if value and value % step == 0:
            return f"{value // step}{unit}"
    return str(value)


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "maxLength": WRITTEN_CHARS_MAX, "pattern": DURATION_PATTERN}),
]
"""A length of time; 0 or absent means unlimited wherever it is a limit."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": WRITTEN_CHARS_MAX, "pattern": SIZE_PATTERN}),
]
"""A number of bytes; 0 or absent means unlimited wherever it is a limit."""
