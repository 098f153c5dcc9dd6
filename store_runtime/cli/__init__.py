"""The `store-runtime` command. Subcommands are imported when they are called: the command line starts fast."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from store_runtime.errors import StoreError

app = typer.Typer(
    name="store-runtime",
    help="Serves a store and does its jobs. One JSON config tells which; secrets are files that it points to.",
    epilog="Exit status: 0 done · 1 failed, try again · 2 wrong usage or config · 3 refused, a person has to decide.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


class Output(StrEnum):
    """How a command says what it did."""

    TEXT = "text"
    JSON = "json"


ConfigFile = Annotated[Path, typer.Option("--config", metavar="FILE", help="The store's config, JSON.")]
ReportFile = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Write the JobReport here instead of the pod's termination log."),
]
OutputForm = Annotated[Output, typer.Option("--output", "-o", help="Say what was done as text or as JSON.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"store-runtime {version('storekeeper')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks, and log from DEBUG on.")] = False,
    log_level: Annotated[
        str, typer.Option(envvar="STORE_RUNTIME_LOG_LEVEL", metavar="LEVEL", help="debug, info, warning or error.")
    ] = "info",
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What all commands share."""
    from store_runtime.logging import LogLevel, configure_logs

    if log_level not in list(LogLevel):
        raise typer.BadParameter(f"{log_level!r} is none of {', '.join(LogLevel)}", param_hint="--log-level")
    configure_logs(LogLevel.DEBUG if debug else LogLevel(log_level))


@app.command()
def serve(
    config: ConfigFile,
    report: ReportFile = None,
    grace: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="For requests under way when it is told to stop.")
    ] = 20.0,
) -> None:
    """Serve the store over HTTP until SIGTERM. Creates and migrates nothing: provision and migrate do."""
    from store_runtime.cli.serving import serve_store

    raise typer.Exit(serve_store(config, report, grace))


@app.command()
def provision(config: ConfigFile, report: ReportFile = None, output: OutputForm = Output.TEXT) -> None:
    """Create the data's home and claim it for this store."""
    _job("provision", config, report, output)


@app.command()
def migrate(config: ConfigFile, report: ReportFile = None, output: OutputForm = Output.TEXT) -> None:
    """Bring the schema of the data to this version."""
    _job("migrate", config, report, output)


@app.command()
def release(config: ConfigFile, report: ReportFile = None, output: OutputForm = Output.TEXT) -> None:
    """Mark the data as free to be adopted by another resource; nothing is deleted."""
    _job("release", config, report, output)


@app.command()
def destroy(config: ConfigFile, report: ReportFile = None, output: OutputForm = Output.TEXT) -> None:
    """Delete the data, if it is this store's own."""
    _job("destroy", config, report, output)


@app.command()
def retain(
    policy: Annotated[Path, typer.Option(metavar="FILE", help="The retention, JSON: maxAge, maxSize, payloadMaxAge.")],
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The store's config: for a database on the network.")
    ] = None,
    url: Annotated[str, typer.Option(metavar="URL", help="The serving store: for one on a volume.")] = "",
    token_file: Annotated[Path | None, typer.Option(metavar="FILE", help="A token with the scope admin.")] = None,
    ca_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificates to trust, for https.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")] = False,
    report: ReportFile = None,
    output: OutputForm = Output.TEXT,
) -> None:
    """Apply retention now: directly with --config, or by asking the serving store with --url."""
    from store_runtime.cli import jobs

    if (config is None) == (not url):
        raise typer.BadParameter("give one of them: --config FILE or --url URL", param_hint="--config")
    if url and token_file is None:
        raise typer.BadParameter("--url needs a token", param_hint="--token-file")
    if config is not None:
        status = jobs.retain_directly(config, policy, dry_run, report, output)
    else:
        assert token_file is not None
        status = jobs.retain_by_url(url, token_file, ca_file, policy, dry_run, report, output)
    raise typer.Exit(status)


@app.command()
def check(config: ConfigFile, output: OutputForm = Output.TEXT) -> None:
    """Look at the backend: does it answer, whose data is it, which schema. Changes nothing."""
    from store_runtime.cli.checking import check_store

    raise typer.Exit(check_store(config, output))


def _job(name: str, config: Path, report: Path | None, output: Output) -> None:
    from store_runtime.cli import jobs

    raise typer.Exit(jobs.run(name, config, report, output))


def main() -> None:
    """Errors of ours are one line on standard error and an exit status; others too, unless --debug is given."""
    try:
        app()
    except StoreError as error:
        if "--debug" in sys.argv:
            raise
        from store_runtime.jobs.report import exit_status

        typer.echo(f"store-runtime: {error.message}", err=True)
        sys.exit(exit_status(error.specific_code))
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"store-runtime: unexpected {type(error).__name__}: {error} (--debug shows more)", err=True)
        sys.exit(1)
