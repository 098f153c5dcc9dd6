"""Ports of the local stores: chosen once a store, remembered, and changed only if another program took them."""

import json
import random
import socket
import threading
from pathlib import Path

FIRST, LAST = 20_000, 29_999
"""Below the range from which Linux takes the ports of outgoing connections (32768 on): none of those is in the way."""
ATTEMPTS_MAX = 500


class NoFreePort(Exception):
    """So many ports in use that something else is wrong."""


class Ports:
    """Allocated ports by name, in a JSON file. Thread-safe; one process writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._ports: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}

    def of(self, name: str) -> int:
        """The port of `name`, allocated at the first call."""
        with self._lock:
            if name not in self._ports:
                self._ports[name] = self._allocate()
                self._write()
            return self._ports[name]

    def replace_taken(self) -> list[str]:
        """Before anything of ours runs: give new ports to names whose port is in use. Returns those names."""
        taken = [name for name, port in self._ports.items() if not is_free(port)]
        for name in taken:
            self._ports[name] = self._allocate()
        if taken:
            self._write()
        return taken

    def keep(self, names: set[str]) -> None:
        """Forget all others."""
        self._ports = {name: port for name, port in self._ports.items() if name in names}
        self._write()

    def _allocate(self) -> int:
        for _ in range(ATTEMPTS_MAX):
            port = random.randint(FIRST, LAST)  # spreads state folders apart
            if port not in self._ports.values() and is_free(port):
                return port
        raise NoFreePort(f"no free port between {FIRST} and {LAST} after {ATTEMPTS_MAX} attempts")

    def _write(self) -> None:
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(self._ports, indent=1))
        temporary.replace(self._path)


def is_free(port: int) -> bool:
    """Whether a server could listen on it now; a port that only waits out its last connection is free to servers."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
