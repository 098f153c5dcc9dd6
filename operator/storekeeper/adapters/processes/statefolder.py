"""The state directory of a local cluster: what is where in it, and who may run it.

objects/     one JSON file an object             secrets/, configmaps/, volumes/   what objects hold
stores/      mount points, a folder a store      logs/      what processes wrote    pods/   their working folders
keys/        the signing key                     ports.json allocated ports         events.jsonl
supervisor.lock  held, with its pid in it, by the one supervisor                    doorbell  a pipe that wakes it
"""

import fcntl
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

FORMAT = 1
"""Of the folder's layout; another one is refused."""


class StateFolderError(Exception):
    """The folder cannot be used; the message says why and what to do."""


class StateFolder:
    """Paths under an absolute root that belongs to one user (0700)."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._marker = self.root / "storekeeper.json"

    def prepare(self) -> None:
        """Make the folder, or check that it is one of ours and of this format."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self._marker.exists():
                self._refuse_foreign()
                self._marker.write_text(json.dumps({"format": FORMAT}))
            (self.root / ".writable").touch()
        except OSError as error:
            raise StateFolderError(
                f"cannot write to {self.root}: {error.strerror}; choose a folder by --state"
            ) from error
        self._check_format()

    @property
    def exists(self) -> bool:
        return self._marker.exists()

    def _refuse_foreign(self) -> None:
        if any(self.root.iterdir()):
            raise StateFolderError(f"{self.root} is not empty and was not made by storekeeper; choose another --state")

    def _check_format(self) -> None:
        found = json.loads(self._marker.read_text()).get("format")
        if found != FORMAT:
            raise StateFolderError(f"{self.root} has format {found}, this storekeeper knows {FORMAT}")

    @property
    def objects(self) -> Path:
        return self.root / "objects"

    @property
    def signing_key(self) -> Path:
        return self.root / "keys" / "signing.pem"

    @property
    def ports(self) -> Path:
        return self.root / "ports.json"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def supervisor_log(self) -> Path:
        return self.root / "logs" / "supervisor.log"

    @property
    def doorbell(self) -> Path:
        return self.root / "doorbell"

    @property
    def lock(self) -> Path:
        return self.root / "supervisor.lock"

    def binding(self, namespace: str, name: str) -> Path:
        """A binding Secret's files, as an application would have them mounted (servicebinding.io)."""
        return self.root / "secrets" / namespace / name

    def volume(self, namespace: str, claim: str) -> Path:
        return self.root / "volumes" / namespace / claim

    def logs(self, namespace: str, pod: str) -> Path:
        return self.root / "logs" / namespace / pod

    @property
    def stores(self) -> Path:
        return self.root / "stores"

    def store(self, kind: str, namespace: str, name: str) -> Path:
        """Where the store's volumes are mounted."""
        return self.stores / kind / namespace / name

    def remove(self) -> None:
        """Everything, data included. Only what `prepare` made or accepted."""
        if not self.exists:
            raise StateFolderError(f"{self.root} was not made by storekeeper; nothing was removed")
        shutil.rmtree(self.root)


class SupervisorLock:
    """Held by the one process that runs a state folder, to its very end: the kernel releases it, however it ends."""

    def __init__(self, folder: StateFolder) -> None:
        self._path = folder.lock
        self._descriptor = -1

    def acquire(self) -> bool:
        """False if somebody else holds it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Earlier than at the end of the process."""
        os.close(self._descriptor)

    def holder(self) -> int | None:
        """The pid of the supervisor that runs now, if there is one."""
        with suppress(FileNotFoundError), self._path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read().strip() or 0)
        return None
