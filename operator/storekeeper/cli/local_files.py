"""The YAML that people hand to `storekeeper local`: read, checked as the API server would, with file and line.

What is wrong is found before anything is started, in the words of the CRDs' own models.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from storekeeper.api.parse import InvalidSpec, parse
from storekeeper.manifests.objects import API_VERSIONS, Manifest

RESOURCE_KINDS = ("LogStore", "RuntimeStore", "Stream")
KINDS = (*RESOURCE_KINDS, "Secret")
"""What may stand in a file: our resources, and the Secrets with the credentials they name."""
FILE_BYTES_MAX = 1024 * 1024
"""More is not a file of resources; the API server takes no object above 1.5 MiB either."""
NAMESPACE_DEFAULT = "default"
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
"""An RFC 1123 subdomain, as for every object's name."""


class InvalidFile(Exception):
    """Names the file, the line and the field, and what to do."""


def load(paths: Iterable[Path]) -> list[Manifest]:
    """Every resource of the files, in order; raises InvalidFile for the first thing that is wrong."""
    found: dict[tuple[str, str, str], Manifest] = {}
    for path in paths:
        for manifest, where in _documents(path):
            metadata = manifest["metadata"]
            key = (manifest["kind"], metadata["namespace"], metadata["name"])
            if key in found:
                raise InvalidFile(f"{where}: {' '.join(key)} stands here a second time; remove one of the two")
            found[key] = manifest
    return list(found.values())


def _documents(path: Path) -> Iterator[tuple[Manifest, str]]:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise InvalidFile(f"{path}: larger than {FILE_BYTES_MAX} bytes")
        text = path.read_text()
    except OSError as error:
        raise InvalidFile(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidFile(f"{path}: is not UTF-8 text") from error
    try:
        nodes = [node for node in yaml.compose_all(text, yaml.SafeLoader) if node is not None]
        values = [value for value in yaml.safe_load_all(text) if value is not None]
    except yaml.YAMLError as error:
        raise InvalidFile(f"{path}: is not YAML: {error}") from error
    if not values:
        raise InvalidFile(f"{path}: holds no resource")
    nodes = [node for node in nodes if node.tag != "tag:yaml.org,2002:null"]
    for node, value in zip(nodes, values, strict=True):
        yield _checked(value, path, node), f"{path}:{node.start_mark.line + 1}"


def _checked(value: Any, path: Path, node: yaml.Node) -> Manifest:
    field, problem = _shape(value)
    if not problem:
        value["metadata"].setdefault("namespace", NAMESPACE_DEFAULT)
        try:
            if value["kind"] != "Secret":
                parse(value)
            return dict(value)
        except InvalidSpec as error:
            field, problem = error.field, error.message
    raise InvalidFile(f"{path}:{_line(node, field)}: {field}: {problem}")


def _shape(value: Any) -> tuple[str, str]:
    """(field, problem) of a document that is no object of a kind we take; empty if it is one."""
    if not isinstance(value, dict):
        return "document", "expected a mapping with apiVersion, kind, metadata and spec"
    kind, metadata = value.get("kind"), value.get("metadata")
    if kind not in KINDS:
        return "kind", f"{kind!r} is not one of {', '.join(KINDS)}"
    if value.get("apiVersion") != API_VERSIONS[kind]:
        return "apiVersion", f"expected {API_VERSIONS[kind]} for a {kind}"
    if not isinstance(metadata, dict) or "name" not in metadata:
        return "metadata.name", "missing"
    for field in ("name", "namespace"):
        name = metadata.get(field, NAMESPACE_DEFAULT)
        if not isinstance(name, str) or not NAME.fullmatch(name):
            return f"metadata.{field}", f"{name!r} must be lower case letters, digits, '-' and '.'"
    return "", ""


def _line(node: yaml.Node, field: str) -> int:
    """Of the field, or of the nearest part of its path that stands in the file."""
    for part in re.findall(r"[^.\[\]]+", field):
        found = _child(node, part)
        if found is None:
            break
        node = found
    return int(node.start_mark.line) + 1


def _child(node: yaml.Node, part: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
        child: yaml.Node = node.value[int(part)]
        return child
    return None
