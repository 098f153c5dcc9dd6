"""What a person gets for a YAML file: resources, or one sentence with file, line, field and fix."""

from pathlib import Path

import pytest

from storekeeper.cli.local_files import FILE_BYTES_MAX, InvalidFile, load

GOOD = """\
# three documents
apiVersion: storekeeper.dev/v1alpha1
kind: LogStore
metadata: {name: gateway}
spec:
  entries: {enabled: true}
---
apiVersion: storekeeper.dev/v1alpha1
kind: Stream
metadata: {name: checkout, namespace: shop}
spec:
  logStoreRef: {name: gateway}
---
apiVersion: v1
kind: Secret
metadata: {name: logs-db}
stringData: {password: hush}
---
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "stores.yaml"
    path.write_text(text)
    return path


def test_resources_come_in_order_with_the_default_namespace(tmp_path: Path) -> None:
    found = load([written(tmp_path, GOOD)])
    names = [(m["kind"], m["metadata"]["namespace"], m["metadata"]["name"]) for m in found]
    assert names == [
        ("LogStore", "default", "gateway"),
        ("Stream", "shop", "checkout"),
        ("Secret", "default", "logs-db"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("enabled: true}", "enabled: true, autocreate: true}", 6, "spec.entries.autocreate: there is no such field"),
        ("  entries: {enabled: true}", "  backend:\n    type: mysql", 7, "spec.backend.type: must be one of"),
        ("  entries: {enabled: true}", "  backend: {type: sqlite, postgres: {}}", 6, "spec.backend"),
        ("  entries: {enabled: true}", "  replicas: 2", 6, "spec.replicas: more than one replica needs"),
        ("  logStoreRef: {name: gateway}", "  indexedFields: [a, a]", 12, "spec.logStoreRef"),
        ("name: gateway}\nspec", "name: Gate_way}\nspec", 4, "metadata.name"),
        ("kind: Stream", "kind: Streem", 9, "'Streem' is not one of LogStore"),
        ("storekeeper.dev/v1alpha1\nkind: Stream", "v2\nkind: Stream", 8, "apiVersion: expected"),
        ("apiVersion: v1\nkind: Secret", "- a list", 14, "expected a mapping"),
    ],
)
def test_what_is_wrong_is_named_by_line_and_field(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new)
    if "a list" in new:
        text = text.replace("metadata: {name: logs-db}\nstringData: {password: hush}\n", "")
    path = written(tmp_path, text)
    with pytest.raises(InvalidFile) as refused:
        load([path])
    assert str(refused.value).startswith(f"{path}:{line}: ")
    assert words in str(refused.value)


def test_same_resource_twice_is_refused_also_over_files(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    with pytest.raises(InvalidFile, match="a second time"):
        load([path, path])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no resource"),
        ("---\n---\n", "holds no resource"),
        ("a: [", "is not YAML"),
        ("x" * (FILE_BYTES_MAX + 1), "larger"),
    ],
)
def test_files_that_hold_nothing_usable(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InvalidFile, match=words):
        load([written(tmp_path, text)])


def test_missing_binary_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="cannot be read: No such file"):
        load([tmp_path / "absent.yaml"])
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidFile, match="not UTF-8"):
        load([tmp_path / "binary"])
    with pytest.raises(InvalidFile, match="cannot be read"):
        load([tmp_path])
