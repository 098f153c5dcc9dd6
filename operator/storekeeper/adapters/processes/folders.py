"""What objects hold, as folders: ConfigMaps, Secrets and claims, and how a pod's volumes are mounted from them.

    <root>/configmaps/<namespace>/<name>/<key>     public
    <root>/secrets/<namespace>/<name>/<key>        0600 in folders of 0700; the only place where a value is
    <root>/volumes/<namespace>/<claim>/            data: removed only with its PersistentVolumeClaim

A mount is a symbolic link at the container's mountPath, which lies in <root>/stores (`Place.paths` says where); so a
renewed Secret or ConfigMap shows in a running container, as in a cluster. An emptyDir is a plain folder at its
mountPath, shared by the pods of one store.
"""

import base64
import os
import shutil
from pathlib import Path
from typing import Any

from storekeeper.manifests.objects import Manifest

_HOLDS = {"ConfigMap": "configmaps", "Secret": "secrets", "PersistentVolumeClaim": "volumes"}


class MountFailed(Exception):
    """A volume cannot be mounted (yet); the message is worded as the kubelet's event, which `observe` reads."""


class Folders:
    """The folders under `root`. Called with the lock of ObjectFiles held, where it writes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._mounts = root / "stores"
        """Mount points are made and replaced in here only: never where data is."""

    def of(self, kind: str, namespace: str, name: str) -> Path:
        return self.root / _HOLDS[kind] / namespace / name

    def keep(self, live: Manifest) -> Manifest:
        """Write the object's content; the object as it may be stored (a Secret without its values)."""
        kind, metadata = live["kind"], live["metadata"]
        if kind not in _HOLDS:
            return live
        folder = self.of(kind, metadata["namespace"], metadata["name"])
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if kind == "ConfigMap":
            _write_files(folder, {k: v.encode() for k, v in (live.get("data") or {}).items()})
        if kind == "Secret" and (values := _secret_values(live)) is not None:
            _write_files(folder, values)
            return {k: v for k, v in live.items() if k not in ("data", "stringData")}
        return live

    def discard(self, live: Manifest) -> None:
        """The object is going: so does what it holds."""
        kind, metadata = live["kind"], live["metadata"]
        if kind in _HOLDS:
            shutil.rmtree(self.of(kind, metadata["namespace"], metadata["name"]), ignore_errors=True)

    # -- mounting -------------------------------------------------------------------------------------------------

    def mount(self, pod: Manifest) -> None:
        """Put every volume at its mountPath; raises MountFailed, and may be called again."""
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
            for mount in container.get("volumeMounts", []):
                volume = volumes[mount["name"]]
                try:
                    self._mount(volume, mount, pod["metadata"]["namespace"])
                except OSError as error:
                    raise MountFailed(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}') from error

    def _mount(self, volume: dict[str, Any], mount: dict[str, Any], namespace: str) -> None:
        path = Path(mount["mountPath"])
        if not path.is_relative_to(self._mounts) or ".." in path.parts:
            raise MountFailed(f'volume "{volume["name"]}" would be mounted at {path}, outside of {self._mounts}')
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if "emptyDir" in volume:
            _unlink(path)
            path.mkdir(exist_ok=True, mode=0o700)
            return
        source, items = self._source(volume, namespace)
        if items is None:
            _link(path, source / mount.get("subPath", ""))
            return
        if path.is_symlink() and path.readlink() == source and all(item["path"] == item["key"] for item in items):
            return  # another pod of the store mounts all of it here: then these files are there too
        _unlink(path)
        path.mkdir(exist_ok=True, mode=0o700)
        for item in items:
            _link(path / item["path"], source / item["key"])

    def _source(self, volume: dict[str, Any], namespace: str) -> tuple[Path, list[dict[str, Any]] | None]:
        """The folder that a volume shows, and its items if only some of its files are wanted."""
        for field, kind, key, noun in _SOURCES:
            if (source := volume.get(field)) is not None:
                folder = self.of(kind, namespace, source[key])
                if not folder.is_dir() and not source.get("optional"):
                    raise MountFailed(
                        f'MountVolume.SetUp failed for volume "{volume["name"]}" : {noun} "{source[key]}" not found'
                    )
                return folder, source.get("items")
        raise MountFailed(f'volume "{volume["name"]}" is of a kind that only a cluster has: {sorted(volume)}')


_SOURCES = (
    ("configMap", "ConfigMap", "name", "configmap"),
    ("secret", "Secret", "secretName", "secret"),
    ("persistentVolumeClaim", "PersistentVolumeClaim", "claimName", "persistentvolumeclaim"),
)


def claims_of(pod: Manifest) -> set[str]:
    """Names of the claims that a pod mounts."""
    volumes = pod["spec"].get("volumes", [])
    return {v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v}


def _secret_values(secret: Manifest) -> dict[str, bytes] | None:
    """None: the manifest carries no values (it was stored before)."""
    if "data" not in secret and "stringData" not in secret:
        return None
    plain = {k: v.encode() for k, v in (secret.get("stringData") or {}).items()}
    return {k: base64.b64decode(v) for k, v in (secret.get("data") or {}).items()} | plain


def _write_files(folder: Path, values: dict[str, bytes]) -> None:
    """Each file is replaced atomically; files of keys that are gone go last."""
    for name, value in values.items():
        if "/" in name or name.startswith(".."):
            raise ValueError(f"{name!r} cannot be the name of a file in {folder.name}")
        temporary = folder / f".{name}.new"
        with open(temporary, "wb", opener=_private) as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / name)
    for path in folder.iterdir():
        if path.name not in values:
            path.unlink()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _link(path: Path, target: Path) -> None:
    """Make `path` a link to `target`, atomically where it was a link."""
    if path.is_symlink() and path.readlink() == target:
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(path)


def _unlink(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
