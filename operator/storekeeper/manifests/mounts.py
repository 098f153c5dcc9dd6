"""What a store's containers see of the world: each a volume of the pod and where it is mounted."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from storekeeper.manifests.blueprint import Blueprint
from storekeeper.manifests.claims import data_claim_name, entries_claim_name
from storekeeper.manifests.config import config_map
from storekeeper.manifests.secrets import jobs_token_name

PUBLIC_MODE = 0o444
SECRET_MODE = 0o440
"""Readable by the pod's group (fsGroup), and by nobody else."""
SCRATCH_SIZE = "1Gi"
"""Of /tmp: results that are too large for memory are written there; nothing in it has to last."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """A volume and its place in a container."""

    volume: dict[str, Any]
    mount: dict[str, Any]


def config(blueprint: Blueprint) -> Mounted:
    name = config_map(blueprint)["metadata"]["name"]
    return _mounted("config", {"configMap": {"name": name, "defaultMode": PUBLIC_MODE}}, blueprint.place.paths.config)


def policy(blueprint: Blueprint) -> Mounted:
    source = {"configMap": {"name": f"{blueprint.base}-policy", "defaultMode": PUBLIC_MODE}}
    return _mounted("policy", source, blueprint.place.paths.policy)


def token(blueprint: Blueprint) -> Mounted:
    return _secret("token", jobs_token_name(blueprint), blueprint.place.paths.token)


def scratch(blueprint: Blueprint) -> Mounted:
    volume = {"name": "scratch", "emptyDir": {"sizeLimit": SCRATCH_SIZE}}
    return Mounted(volume, {"name": "scratch", "mountPath": blueprint.place.paths.scratch})


def data(blueprint: Blueprint) -> Iterator[Mounted]:
    """Where the data is, and what it takes to reach it."""
    resource, paths = blueprint.resource, blueprint.place.paths
    if resource.data_volume is not None:
        yield _claim("data", data_claim_name(blueprint), paths.data)
    if resource.entries_volume is not None:
        yield _claim("entries", entries_claim_name(blueprint), paths.entries)
    if resource.credentials_secret:
        yield _secret("credentials", resource.credentials_secret, paths.credentials)


def certificate(blueprint: Blueprint) -> Iterator[Mounted]:
    tls = blueprint.resource.spec.tls
    if tls is not None:
        yield _secret("tls", tls.secret_ref.name, blueprint.place.paths.tls)


def authority(blueprint: Blueprint) -> Iterator[Mounted]:
    """The certificate's authority alone, if the Secret has one, for those who call the store."""
    tls = blueprint.resource.spec.tls
    if tls is not None:
        items = [{"key": "ca.crt", "path": "ca.crt"}]
        source = {"secretName": tls.secret_ref.name, "items": items, "optional": True, "defaultMode": SECRET_MODE}
        yield _mounted("tls", {"secret": source}, blueprint.place.paths.tls)


def _claim(name: str, claim: str, path: str) -> Mounted:
    volume = {"name": name, "persistentVolumeClaim": {"claimName": claim}}
    return Mounted(volume, {"name": name, "mountPath": path})


def _secret(name: str, secret: str, path: str) -> Mounted:
    return _mounted(name, {"secret": {"secretName": secret, "defaultMode": SECRET_MODE}}, path)


def _mounted(name: str, source: dict[str, Any], path: str) -> Mounted:
    return Mounted({"name": name, **source}, {"name": name, "mountPath": path, "readOnly": True})
