"""`storekeeper local`: the same YAML without a cluster. Commands write objects and ring; the supervisor acts."""

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from store_runtime.config.wire import JobName
from storekeeper.adapters.processes.statefolder import StateFolder, StateFolderError, SupervisorLock
from storekeeper.cli import local_daemon as daemon
from storekeeper.cli.local_display import Progress, table, tell_failure, tell_ready
from storekeeper.cli.local_files import InvalidFile, load
from storekeeper.cli.local_rows import Row, rows_of
from storekeeper.cli.local_session import Session, UnknownResource, parse_timeout
from storekeeper.manifests.objects import ObjectRef

EXIT_NOT_READY = 1
EXIT_USAGE = 2
POLL_SECONDS = 0.1
"""How often a waiting command looks at the files."""
STOP_SECONDS = 120.0
STATE_DEFAULT = Path(".storekeeper")

app = typer.Typer(
    help="The same stores on this machine, without a cluster.", no_args_is_help=True, pretty_exceptions_enable=False
)
console = Console()
errors = Console(stderr=True)

State = Annotated[
    Path, typer.Option("--state", help="Folder of the local stores and their data.", envvar="STOREKEEPER_STATE")
]
Files = Annotated[
    list[Path], typer.Argument(metavar="FILE…", help="YAML with LogStores, Streams, RuntimeStores, Secrets.")
]
Timeout = Annotated[str, typer.Option(help="How long to wait, for example 30s or 2m.")]


def _fail(message: str, code: int = EXIT_USAGE) -> typer.Exit:
    errors.print(f"storekeeper local: {message}", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(code)


def _open(state: Path, *, make: bool = False) -> Session:
    """The session of a state folder; exits with a sentence if it cannot be used."""
    folder = StateFolder(state)
    try:
        if not make and not folder.exists:
            raise _fail(f"there are no local stores in {folder.root}; start some: storekeeper local up FILE")
        folder.prepare()
    except StateFolderError as error:
        raise _fail(str(error)) from error
    return Session(folder)


def _seconds(timeout: str) -> float:
    try:
        return parse_timeout(timeout)
    except ValueError as error:
        raise _fail(f"--timeout: {error}") from error


@app.command()
def up(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]…", help="YAML; none: start what is there.")
    ] = None,
    state: State = STATE_DEFAULT,
    timeout: Timeout = "60s",
) -> None:
    """Start the stores that the files declare, wait until they are ready, and tell where they are."""
    wait_seconds = _seconds(timeout)
    try:
        manifests = load(files or [])
        session = _open(state, make=True)
        refs = session.write(manifests)
        refs = refs or [row.ref for row in rows_of(session.cluster, session.folder)]
        if not refs:
            raise _fail("nothing to start: name a FILE, for example examples/quickstart.yaml")
        daemon.start(session.folder)
    except InvalidFile as error:
        raise _fail(str(error)) from error
    except daemon.SupervisorFailed as error:
        raise _fail(str(error), EXIT_NOT_READY) from error
    with Progress(console) as progress:
        rows = _wait(session, refs, progress.show, wait_seconds)
    if len(rows) < len(refs):
        raise _fail("a resource is being deleted; wait until it is gone and call `up` again", EXIT_NOT_READY)
    _conclude(session, rows, timeout)


def _wait(
    session: Session, refs: list[ObjectRef], show: Callable[[Iterable[Row]], None], wait_seconds: float
) -> list[Row]:
    """Look until all are ready, one is stuck or gone, the supervisor has ended or the time is over."""
    deadline = time.monotonic() + wait_seconds
    while True:
        rows = rows_of(session.cluster, session.folder, refs)
        show(rows)
        over = all(row.is_ready for row in rows) or any(row.is_stuck for row in rows)
        if over or len(rows) < len(refs) or time.monotonic() > deadline or not daemon.is_running(session.folder):
            return rows
        time.sleep(POLL_SECONDS)


def _conclude(session: Session, rows: list[Row], timeout: str) -> None:
    failed = [row for row in rows if not row.is_ready]
    if not failed:
        tell_ready(console, rows)
        return
    for row in failed:
        logs = [log for log in session.logs(row.ref) if log.stem != JobName.RETAIN]
        tell_failure(errors, row, logs[-1] if logs else None)
    if not daemon.is_running(session.folder):
        raise _fail(f"the supervisor has ended; see {session.folder.supervisor_log}", EXIT_NOT_READY)
    if any(row.is_stuck for row in failed):
        raise _fail("a resource cannot become ready by itself; change it and call `up` again", EXIT_NOT_READY)
    raise _fail(f"not ready within {timeout}; it goes on trying: storekeeper local status", EXIT_NOT_READY)


