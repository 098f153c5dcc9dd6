"""The command line: `python -m tests.cluster.localkube --help`, from the top of the checkout."""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from . import cluster, image
from .binaries import ensure_binaries
from .commands import LocalkubeError
from .places import Places
from .progress import say

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> int:
    arguments = parser().parse_args()
    places = Places.from_environment()
    signal.signal(signal.SIGTERM, leave)  # so that what is begun is tidied up
    signal.signal(signal.SIGHUP, leave)
    try:
        return int(arguments.action(places, arguments))
    except LocalkubeError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(prog="localkube", description="A real one-node Kubernetes for the tests.")
    actions = program.add_subparsers(required=True, metavar="ACTION")
    for name, action, summary in (
        ("build", build, "build the cluster's programs into the cache"),
        ("up", up, "bring the cluster up and keep it until `down`; prints the path of its kubeconfig"),
        ("down", down, "end the cluster and remove all that it left"),
        ("status", status, "say whether the cluster works; exit status 3 if it does not"),
        ("image", build_image, "build the product's image and put it into the cluster; prints its name"),
        ("shell-env", shell_environment, "print what a shell must export to use the cluster"),
        ("clean", clean, "down, and remove the cache of programs and images"),
        ("run", run, "run a command with the cluster; afterwards it is taken down if this brought it up"),
    ):
        subparser = actions.add_parser(name, help=summary, description=summary)
        subparser.set_defaults(action=action)
        if name == "run":
            subparser.add_argument("command", nargs=argparse.REMAINDER, help="-- COMMAND [ARGUMENT…]")
    return program


def build(places: Places, _: argparse.Namespace) -> int:
    print(ensure_binaries(places))
    return 0


def up(places: Places, _: argparse.Namespace) -> int:
    cluster.up(places)
    say(f"the cluster works; `export KUBECONFIG={places.kubeconfig}`, and kubectl and helm by `shell-env`")
    print(places.kubeconfig)
    return 0


def down(places: Places, _: argparse.Namespace) -> int:
    say("the cluster is down" if cluster.down(places) else "no cluster was running")
    return 0


def status(places: Places, _: argparse.Namespace) -> int:
    running = cluster.running(places)
    if running is None:
        say("no cluster is running")
        return 3
    works = running.healthy()
    say(f"a cluster is running in {places.state} and {'works' if works else 'does not work'}")
    say(f"its API is at {running.addresses.api}; pods reach this machine at {running.addresses.machine}")
    return 0 if works else 3


def build_image(places: Places, _: argparse.Namespace) -> int:
    print(image.ensure_image(places, cluster.running(places)))
    return 0


def shell_environment(places: Places, _: argparse.Namespace) -> int:
    running = cluster.running(places)
    if running is None:
        raise LocalkubeError("no cluster is running: bring one up with `up`")
    for name, value in running.environment.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def clean(places: Places, arguments: argparse.Namespace) -> int:
    down(places, arguments)
    shutil.rmtree(places.cache, ignore_errors=True)
    return 0


def run(places: Places, arguments: argparse.Namespace) -> int:
    """Exit status of the command. A KUBECONFIG in the environment is a cluster that somebody else takes care of."""
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise LocalkubeError("`run` wants a command: run -- COMMAND [ARGUMENT…]")
    if os.environ.get("KUBECONFIG"):
        return run_to_its_end(command, os.environ)
    with cluster.session(places) as running:
        return run_to_its_end(command, os.environ | running.environment)


def run_to_its_end(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command and pass on the signals that ask for an end, so that it can tidy up before the cluster goes."""
    with subprocess.Popen(command, env=environment) as process, forwarding_to(process):
        status = process.wait()
    return status if status >= 0 else 128 - status  # as a shell reports an end by a signal


@contextmanager
def forwarding_to(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Pass signals on, but Ctrl-C of a terminal: it reaches every process of the foreground group by itself."""

    def forward(number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGINT or not sys.stdin.isatty():
            process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
