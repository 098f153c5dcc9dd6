"""Builds the cluster's programs with Go, once for every version of their sources, into the cache.

One `go build` makes all of them, so what they share is compiled once. Which versions of Kubernetes, CoreDNS and Helm
these are stands in go/go.mod alone.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections import deque
from pathlib import Path

from .commands import LocalkubeError, failure
from .places import Places, locked
from .progress import say, step

SOURCES = Path(__file__).parent / "go"
PACKAGES = ("./localkube", "./clusterdns", "./pause", "helm.sh/helm/v4/cmd/helm")
BUILD_FLAGS = ("-trimpath", "-buildvcs=false")
PACKAGES_PER_LINE = 250  # of progress: there are about 2000
KEY_CHARACTERS = 12


def ensure_binaries(places: Places) -> Path:
    """The folder with localkube, kubectl, helm, clusterdns and pause; builds them if this version is not there yet."""
    folder = places.cache / f"kubernetes-{version_of('k8s.io/kubernetes')}-{key_of_sources()}"
    if folder.is_dir():
        return folder
    with locked(places.cache / "binaries.lock"):
        if not folder.is_dir():  # somebody else may have built it while this process waited
            build_into(folder)
    return folder


def version_of(module: str) -> str:
    """The version of a Go module, such as `v1.34.4`, that go.mod requires."""
    found = re.search(rf"^\s*{re.escape(module)} (v\S+)", (SOURCES / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise LocalkubeError(f"{SOURCES / 'go.mod'} requires no module {module}")
    return found[1]


def key_of_sources() -> str:
    """A short digest of all that decides what comes out of the build."""
    digest = hashlib.sha256(repr((PACKAGES, BUILD_FLAGS, linker_flags(), os.uname().machine)).encode())
    for path in sorted(path for path in SOURCES.rglob("*") if path.is_file()):
        digest.update(f"\0{path.relative_to(SOURCES)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:KEY_CHARACTERS]


def build_into(folder: Path) -> None:
    """Build beside the final place and rename, so that a folder with the final name is always complete."""
    if shutil.which("go") is None:
        raise LocalkubeError(
            "the cluster's programs are built with Go, and there is no `go` on PATH: install Go 1.24 or newer"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        step("building Kubernetes, CoreDNS and Helm", "once; about six minutes on two cores"),
        tempfile.TemporaryDirectory(dir=folder.parent, prefix="building-") as building,
    ):
        built = Path(building, "bin")
        built.mkdir()
        compile_into(built)
        (built / "kubectl").symlink_to("localkube")
        built.rename(folder)


def compile_into(folder: Path) -> None:
    """Run `go build`, which names every package that it compiles: counted, they are a sign of life."""
    arguments = ["go", "build", "-v", *BUILD_FLAGS, "-ldflags", linker_flags(), "-o", f"{folder}/", *PACKAGES]
    environment = os.environ | {"CGO_ENABLED": "0"}
    tail: deque[str] = deque(maxlen=40)
    with subprocess.Popen(
        arguments, cwd=SOURCES, env=environment, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    ) as build:
        assert build.stderr is not None
        for number, line in enumerate(build.stderr, start=1):
            tail.append(line)
            if number % PACKAGES_PER_LINE == 0:
                say(f"  {number} packages …")
    if build.returncode != 0:
        raise failure(arguments[:3], build.returncode, "".join(tail))


def linker_flags() -> str:
    """No debugger's tables, and the versions that the programs' own release builds write into them."""
    kubernetes = version_of("k8s.io/kubernetes")
    major, minor, _ = kubernetes.removeprefix("v").split(".")
    helm = "helm.sh/helm/v4"
    values = {
        "k8s.io/component-base/version.gitVersion": kubernetes,
        "k8s.io/component-base/version.gitMajor": major,
        "k8s.io/component-base/version.gitMinor": minor,
        f"{helm}/internal/version.version": version_of(helm),
        f"{helm}/internal/version.kubeClientVersionMajor": major,
        f"{helm}/internal/version.kubeClientVersionMinor": minor,
        # Without a cluster, `helm template` and `helm lint` check a chart's kubeVersion against these.
        f"{helm}/pkg/chart/common.k8sVersionMajor": major,
        f"{helm}/pkg/chart/common.k8sVersionMinor": minor,
        f"{helm}/pkg/chart/v2/lint/rules.k8sVersionMajor": major,
        f"{helm}/pkg/chart/v2/lint/rules.k8sVersionMinor": minor,
    }
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in values.items())])