@app.command()
def apply(files: Files, state: State = STATE_DEFAULT) -> None:
    """Write the resources of the files; the supervisor, if it runs, makes them true. Does not wait."""
    session = _open(state, make=True)
    try:
        refs = session.write(load(files))
    except InvalidFile as error:
        raise _fail(str(error)) from error
    for ref in refs:
        console.print(f"applied {ref}", markup=False, highlight=False)
    if not session.ring():
        console.print("the supervisor does not run; `storekeeper local up` starts it")


@app.command()
def status(
    state: State = STATE_DEFAULT,
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
) -> None:
    """Show the resources: whether they are ready, where they are, and why not."""
    if output not in ("table", "json"):
        raise _fail(f"-o {output}: choose table or json")
    session = _open(state)
    rows, pid = rows_of(session.cluster, session.folder), SupervisorLock(session.folder).holder()
    if output == "json":
        typer.echo(json.dumps({"supervisor": {"pid": pid}, "resources": [row.document() for row in rows]}, indent=2))
        return
    console.print(table(rows))
    if pid is None:
        console.print("the supervisor does not run; `storekeeper local up` starts it")


@app.command()
def delete(
    resource: Annotated[str, typer.Argument(metavar="KIND/NAME", help="For example stream/checkout or ls/gateway.")],
    state: State = STATE_DEFAULT,
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="Its namespace.")] = "default",
    timeout: Timeout = "60s",
) -> None:
    """Delete a resource and wait until it is gone; what becomes of its data is its deletionPolicy's to say."""
    wait_seconds, session = _seconds(timeout), _open(state)
    try:
        ref = session.find(resource, namespace)
    except UnknownResource as error:
        raise _fail(str(error)) from error
    session.cluster.delete(ref)
    running, deadline = session.ring(), time.monotonic() + wait_seconds
    while running and session.cluster.get(ref) is not None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    if session.cluster.get(ref) is None:
        console.print(f"deleted {ref}", markup=False, highlight=False)
        return
    why = f"not gone within {timeout}" if running else "marked; it goes when the supervisor runs again"
    raise _fail(f"{ref}: {why}", EXIT_NOT_READY)


@app.command()
def logs(
    name: Annotated[str, typer.Argument(metavar="NAME", help="NAME or KIND/NAME of a store, or `supervisor`.")],
    state: State = STATE_DEFAULT,
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="Its namespace.")] = "default",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines are written.")] = False,
    lines: Annotated[int, typer.Option(help="Lines from the end of each log.", min=1, max=10_000)] = 100,
) -> None:
    """Show what a store's processes wrote."""
    from storekeeper.cli.local_logs import show

    session = _open(state)
    try:
        paths = [session.folder.supervisor_log] if name == "supervisor" else session.logs(session.find(name, namespace))
    except UnknownResource as error:
        raise _fail(str(error)) from error
    show(paths, lines=lines, follow=follow, write=lambda text: typer.echo(text, nl=False))


@app.command()
def down(
    state: State = STATE_DEFAULT,
    purge: Annotated[bool, typer.Option("--purge", help="Remove the state folder too, with all data.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Stop all local stores. Their data stays, and `storekeeper local up` starts them again."""
    session = _open(state)
    if purge and not yes:
        typer.confirm(f"Remove {session.folder.root} with the data of all its stores?", abort=True)
    try:
        stopped = daemon.stop(session.folder, STOP_SECONDS)
    except daemon.SupervisorFailed as error:
        raise _fail(str(error), EXIT_NOT_READY) from error
    console.print("stopped" if stopped else "nothing was running")
    if purge:
        session.folder.remove()
        console.print(f"removed {session.folder.root}", markup=False, highlight=False, soft_wrap=True)


@app.command(hidden=True)
def supervise(state: State = STATE_DEFAULT, ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None) -> None:
    """Run the stores in the foreground; `up` starts this in the background."""
    from storekeeper.cli.local_supervisor import supervise as run

    raise typer.Exit(run(_open(state, make=True).folder, ready_fd))
