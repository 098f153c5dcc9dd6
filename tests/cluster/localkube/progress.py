"""What the program tells the person who waits: one line a step, with the time it took, on standard error."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


def say(message: str) -> None:
    """One line, at once: standard output is for results that a shell reads."""
    print(f"localkube: {message}", file=sys.stderr, flush=True)


@contextmanager
def step(title: str, note: str = "") -> Iterator[None]:
    """Announce a step, with a note on what to expect, and say how long it took when it is done."""
    say(f"{title} …{note and f' ({note})'}")
    started = time.monotonic()
    yield
    say(f"{title}: done in {time.monotonic() - started:.1f} s")
