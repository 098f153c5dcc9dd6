"""`check`: what was found, as a table for people or as JSON."""

from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from store_runtime.cli import Output
from store_runtime.config.runtime import load
from store_runtime.jobs.check import CheckReport, PartCheck, check


def check_store(file: Path, output: Output) -> int:
    """Exit status 0 when every part could be served; else that of the worst. Raises InvalidInput."""
    report = check(load(file))
    if output is Output.JSON:
        typer.echo(report.model_dump_json(by_alias=True, exclude_none=True))
    else:
        _print(report)
    return report.exit_status


def _print(report: CheckReport) -> None:
    table = Table(title=f"{report.kind} {report.namespace}/{report.name}", title_justify="left")
    for column in ("part", "backend", "reachable", "store id", "role", "epoch", "schema", "problem"):
        table.add_column(column, overflow="fold")
    for part in report.parts:
        table.add_row(*_cells(part))
    Console().print(table)


def _cells(part: PartCheck) -> tuple[str, ...]:
    return (
        part.part,
        part.backend,
        "yes" if part.reachable else "no",
        part.store_id or "–",
        part.role.value if part.role else "–",
        str(part.epoch or "–"),
        part.schema_version or "–",
        f"{part.code}: {part.message}" if part.code else "",
    )
