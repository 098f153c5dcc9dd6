"""Image archives in the OCI layout (OCI image specification, image-layout.md), and their import into the cluster."""

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from .commands import failure, run
from .components import CONTAINERD_SOCKET
from .record import Record

KUBERNETES_NAMESPACE = "k8s.io"  # containerd's, in which the kubelet looks for images
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    """How one blob refers to another."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def encode(document: object) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def single_program_image(name: str, program: Path) -> dict[str, bytes]:
    """Path in the archive → content, of an image that holds one static program and runs it as nobody."""
    layer = single_file_layer(program)
    config = encode(
        {
            "architecture": ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [descriptor(LAYER_TYPE, layer)["digest"]]},
        }
    )
    manifest = encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": descriptor(CONFIG_TYPE, config),
            "layers": [descriptor(LAYER_TYPE, layer)],
        }
    )
    blobs = {blob_path(descriptor("", content)["digest"]): content for content in (layer, config, manifest)}
    return blobs | layout_files(name, descriptor(MANIFEST_TYPE, manifest))


def single_file_layer(program: Path) -> bytes:
    """An uncompressed layer with this file in its root, the same bytes each time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        content = program.read_bytes()
        entry = tarfile.TarInfo(program.name)
        entry.size, entry.mode = len(content), 0o755
        layer.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def layout_files(name: str, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """The two files that make a folder of blobs an image layout; the annotation is how containerd names the image."""
    named = {**manifest, "annotations": {"io.containerd.image.name": name}}
    return {
        "oci-layout": encode({"imageLayoutVersion": "1.0.0"}),
        "index.json": encode({"schemaVersion": 2, "manifests": [named]}),
    }


def blob_path(digest: str) -> str:
    """Where the layout has the blob `sha256:…`."""
    return f"blobs/sha256/{hexadecimal(digest)}"


def hexadecimal(digest: str) -> str:
    """`sha256:…` without what stands before the colon."""
    return digest.removeprefix("sha256:")


def import_program(record: Record, name: str, program: Path) -> None:
    """Put an image of this one program into the cluster."""
    import_archive(record, single_program_image(name, program), {})


def import_folder(record: Record, name: str, folder: Path) -> int:
    """Put the image in this folder into the cluster under this name; returns how many bytes were sent.

    The folder is what `buildah push` writes for `dir:`: manifest.json, and every blob under the hex of its digest.
    Blobs that the cluster has are left out of the archive: after a change of code only a small layer travels.
    """
    manifest = (folder / "manifest.json").read_bytes()
    content = json.loads(manifest)
    wanted = [content["config"]["digest"], *(layer["digest"] for layer in content["layers"])]
    present = set(ctr(record, "content", "list", "--quiet").split())
    files = {blob_path(digest): folder / hexadecimal(digest) for digest in wanted if digest not in present}
    root = descriptor(MANIFEST_TYPE, manifest)
    import_archive(record, {blob_path(root["digest"]): manifest, **layout_files(name, root)}, files)
    return sum(path.stat().st_size for path in files.values())


def import_archive(record: Record, contents: Mapping[str, bytes], files: Mapping[str, Path]) -> None:
    """Stream an archive of these contents and files into `ctr images import`."""
    arguments = [*ctr_command(record), "images", "import", "-"]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as importing:
        assert importing.stdin is not None
        assert importing.stderr is not None
        try:
            write_archive(importing.stdin, contents, files)
            importing.stdin.close()
        except BrokenPipeError:
            pass  # it ended early: its own words say why
        errors = importing.stderr.read().decode()
    if importing.returncode != 0:
        raise failure(arguments, importing.returncode, errors)


def write_archive(stream: IO[bytes], contents: Mapping[str, bytes], files: Mapping[str, Path]) -> None:
    with tarfile.open(fileobj=stream, mode="w|") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, path in files.items():
            archive.add(path, arcname=name)


def ctr(record: Record, *arguments: str) -> str:
    """Run containerd's own client against the cluster's containerd."""
    return run([*ctr_command(record), *arguments])


def ctr_command(record: Record) -> list[str]:
    # Through /proc, because the state folder's own path may be longer than a socket's path may be.
    socket = f"/proc/{record.process}/root{CONTAINERD_SOCKET}"
    return ["ctr", "--address", socket, "--namespace", KUBERNETES_NAMESPACE]
