"""Builds the product's image from the Dockerfile without a registry, and puts it into the cluster.

The base that a user would pull is made of Debian packages instead. Buildah keeps the layers of earlier builds, so a
change of code redoes the last small one; and only the layers that the cluster lacks are sent to it.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .archive import import_folder
from .cluster import Cluster
from .commands import run
from .pip_settings import build_secrets, machine_settings
from .places import CHECKOUT, Places, locked
from .progress import say, step

IMAGE = "localhost/storekeeper:test"
BASE_SUITE = "trixie"
BASE_PACKAGES = ("ca-certificates", "python3", "python3-venv")
BASE_RECIPE = (
    "mmdebstrap",
    "--quiet",
    "--variant=minbase",
    f"--include={','.join(BASE_PACKAGES)}",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)
BASE_IMAGE = f"localhost/storekeeper-base:{hashlib.sha256(repr((BASE_SUITE, BASE_RECIPE)).encode()).hexdigest()[:12]}"
MEGABYTE = 1_000_000


def ensure_image(places: Places, cluster: Cluster | None) -> str:
    """Build the image if the code has changed, put it into the cluster if there is one, and return its name."""
    with (
        locked(places.cache / "image.lock"),
        step("building the image"),
        Buildah.on(places.cache / "buildah") as buildah,
    ):
        ensure_base(buildah)
        folder = export(buildah, build(buildah), places.cache / "images")
        if cluster is not None:
            sent_bytes = import_folder(cluster.record, IMAGE, folder)
            say(f"  sent {sent_bytes / MEGABYTE:.0f} MB of it to the cluster")
    return IMAGE


def build(buildah: "Buildah") -> str:
    """Run the Dockerfile, every layer of which is kept for the next time; returns the image's id."""
    with tempfile.TemporaryDirectory() as folder:
        secrets = build_secrets(Path(folder), machine_settings())
        base = f"--build-arg=BASE_IMAGE={BASE_IMAGE}"
        return buildah.run("build", "--quiet", "--layers", base, *secrets, f"--tag={IMAGE}", CHECKOUT)


def export(buildah: "Buildah", image: str, images: Path) -> Path:
    """The folder with this image's manifest and blobs, uncompressed: they only travel to the next process."""
    folder = images / image
    if not folder.exists():
        shutil.rmtree(images, ignore_errors=True)  # earlier images, and what an interrupted export left
        images.mkdir(parents=True)
        buildah.run("push", "--quiet", "--disable-compression", image, f"dir:{images / 'draft'}")
        (images / "draft").rename(folder)
    return folder


def ensure_base(buildah: "Buildah") -> None:
    """Debian with Python, as an image of one layer."""
    if buildah.run("images", "--quiet", "--filter", f"reference={BASE_IMAGE}"):
        return
    with step("making the base image of Debian packages", "once"), tempfile.TemporaryDirectory() as folder:
        archive, recipe = Path(folder, "base.tar"), Path(folder, "Dockerfile")
        run([*BASE_RECIPE, *apt_options(), BASE_SUITE, archive, *debian_mirror()])
        recipe.write_text(f"FROM scratch\nADD {archive.name} /\n")
        buildah.run("build", "--quiet", f"--file={recipe}", f"--tag={BASE_IMAGE}", folder)


def debian_mirror() -> list[str]:
    """The archive that this machine installs Debian packages from; none named means Debian's own."""
    targets = run(["apt-get", "indextargets", "--format", "$(ORIGIN) $(RELEASE) $(REPO_URI)", "Created-By: Packages"])
    found = re.search(r"^Debian [a-z]+ (\S+)$", targets, re.MULTILINE)
    return [found[1]] if found else []


def apt_options() -> list[str]:
    """How apt on this machine reaches its archives."""
    listing = run(["apt-config", "dump", "Acquire"])
    wanted = re.findall(
        r'^Acquire::https?::(?:[\w.-]+::)?(?:Proxy|CaInfo) ".+";$', listing, re.MULTILINE | re.IGNORECASE
    )
    return [f"--aptopt={option}" for option in wanted]


@dataclass(frozen=True)
class Buildah:
    """Buildah with a store of its own, and in a mount namespace of its own, so that not even a killed build leaves a
    mount behind. The build is ours, so it needs no isolation.
    """

    storage: Path
    volatile: str

    @classmethod
    @contextmanager
    def on(cls, storage: Path) -> "Iterator[Buildah]":
        """Its notes on what is mounted must not outlive the mounts: a new folder for them each time."""
        with tempfile.TemporaryDirectory() as volatile:
            buildah = cls(storage, volatile)
            buildah.run("rm", "--all")  # containers that an interrupted build left
            yield buildah

    def run(self, *arguments: str | Path) -> str:
        """Run it; returns what it wrote, without the space around."""
        enclosed = ["unshare", "--mount", "buildah"]
        places = [f"--root={self.storage}", f"--runroot={self.volatile}", "--storage-driver=overlay"]
        environment = os.environ | {"BUILDAH_ISOLATION": "chroot"}
        return run([*enclosed, *places, *arguments], environment=environment).strip()
