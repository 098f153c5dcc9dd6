"""Where a local store runs: its folders in the state folder, its ports, the interpreter at hand, the local key."""

import os
import shutil
import sys
from collections.abc import Collection
from pathlib import Path

from storekeeper.adapters.processes.ports import Ports
from storekeeper.adapters.processes.statefolder import StateFolder
from storekeeper.api.resource import StoreResource
from storekeeper.execute.tokens import Signer, new_key, private_pem
from storekeeper.manifests.objects import ObjectRef
from storekeeper.manifests.place import Paths, Place

HOST = "127.0.0.1"
"""Tokens protect a store, but nobody asked for it to be on the network."""


class LocalPlaces:
    """Callable as `Places`: a resource → its Place. Equal answers for as long as its ports stay free."""

    def __init__(self, folder: StateFolder, ports: Ports, public_keys: tuple[str, ...]) -> None:
        self._folder, self._ports, self._public_keys = folder, ports, public_keys

    def __call__(self, resource: StoreResource) -> Place:
        ref = resource.ref
        home = self._folder.store(ref.kind, ref.namespace, ref.name)
        port, metrics_port = (self._ports.of(name) for name in _port_names(ref))
        scheme = "https" if resource.spec.tls is not None else "http"
        return Place(
            url=f"{scheme}://{HOST}:{port}",
            public_keys=self._public_keys,
            command=(sys.executable, "-m", "store_runtime"),
            host=HOST,
            port=port,
            metrics_port=metrics_port,
            paths=_paths(home),
            termination_log=str(home / "termination-log"),
        )

    def prune(self, existing: Collection[ObjectRef]) -> None:
        """Before anything runs: forget ports and mount points of stores that are gone. Data is elsewhere."""
        kept = {self._folder.store(ref.kind, ref.namespace, ref.name) for ref in existing}
        for home in self._folder.stores.glob("*/*/*"):
            if home not in kept:
                shutil.rmtree(home)
        self._ports.keep({name for ref in existing for name in _port_names(ref)})


def _port_names(ref: ObjectRef) -> tuple[str, str]:
    return str(ref), f"{ref} metrics"


def _paths(home: Path) -> Paths:
    return Paths(
        config=str(home / "config"),
        policy=str(home / "policy"),
        data=str(home / "data"),
        entries=str(home / "entries"),
        credentials=str(home / "credentials"),
        token=str(home / "token"),
        tls=str(home / "tls"),
        scratch=str(home / "scratch"),
    )


def signer_of(folder: StateFolder) -> Signer:
    """The folder's own signing key, made at first."""
    path = folder.signing_key
    if not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(private_pem(new_key()))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    return Signer.from_file(path)
