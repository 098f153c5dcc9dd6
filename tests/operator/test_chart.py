"""The Helm chart: what it renders for three sets of values, what it refuses, and that it cannot read a Secret."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from storekeeper.adapters.kubernetes_api import api_version, plural
from storekeeper.api.crdgen import render
from storekeeper.handlers.watching import WATCHED_KINDS
from tests.cluster.localkube.binaries import ensure_binaries
from tests.cluster.localkube.places import Places

pytestmark = pytest.mark.cluster  # helm is built together with the cluster's programs

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "storekeeper"
VALUES: dict[str, dict[str, Any]] = {
    "default": {},
    "cluster-wide": {
        "scope": {"clusterWide": True},
        "replicas": 2,
        "crds": {"enabled": True, "keep": False},
        "settings": {"runtimeCAConfigMap": "internal-ca", "logLevel": "debug"},
        "image": {"repository": "registry.example/storekeeper", "tag": "1.2.3", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "pull"}],
    },
    "minimal": {
        "scope": {"namespaces": ["team-a", "team-b"]},
        "crds": {"enabled": False},
        "signingKey": {"secretName": "own-key", "create": False},
        "uninstall": {"enabled": False},
        "metrics": {"service": {"enabled": False}},
        "aggregateRoles": False,
        "serviceAccount": {"name": "keeper", "annotations": {"a": "b"}},
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "x", "operator": "Exists"}],
        "podLabels": {"team": "platform"},
        "podAnnotations": {"note": "1"},
        "priorityClassName": "high",
    },
}
READS_SECRETS = {"get", "list", "watch", "patch", "update", "deletecollection", "*"}


@pytest.fixture(scope="session")
def helm() -> str:
    return shutil.which("helm") or str(ensure_binaries(Places.from_environment()) / "helm")


def run(helm: str, *arguments: str, values: dict[str, Any] | None = None) -> "subprocess.CompletedProcess[str]":
    command = [helm, *arguments, *(["--values", "-"] if values is not None else [])]
    return subprocess.run(command, input=json.dumps(values or {}), capture_output=True, text=True, check=False)


def rendered(helm: str, values: dict[str, Any]) -> str:
    flags = ("--namespace", "ops", "--kube-version", "1.34.0")
    done = run(helm, "template", "sk", str(CHART), *flags, values=values)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(helm: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(rendered(helm, values)) if document]


class Yaml(SingleFileSnapshotExtension):
    """One readable file a rendering, beside the other goldens."""

    _write_mode = WriteMode.TEXT
    file_extension = "yaml"

    @classmethod
    def dirname(cls, *, test_location: Any) -> str:
        return str(ROOT / "tests" / "golden" / "test_chart")


@pytest.mark.parametrize("name", VALUES)
def test_renderings(helm: str, name: str, snapshot: SnapshotAssertion) -> None:
    found = objects(helm, VALUES[name])
    others = [document for document in found if document["kind"] != "CustomResourceDefinition"]
    text = yaml.safe_dump_all(others, sort_keys=True, width=120)
    assert text == snapshot(extension_class=Yaml)


@pytest.mark.parametrize("name", VALUES)
def test_lint(helm: str, name: str) -> None:
    done = run(helm, "lint", "--strict", str(CHART), values=VALUES[name])
    assert done.returncode == 0, done.stdout + done.stderr


def rules(helm: str, values: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for document in objects(helm, values):
        if document["kind"] in {"Role", "ClusterRole"}:
            yield from ((document, rule) for rule in document["rules"])


@pytest.mark.parametrize("name", VALUES)
def test_no_role_can_read_a_secret(helm: str, name: str) -> None:
    about_secrets = 0
    for role, rule in rules(helm, VALUES[name]):
        assert "*" not in rule["resources"] + rule["verbs"] + rule["apiGroups"], role["metadata"]["name"]
        if "secrets" in rule["resources"]:
            about_secrets += 1
            assert not READS_SECRETS & set(rule["verbs"]), role["metadata"]["name"]
    assert about_secrets


@pytest.mark.parametrize("name", VALUES)
def test_what_is_watched_may_be_watched_and_nothing_else(helm: str, name: str) -> None:
    operators = [
        rule
        for role, rule in rules(helm, VALUES[name])
        if role["metadata"]["name"] in {"ops-sk"} and "watch" in rule["verbs"]
    ]
    watchable = {
        (group, resource) for rule in operators for group in rule["apiGroups"] for resource in rule["resources"]
    }
    wanted = {(api_version(kind).rpartition("/")[0], plural(kind)) for kind in WATCHED_KINDS}
    assert watchable == wanted


def test_one_role_a_served_namespace_and_no_cluster_role(helm: str) -> None:
    found = objects(helm, VALUES["minimal"])
    roles = {(d["metadata"].get("namespace", "ops"), d["metadata"]["name"]) for d in found if d["kind"] == "Role"}
    assert roles == {("ops", "sk-lease"), ("team-a", "ops-sk"), ("team-b", "ops-sk")}
    assert not [d for d in found if d["kind"].startswith("Cluster")]


def test_crds_are_the_generated_ones_and_kept_when_asked(helm: str) -> None:
    for values, policy in ((VALUES["default"], {"helm.sh/resource-policy": "keep"}), (VALUES["cluster-wide"], {})):
        found = {d["metadata"]["name"]: d for d in objects(helm, values) if d["kind"] == "CustomResourceDefinition"}
        wanted = {crd["metadata"]["name"]: crd for crd in map(yaml.safe_load, render().values())}
        assert found.keys() == wanted.keys()
        for name, crd in found.items():
            annotations = crd["metadata"].pop("annotations", {})
            assert policy.items() <= annotations.items()
            assert ("helm.sh/resource-policy" in annotations) == bool(policy)
            wanted[name]["metadata"].pop("annotations", None)
            assert crd == wanted[name]


def typo(*keys: str, value: Any = "x") -> dict[str, Any]:
    values: Any = value
    for key in reversed(keys):
        values = {key: values}
    return dict(values)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (typo("replica", value=2), "replica"),
        (typo("image", "repo"), "repo"),
        (typo("scope", "clusterwide", value=True), "clusterwide"),
        (typo("settings", "concurency", value=4), "concurency"),
        (typo("settings", "concurrency", value=0), "concurrency"),
        (typo("image", "pullPolicy", value="Sometimes"), "pullPolicy"),
        (typo("scope", value={"clusterWide": True, "namespaces": ["a"]}), "namespaces"),
        (typo("scope", value={"namespaces": ["Not_A_Name"]}), "namespaces"),
    ],
)
def test_typos_are_refused_and_named(helm: str, values: dict[str, Any], named: str) -> None:
    done = run(helm, "template", "sk", str(CHART), "--kube-version", "1.34.0", values=values)
    assert done.returncode != 0
    assert named in done.stderr


def test_every_value_is_in_the_schema_and_the_other_way_round() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(values: dict[str, Any], schema: dict[str, Any], where: str) -> None:
        known = set(schema["properties"]) - {"global"}
        assert set(values) == known, where
        for key, value in values.items():
            inner = schema["properties"][key]
            if isinstance(value, dict) and "properties" in inner:
                compare(value, inner, f"{where}.{key}")

    compare(values, schema, "values")


def pods(helm: str, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for document in objects(helm, values):
        if document["kind"] in {"Deployment", "Job"}:
            yield document["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", VALUES)
def test_pods_are_restricted(helm: str, name: str) -> None:
    found = list(pods(helm, VALUES[name]))
    assert found
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["enableServiceLinks"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "limits" in container["resources"]


def test_the_environment_is_what_settings_read(helm: str) -> None:
    from storekeeper.settings import Settings

    known = {f"STOREKEEPER_{field.upper()}" for field in Settings.model_fields}
    for name in VALUES:
        for pod in pods(helm, VALUES[name]):
            for container in pod["containers"]:
                assert {variable["name"] for variable in container.get("env", [])} <= known


def test_the_uninstall_job_deletes_resources_only_where_the_crds_go_too(helm: str) -> None:
    def arguments(values: dict[str, Any]) -> list[str]:
        [job] = [d for d in objects(helm, values) if d["metadata"]["name"] == "sk-uninstall" and d["kind"] == "Job"]
        return list(job["spec"]["template"]["spec"]["containers"][0].get("args", []))

    assert arguments(VALUES["default"]) == []
    assert arguments(VALUES["cluster-wide"]) == ["--delete-resources", "--timeout=120"]
