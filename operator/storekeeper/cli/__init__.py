"""The `storekeeper` command. Subcommands are imported when they are called: the command line starts fast."""

import sys
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="storekeeper",
    help="Manages log stores: the Kubernetes operator, and the same stores without a cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.command()
def run() -> None:
    """Run the operator against the current cluster (settings: environment variables STOREKEEPER_…)."""
    from storekeeper.cli.run import run as run_operator

    raise typer.Exit(run_operator())


@app.command()
def keygen(
    file: Annotated[Path | None, typer.Option(help="Write the private key to this file, for local use.")] = None,
    secret: Annotated[str, typer.Option(help="Name of the Secret to create in the cluster.")] = "",
    namespace: Annotated[str, typer.Option(help="Namespace of that Secret.")] = "default",
) -> None:
    """Create the key that signs tokens, unless it is there already; a key that exists is never read or changed."""
    from storekeeper.cli.keygen import into_cluster, into_file

    if bool(secret) == (file is not None):
        raise typer.BadParameter("give one of them: --secret NAME (in the cluster) or --file PATH", param_hint="--file")
    raise typer.Exit(into_file(file) if file is not None else into_cluster(secret, namespace))


@app.command()
def uninstall(
    delete_resources: Annotated[
        bool, typer.Option("--delete-resources", help="Delete every LogStore, RuntimeStore and Stream first.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for deleted resources to go.", min=0)] = 120.0,
) -> None:
    """End the operator's work for good and take its finalizers off: nothing is stuck without it, data stays."""
    from storekeeper.cli.uninstall import uninstall as leave

    raise typer.Exit(leave(delete_resources=delete_resources, timeout_seconds=timeout))


@app.command()
def crds(
    directory: Annotated[Path | None, typer.Option(help="Write one file a kind here, instead of printing.")] = None,
) -> None:
    """Print the CustomResourceDefinitions."""
    from storekeeper.api.crdgen import render

    files = render()
    if directory is None:
        typer.echo("---\n".join(files.values()), nl=False)
        return
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(distribution_version("storekeeper"))


def main() -> None:
    """The entry point of the console script."""
    if len(sys.argv) > 1 and sys.argv[1] == "local":
        from storekeeper.cli.local import app as local_app

        app.add_typer(local_app, name="local")
    else:
        app.add_typer(typer.Typer(help="The same stores on this machine, without a cluster."), name="local")
    app()
