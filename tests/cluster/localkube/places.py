"""Where things are kept: binaries and images in a cache that outlives clusters, everything else in the state folder.

Inside the cluster's own mount namespace the state folder is at INSIDE, whatever it is called outside, so that the
configuration of the components is the same everywhere and paths of unix sockets stay short.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
INSIDE = Path("/run/localkube")


@dataclass(frozen=True)
class Places:
    """The two folders, and the files in them that more than one module names."""

    state: Path
    cache: Path

    @classmethod
    def from_environment(cls) -> "Places":
        """STOREKEEPER_CLUSTER_DIR and STOREKEEPER_CACHE, or `.cluster` in the checkout and the user's cache folder."""
        user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        state = os.environ.get("STOREKEEPER_CLUSTER_DIR") or CHECKOUT / ".cluster"
        cache = os.environ.get("STOREKEEPER_CACHE") or Path(user_cache) / "storekeeper"
        return cls(state=Path(state).resolve(), cache=Path(cache).resolve())

    @property
    def kubeconfig(self) -> Path:
        """For people and tests: the cluster's address with an administrator's credentials."""
        return self.state / "kubeconfig"

    @property
    def etc(self) -> Path:
        """Configuration of the components, and their keys."""
        return self.state / "etc"

    @property
    def logs(self) -> Path:
        """One file a component."""
        return self.state / "log"

    @property
    def record(self) -> Path:
        """What is running: see record.py."""
        return self.state / "cluster.json"

    @property
    def users(self) -> Path:
        """Locked shared by every process that uses the cluster; it ends when nobody does (supervisor.py)."""
        return self.state / "users"

    @property
    def keep(self) -> Path:
        """While this file is here, the cluster stays although nobody uses it."""
        return self.state / "keep"

    def keep_cluster(self) -> None:
        """Have the cluster stay until it is taken down by name."""
        self.state.mkdir(parents=True, exist_ok=True)
        self.keep.touch()


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of this file, waiting for it; the kernel lets go of it however the process ends.

    The file stays: to remove a file that others may be about to lock would give two of them the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock of this file if nobody does; says whether it is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
