"""When a CronJob is due: the five fields of crontab(5) in numbers, by pure arithmetic.

Lists, ranges, steps and `*` are known (`*/15 3 * * 1-5`); names of days and months and macros (`@hourly`) are not:
`manifests/` generates none. As in crontab(5), a day matches if the day of the month *or* the day of the week does when
both are restricted.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
SEARCH_DAYS_MAX = 366 * 8
"""29 February may be eight years away (around 2100)."""


@dataclass(frozen=True, slots=True)
class Crontab:
    """The values that match, field by field. Weekdays count from Sunday = 0."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    def next_after(self, moment: datetime) -> datetime:
        """The first matching minute later than `moment`, in its time zone. ValueError if there is none."""
        start = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
        for offset in range(SEARCH_DAYS_MAX):
            day = start + timedelta(days=offset)
            if not self._matches_day(day):
                continue
            for hour in sorted(self.hours):
                for minute in sorted(self.minutes):
                    candidate = day.replace(hour=hour, minute=minute)
                    if candidate >= start:
                        return candidate
        raise ValueError("no day matches this schedule")

    def _matches_day(self, day: datetime) -> bool:
        by_date = day.day in self.days
        by_weekday = day.isoweekday() % 7 in self.weekdays
        free = self.any_day or self.any_weekday
        return day.month in self.months and (by_date and by_weekday if free else by_date or by_weekday)


def parse(schedule: str) -> Crontab:
    """ValueError names the field that cannot be understood."""
    parts = schedule.split()
    if len(parts) != len(_FIELDS):
        raise ValueError(f"schedule {schedule!r}: expected five fields (minute hour day month weekday)")
    fields = zip(parts, _FIELDS, strict=True)
    minutes, hours, days, months, weekdays = (_values(part, *field) for part, field in fields)
    sunday_is_zero = frozenset(day % 7 for day in weekdays)
    return Crontab(minutes, hours, days, months, sunday_is_zero, parts[2] == "*", parts[4] == "*")


def _values(part: str, name: str, low: int, high: int) -> frozenset[int]:
    try:
        values = frozenset(value for item in part.split(",") for value in _range(item, low, high))
    except ValueError as error:
        raise ValueError(f"{name} {part!r}: {error}") from error
    if not values or min(values) < low or max(values) > high:
        raise ValueError(f"{name} {part!r}: must be between {low} and {high}")
    return values


def _range(item: str, low: int, high: int) -> range:
    span, _, step = item.partition("/")
    first, _, last = span.partition("-")
    if span == "*":
        return range(low, high + 1, int(step or 1))
    end = int(last) if last else (high if step else int(first))
    return range(int(first), end + 1, int(step or 1))
