"""Real log lines of the machine this runs on, as flat records: where they are, and what is known of their formats.

Used by quickstart.py. A record always has `message`, `unit` and `level`; `time` (ISO 8601) where its format tells.
"""

import re
import shutil
import subprocess
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LINES_MAX = 20_000
"""The newest lines of a source: enough to show something, and read in a moment."""
LINE_CHARS_MAX = 4_000
JOURNAL_SECONDS_MAX = 5.0

FILES = (
    Path("/var/log/dpkg.log"),
    Path("/var/log/syslog"),
    Path("/var/log/messages"),
    Path("/var/log/apt/term.log"),
    Path("/var/log/apt/history.log"),
    Path("/var/log/alternatives.log"),
    Path("/var/log/bootstrap.log"),
    Path("/var/log/installer/syslog"),
)
Record = dict[str, str]

_DPKG = re.compile(r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?P<message>(?P<action>[a-z-]+) .*)")
_ISO = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?) "
    r"(?:\S+ )?(?P<unit>[\w./@-]+)(?:\[\d+\])?: (?P<message>.*)"
)
_RFC3164 = re.compile(
    r"(?P<said_at>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) \S+ (?P<unit>[\w./@-]+)(?:\[\d+\])?: (?P<message>.*)"
)
_LEVELS = (
    ("error", re.compile(r"(?<![\w-])(error|fail(ed|ure)?|fatal|panic|critical)(?![\w-])", re.IGNORECASE)),
    ("warning", re.compile(r"(?<![\w-])(warn(ing)?|deprecated|timed? ?out)(?![\w-])", re.IGNORECASE)),
    ("debug", re.compile(r"^[-\d]{10} [:\d]{8} status ")),  # dpkg: each small step of what an info line says
)


@dataclass(frozen=True, slots=True)
class Source:
    """Where lines come from, and the newest of them."""

    name: str
    lines: list[str]

    def records(self) -> list[Record]:
        unit = Path(self.name).stem
        return [record_of(line, unit) for line in self.lines]


def source(file: Path | None, last_resort: Path) -> Source:
    """The user's file; else the first of this machine's logs that can be read; else `last_resort`.

    Raises OSError if the user's file cannot be read.
    """
    if file is not None:
        return Source(str(file), _newest(file.read_text(errors="replace").splitlines()))
    for candidate in (FILES[0], None, *FILES[1:]):
        try:
            text = _journal() if candidate is None else candidate.read_text(errors="replace")
        except OSError:
            continue
        if lines := _newest(text.splitlines()):
            return Source("journalctl" if candidate is None else str(candidate), lines)
    return Source(str(last_resort), _newest(last_resort.read_text(errors="replace").splitlines()))


def record_of(line: str, unit: str) -> Record:
    """One line as a record; a line of an unknown format is all message."""
    for pattern in (_DPKG, _ISO, _RFC3164):
        if match := pattern.fullmatch(line):
            return {"unit": unit, "level": _level(line)} | {k: v for k, v in match.groupdict().items() if v}
    return {"unit": unit, "level": _level(line), "message": line}


def _level(line: str) -> str:
    return next((level for level, pattern in _LEVELS if pattern.search(line)), "info")


def _newest(lines: Iterable[str]) -> list[str]:
    return list(deque((line[:LINE_CHARS_MAX] for line in lines if line.strip()), maxlen=LINES_MAX))


def _journal() -> str:
    """Raises OSError where there is none to read."""
    if shutil.which("journalctl") is None:
        raise FileNotFoundError("journalctl")
    command = ["journalctl", "--no-pager", "--quiet", "-o", "short-iso", "-n", str(LINES_MAX)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=JOURNAL_SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired as error:
        raise OSError("journalctl does not answer") from error
    return done.stdout
