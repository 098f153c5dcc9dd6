"""Event times: RFC 3339 text, or a number since 1970 in seconds, milliseconds, microseconds or nanoseconds.

The unit of a number is told by its size: below 10¹¹ seconds (until the year 5138), below 10¹⁴ milliseconds, below 10¹⁷
microseconds, else nanoseconds.
"""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from store_runtime.streams.model import TIME_NS_MAX

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3), (10**19, 1))
_MICROSECOND_END = 26  # of 2026-11-21T10:00:00.123456


class NotATime(ValueError):
    """It cannot be read as a time that entries may have (1970 to 2262)."""


def parse_time_ns(value: str | int | float) -> int:
    """Nanoseconds since 1970; raises NotATime."""
    time_ns = _text_ns(value) if isinstance(value, str) else _number_ns(value)
    if not 0 <= time_ns < TIME_NS_MAX:
        raise NotATime(f"{_short(value)} is not between 1970 and 2262")
    return time_ns


def _text_ns(text: str) -> int:
    if len(text) < 20 or text[10] not in "Tt ":
        return _digits_ns(text)
    try:
        moment = datetime.fromisoformat(text)
        since = moment - _EPOCH
    except (ValueError, TypeError, OverflowError) as error:
        raise NotATime(f"{_short(text)} is not a time like 2026-11-21T10:00:00Z") from error
    time_ns = (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
    return time_ns + _nanoseconds(text) if len(text) > _MICROSECOND_END and text[19] in ".," else time_ns


def _nanoseconds(text: str) -> int:
    """The three digits of a fraction that datetime does not keep."""
    digits = ""
    for character in text[_MICROSECOND_END : _MICROSECOND_END + 3]:
        if not character.isdigit():
            break
        digits += character
    return int(digits.ljust(3, "0")) if digits else 0


def _digits_ns(text: str) -> int:
    if not text.strip().lstrip("-").replace(".", "", 1).isdecimal():
        raise NotATime(f"{_short(text)} is neither RFC 3339 like 2026-11-21T10:00:00Z nor a number since 1970")
    return _number_ns(text.strip())


def _number_ns(value: str | int | float) -> int:
    try:
        number = Decimal(value if isinstance(value, str) else repr(value))
        scale = next(scale for below, scale in _UNITS if abs(number) < below)
        return int(number * scale)
    except (InvalidOperation, StopIteration, ValueError, OverflowError) as error:
        raise NotATime(f"{_short(value)} is not a number of seconds, ms, µs or ns since 1970") from error


def _short(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= 60 else text[:57] + "…")
