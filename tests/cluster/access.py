"""The Kubernetes that tests talk to: the one that KUBECONFIG names, or one of our own that lasts as long as the tests.

with cluster_access() as cluster:
    cluster.kubectl("get", "nodes")
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.cluster.localkube import cluster, commands, image
from tests.cluster.localkube.places import Places


@dataclass(frozen=True)
class ClusterAccess:
    """A cluster as administrator. `make_image` makes the product's image known to it and returns the name."""

    kubeconfig: Path
    environment: Mapping[str, str]
    """For every program that uses the cluster: KUBECONFIG, and kubectl and helm on PATH."""
    machine_address: str | None
    """Where pods reach servers that a test started on this machine; None if that is not known."""
    make_image: Callable[[], str]

    @cached_property
    def image(self) -> str:
        """The product's image, for pods with imagePullPolicy IfNotPresent; built when a test first asks for it."""
        return self.make_image()

    @property
    def kubectl_program(self) -> str:
        """The path of kubectl, for a test that starts it itself and lets it run (port-forward, logs --follow)."""
        return shutil.which("kubectl", path=self.environment["PATH"]) or "kubectl"

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """What kubectl wrote; `text` is its standard input. Raises LocalkubeError with its output if it failed."""
        return commands.run(["kubectl", *arguments], environment=self.environment, text=text)

    def kubectl_json(self, *arguments: str) -> Any:
        """The object that `kubectl … --output=json` wrote."""
        return json.loads(self.kubectl(*arguments, "--output=json"))

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply these objects in one go."""
        self.kubectl("apply", "--filename=-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))

    def helm(self, *arguments: str) -> str:
        """What Helm wrote. Raises LocalkubeError with its output if it failed."""
        return commands.run(["helm", *arguments], environment=self.environment)


@contextmanager
def cluster_access() -> Iterator[ClusterAccess]:
    """Access to the cluster of KUBECONFIG; without it, to one that is brought up if need be, and taken down in the end
    if nobody else uses it (KEEP_CLUSTER=1 keeps it, and `make cluster-up` did).
    """
    kubeconfig = os.environ.get("KUBECONFIG")
    if kubeconfig:
        yield given_cluster(Path(kubeconfig))
        return
    places = Places.from_environment()
    with cluster.session(places) as running:
        yield ClusterAccess(
            kubeconfig=places.kubeconfig,
            environment=os.environ | running.environment,
            machine_address=str(running.addresses.machine),
            make_image=lambda: image.ensure_image(places, running),
        )


def given_cluster(kubeconfig: Path) -> ClusterAccess:
    """Somebody else's cluster: the programs are on PATH, and the image is where the cluster can pull it."""
    for program in ("kubectl", "helm"):
        if shutil.which(program) is None:
            raise commands.LocalkubeError(f"KUBECONFIG is set, so the tests use the {program} on PATH: there is none")
    return ClusterAccess(
        kubeconfig=kubeconfig, environment=dict(os.environ), machine_address=None, make_image=given_image
    )


def given_image() -> str:
    """STOREKEEPER_IMAGE, which goes with KUBECONFIG."""
    name = os.environ.get("STOREKEEPER_IMAGE")
    if not name:
        raise commands.LocalkubeError(
            "KUBECONFIG is set: build the image with `docker build .`, put it where that cluster can pull it, "
            "and set STOREKEEPER_IMAGE to its name"
        )
    return name
