"""How rows look: a table in a terminal, plain lines elsewhere, the words of a success and of a failure."""

import shlex
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from storekeeper.adapters.processes.container import last_lines
from storekeeper.cli.local_rows import Row

LOG_LINES = 8
"""The end of a store's log that is shown when it did not become ready."""
LINE_CHARS_MAX = 300
"""Of such a line: a stack in JSON is one; `local logs` shows all of it."""


def table(rows: Iterable[Row]) -> Table:
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("RESOURCE", "READY", "PHASE", "WHERE"):
        shown.add_column(title, no_wrap=title != "WHERE", overflow="fold")
    for row in rows:
        where = row.url if row.is_ready else _why(row)
        mark = Text("yes", "green") if row.is_ready else Text("no", "red" if row.is_stuck else "yellow")
        shown.add_row(_title(row), mark, row.phase, Text(where))
    return shown


def line(row: Row) -> str:
    state = "ready" if row.is_ready else f"{row.phase}: {_why(row)}"
    return f"{_title(row)}: {state}"


def _title(row: Row) -> str:
    prefix = "" if row.namespace == "default" else f"{row.namespace}/"
    return f"{row.kind} {prefix}{row.name}"


def _why(row: Row) -> str:
    said = ": ".join(part for part in (row.reason, row.message) if part and part != row.phase)
    return said or ("" if row.phase == "Stopped" else "waiting for the supervisor")


class Progress:
    """Shows rows as they change: a live table on a terminal, else a line for each change."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: dict[str, str] = {}
        self._live: Any = Live(console=console, transient=True) if console.is_terminal else nullcontext()

    def __enter__(self) -> "Progress":
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.__exit__(kind, error, at)

    def show(self, rows: Iterable[Row]) -> None:
        if self._console.is_terminal:
            self._live.update(table(rows))
            return
        for row in rows:
            said = line(row)
            if self._said.get(_title(row)) != said:
                self._said[_title(row)] = said
                self._console.print(said, markup=False, highlight=False, soft_wrap=True)


def tell_ready(console: Console, rows: Iterable[Row]) -> None:
    """What one needs to use them; the file of a token, never a token."""
    console.print(table(rows))
    files = sorted({row.token_file for row in rows if row.token_file})
    for file in files:
        console.print(f"token: {shlex.quote(file)}", markup=False, highlight=False, soft_wrap=True)


def tell_failure(console: Console, row: Row, log: Path | None) -> None:
    """The row, and the end of the log that was written last."""
    lines = last_lines(log, LOG_LINES) if log is not None else []
    said = [line(row), *([f"  the end of {log}:"] if lines else [])]
    for text in [*said, *(f"    {shortened(text)}" for text in lines)]:
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def shortened(text: str) -> str:
    """Without its middle: how it begins and what it comes to say in the end are what helps."""
    half = LINE_CHARS_MAX // 2
    return text if len(text) <= LINE_CHARS_MAX else f"{text[:half]} … {text[-half:]}"
