"""One command's view of a state folder: reading YAML into it, finding resources by name, finding their logs."""

from collections.abc import Iterable
from pathlib import Path

from store_runtime.config.quantities import parse_duration
from storekeeper.adapters.processes.cluster import ProcessCluster
from storekeeper.adapters.processes.doorbell import ring
from storekeeper.adapters.processes.statefolder import StateFolder
from storekeeper.api.changes import check_change
from storekeeper.api.parse import KINDS, InvalidSpec, parse
from storekeeper.cli.local_files import RESOURCE_KINDS, InvalidFile
from storekeeper.manifests.objects import LABEL_OWNER_KIND, LABEL_OWNER_NAME, Manifest, ObjectRef, ref_of

ALIASES = {alias: kind.kind for kind in KINDS for alias in (*kind.short_names, kind.plural, kind.kind.lower())}
"""As `kubectl` takes them: short, singular and plural names, in any case."""


class UnknownResource(Exception):
    """Nothing of that name, or more than one thing; the message lists what there is."""


class Session:
    """The objects of one state folder."""

    def __init__(self, folder: StateFolder) -> None:
        self.folder = folder
        self.cluster = ProcessCluster(folder)

    def write(self, manifests: Iterable[Manifest]) -> list[ObjectRef]:
        """Apply the resources; Secrets first and made anew, as nothing may read the old ones. The resources' refs.

        Raises InvalidFile, before anything is written, for a change that the CRDs do not allow.
        """
        ordered = sorted(manifests, key=lambda manifest: manifest["kind"] != "Secret")
        for manifest in ordered:
            self._refuse_change(manifest)
        for manifest in ordered:
            if manifest["kind"] == "Secret":
                self.cluster.delete(ref_of(manifest))
                self.cluster.create(manifest)
            else:
                self.cluster.apply(manifest)
        return [ref_of(manifest) for manifest in ordered if manifest["kind"] != "Secret"]

    def _refuse_change(self, new: Manifest) -> None:
        old = self.cluster.get(ref_of(new)) if new["kind"] != "Secret" else None
        try:
            if old is not None:
                check_change(parse(old), parse(new))
        except InvalidSpec as error:
            raise InvalidFile(f"{ref_of(new)}: {error}") from error

    def ring(self) -> bool:
        """Wake the supervisor; False if none runs."""
        return ring(self.folder.doorbell)

    def find(self, text: str, namespace: str) -> ObjectRef:
        """`KIND/NAME`, or a NAME that only one resource has."""
        kind, _, name = text.rpartition("/")
        if kind and kind.lower() not in ALIASES:
            raise UnknownResource(f"{kind!r} is no kind; choose logstore, stream or runtimestore")
        kinds = (ALIASES[kind.lower()],) if kind else RESOURCE_KINDS
        every = [ref_of(resource) for known in RESOURCE_KINDS for resource in self.cluster.find(known, namespace)]
        found = [ref for ref in every if ref.name == name and ref.kind in kinds]
        if len(found) == 1:
            return found[0]
        have = ", ".join(f"{ref.kind.lower()}/{ref.name}" for ref in found or every) or "none"
        what = "is more than one resource" if found else "is not there"
        raise UnknownResource(f"{text} {what} in namespace {namespace}; there: {have}")

    def logs(self, ref: ObjectRef) -> list[Path]:
        """Logs of the store's pods, the newest written last. A Stream's are those of its LogStore."""
        owner = self._host(ref)
        labels = {LABEL_OWNER_KIND: owner.kind, LABEL_OWNER_NAME: owner.name}
        pods = self.cluster.find("Pod", owner.namespace, labels)
        files = [file for pod in pods for file in self.folder.logs(owner.namespace, ref_of(pod).name).glob("*.log")]
        return sorted(files, key=lambda file: file.stat().st_mtime)

    def _host(self, ref: ObjectRef) -> ObjectRef:
        if ref.kind != "Stream":
            return ref
        stream = self.cluster.get(ref) or {}
        name = ((stream.get("spec") or {}).get("logStoreRef") or {}).get("name", "")
        return ObjectRef("LogStore", ref.namespace, name)


def parse_timeout(text: str) -> float:
    """Seconds of `60s`, `2m`; ValueError says what is wrong."""
    seconds = parse_duration(text).total_seconds()
    if seconds <= 0:
        raise ValueError(f"{text!r} is no time to wait; write for example 30s or 2m")
    return seconds
