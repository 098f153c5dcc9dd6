"""How pip on this machine reaches its index, as the secrets of an image build: used during it, never in the image."""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from .commands import run

# What decides how an index is reached. Folders of this machine (find-links, cache-dir) mean nothing inside a build.
SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries", "cert")
CERTIFICATES_INSIDE = "/run/secrets/ca-certificates"
LINE = re.compile(r"^[^.]+\.(?P<name>[a-z-]+)=(?P<quote>['\"])(?P<value>.*)(?P=quote)$")


def machine_settings() -> dict[str, str]:
    """The settings of the machine's pip, from its files and its environment, the stronger one winning."""
    pip = shutil.which("pip") or shutil.which("pip3")
    if pip is not None:
        return parse_settings(run([pip, "config", "list"]))
    return {name: os.environ[variable(name)] for name in SETTINGS if variable(name) in os.environ}


def variable(name: str) -> str:
    """The environment variable by which pip takes a setting."""
    return f"PIP_{name.upper().replace('-', '_')}"


def parse_settings(listing: str) -> dict[str, str]:
    """What `pip config list` wrote: `global.index-url='…'`, or `:env:.index-url='…'`, which is the stronger one."""
    found = [match for match in map(LINE.match, listing.splitlines()) if match and match["name"] in SETTINGS]
    weakest_first = sorted(found, key=lambda match: match[0].startswith(":env:"))
    return {match["name"]: match["value"].replace("\\n", "\n") for match in weakest_first}


def build_secrets(folder: Path, settings: Mapping[str, str]) -> list[str]:
    """Write the secrets into this folder and return the arguments of `buildah build` that name them."""
    certificates = settings.get("cert") or os.environ.get("SSL_CERT_FILE")
    inside = dict(settings)
    secrets = {"pip.conf": folder / "pip.conf"}
    if certificates:
        inside["cert"] = CERTIFICATES_INSIDE
        secrets["ca-certificates"] = Path(certificates)
    # A value of several lines goes on in indented ones.
    lines = [f"{name} = {value.replace(chr(10), chr(10) + '    ')}" for name, value in inside.items()]
    secrets["pip.conf"].write_text("\n".join(["[global]", *lines, ""]))
    return [f"--secret=id={name},src={path}" for name, path in secrets.items()]
