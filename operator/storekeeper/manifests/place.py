"""Where a store runs: the facts of a cluster, or of this machine, that its manifests need.

The same plan and the same manifests serve both: in a cluster the paths are mount points and the command is in the
image; locally they are folders and the interpreter at hand.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Paths:
    """Mount points inside a store's containers (absolute)."""

    config: str = "/etc/storekeeper/config"
    policy: str = "/etc/storekeeper/policy"
    data: str = "/var/lib/storekeeper/data"
    entries: str = "/var/lib/storekeeper/entries"
    credentials: str = "/run/secrets/storekeeper/credentials"
    token: str = "/run/secrets/storekeeper/token"  # noqa: S105 — a folder
    tls: str = "/run/secrets/storekeeper/tls"
    scratch: str = "/tmp"  # noqa: S108 — an emptyDir of the pod's own


@dataclass(frozen=True, slots=True)
class Place:
    """Facts of the place a store runs in, fixed before planning."""

    url: str
    """Base URL of the store's HTTP API, without a trailing slash."""
    public_keys: tuple[str, ...]
    """PEM of the keys whose tokens the store accepts."""
    image: str = ""
    image_pull_policy: str = "IfNotPresent"
    command: tuple[str, ...] = ("store-runtime",)
    host: str = "0.0.0.0"  # in a pod: all of the pod's own addresses
    port: int = 8080
    metrics_port: int = 9090
    paths: Paths = Paths()
    termination_log: str = "/dev/termination-log"
    operator_namespace: str = ""
    """Where the operator's pods run: the NetworkPolicy lets them in. Empty: no rule."""
