"""The children of a store: as they were last time (golden), safe, well named, and taken by the cluster of processes."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from store_runtime.config.retention import LogRetention
from store_runtime.config.runtime import LogStoreConfig, RuntimeStoreConfig, load
from store_runtime.config.wire import JobName
from storekeeper.adapters.processes.admission import admit
from storekeeper.api.resource import NAME_CHARS_MAX
from storekeeper.manifests.blueprint import Blueprint
from storekeeper.manifests.claims import claims
from storekeeper.manifests.config import config_map, policy_map
from storekeeper.manifests.containers import resources
from storekeeper.manifests.jobs import job, jobs
from storekeeper.manifests.network import disruption_budget, network_policy, service
from storekeeper.manifests.objects import (
    ANNOTATION_FINGERPRINT,
    ANNOTATION_HASH,
    LABEL_JOB,
    LABEL_OWNER_KIND,
    LABEL_OWNER_NAME,
    LABEL_SERVES,
    LABEL_STORE_ID,
)
from storekeeper.manifests.place import Paths, Place
from storekeeper.manifests.retention import retention_cron_job, schedule
from storekeeper.manifests.secrets import binding, jobs_token
from storekeeper.manifests.workload import workload
from tests.operator.manifest_cases import (
    CASES,
    UID,
    blueprint,
    case,
    children,
    containers,
    place,
    pod_templates,
    resource,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "manifests"
GOLDEN_CASES = [name for name in CASES if name not in ("logstore-least", "logstore-postgres-entries")]
LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
CRON_JOB_NAME_MAX = 52
"""Kubernetes adds eleven characters for each Job."""
ALLOWED_VOLUMES = {"configMap", "secret", "persistentVolumeClaim", "emptyDir"}

every_case = pytest.mark.parametrize("name", CASES)


# -- golden ------------------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """As people would write it: no anchors, and texts of several lines as such."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_the_children_are_as_they_were(name: str) -> None:
    """`UPDATE_GOLDEN=1` writes them anew: read the diff."""
    text = yaml.dump_all(children(case(name)), Dumper=_Dumper, sort_keys=False, width=120)
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text


# -- safety ------------------------------------------------------------------------------------------------------------


@every_case
def test_every_pod_obeys_the_restricted_standard(name: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    for where, template in pod_templates(children(case(name))):
        spec = template["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), where
        assert all(len(v) == 2 and ALLOWED_VOLUMES & v.keys() for v in spec["volumes"]), where
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True and security["runAsUser"] > 0 and security["fsGroup"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(template):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }
            assert not any("hostPort" in port for port in container.get("ports", []))


@every_case
def test_a_pod_has_no_token_and_everything_it_mounts(name: str) -> None:
    for where, template in pod_templates(children(case(name))):
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
        volumes = {volume["name"] for volume in spec["volumes"]}
        mounted = {mount["name"] for c in containers(template) for mount in c["volumeMounts"]}
        assert mounted == volumes, where
        for container in containers(template):
            paths = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert len(set(paths)) == len(paths)
            writable = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
            assert writable <= {"data", "entries", "scratch"}, where


@every_case
def test_no_secret_value_is_in_any_child(name: str) -> None:
    for manifest in children(case(name)):
        if manifest["kind"] == "Secret":
            assert "data" not in manifest and "token" not in manifest["stringData"]
        assert not re.search(r"password|PRIVATE KEY", json.dumps(manifest), re.IGNORECASE), manifest["metadata"]["name"]


@every_case
def test_what_a_local_cluster_cannot_do_is_not_asked_of_it(name: str) -> None:
    for manifest in children(case(name)):
        admit(manifest)


# -- names and labels --------------------------------------------------------------------------------------------------


@every_case
def test_children_are_named_within_limits_for_the_longest_name(name: str) -> None:
    kind, spec = CASES[name]
    drawn = Blueprint(resource(kind, spec, name="x" * NAME_CHARS_MAX), place(), epoch=99_999)
    for manifest in children(drawn):
        limit = CRON_JOB_NAME_MAX if manifest["kind"] == "CronJob" else 63
        assert len(manifest["metadata"]["name"]) <= limit, manifest["metadata"]["name"]
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", manifest["metadata"]["name"])


@every_case
def test_every_child_says_whose_it_is(name: str) -> None:
    drawn = case(name)
    for manifest in children(drawn):
        metadata = manifest["metadata"]
        assert metadata["namespace"] == "team"
        assert (metadata["labels"][LABEL_OWNER_KIND], metadata["labels"][LABEL_OWNER_NAME]) == (
            CASES[name][0],
            "gateway",
        )
        assert re.fullmatch(r"[0-9a-f]{16}", metadata["annotations"][ANNOTATION_HASH])
        kept = manifest["kind"] == "PersistentVolumeClaim" and drawn.resource.spec.deletion_policy == "Retain"
        owners = metadata.get("ownerReferences", [])
        assert [owner["uid"] for owner in owners] == ([] if kept else [UID])
    for labels in _label_sets(drawn):
        for key, value in labels.items():
            assert LABEL_KEY.fullmatch(key) and LABEL_VALUE.fullmatch(value), (key, value)


def _label_sets(drawn: Blueprint) -> list[dict[str, str]]:
    manifests = children(drawn)
    templates = [template["metadata"]["labels"] for _, template in pod_templates(manifests)]
    return [*(manifest["metadata"]["labels"] for manifest in manifests), *templates]


@every_case
def test_a_service_leads_to_serving_pods_and_to_no_job(name: str) -> None:
    drawn = case(name)
    selector = service(drawn)["spec"]["selector"].items()
    for where, template in pod_templates(children(drawn)):
        labels = template["metadata"]["labels"]
        assert (selector <= labels.items()) == (where.startswith(("StatefulSet", "Deployment"))), where
        assert (LABEL_SERVES in labels) != (LABEL_JOB in labels)
    own = workload(drawn)["spec"]
    assert own["selector"]["matchLabels"].items() <= own["template"]["metadata"]["labels"].items()


def test_a_log_store_and_a_runtime_store_of_one_name_do_not_collide() -> None:
    names = [
        {(m["kind"], m["metadata"]["name"]) for m in children(blueprint(kind, {}))}
        for kind in ("LogStore", "RuntimeStore")
    ]
    assert not names[0] & names[1]


def test_equal_blueprints_draw_equal_children() -> None:
    assert children(case("logstore-everything")) == children(case("logstore-everything"))


# -- the config --------------------------------------------------------------------------------------------------------


@every_case
def test_the_config_is_one_that_the_runtime_reads(name: str, tmp_path: Path) -> None:
    drawn = case(name)
    path = tmp_path / "config.json"
    path.write_text(config_map(drawn)["data"]["config.json"])
    config = load(path)
    assert config.kind == CASES[name][0]
    assert config.store.owner == UID and config.store.id == drawn.resource.store_id
    assert config.auth.audience == f"{config.kind.lower()}/team/gateway"
    assert config.backend.type == drawn.resource.backend_type


def test_the_config_names_the_places_of_the_data() -> None:
    elsewhere = Paths(data="/d", entries="/e", credentials="/c", tls="/t")
    at = Place(url="http://127.0.0.1:1", public_keys=("k",), host="127.0.0.1", port=1, metrics_port=2, paths=elsewhere)
    config = _config(Blueprint(resource(*CASES["logstore-everything"]), at))
    assert isinstance(config, LogStoreConfig) and config.backend.sqlite is not None and config.entries is not None
    assert config.backend.sqlite.path == "/d/requests.db"
    assert (config.entries.directory, config.entries.auto_create) == ("/e/streams", False)
    assert config.server.tls is not None and config.server.tls.key_file == "/t/tls.key"
    assert (config.server.host, config.server.port, config.server.metrics_port) == ("127.0.0.1", 1, 2)
    on_postgres = _config(Blueprint(resource(*CASES["logstore-postgres"]), at))
    assert isinstance(on_postgres, LogStoreConfig) and on_postgres.backend.postgres is not None
    assert on_postgres.backend.postgres.credentials_directory == "/c" and on_postgres.entries is None
    in_memory = _config(Blueprint(resource(*CASES["runtimestore-memory"]), at))
    assert isinstance(in_memory, RuntimeStoreConfig) and in_memory.backend.memory is not None
    assert in_memory.backend.memory.max_keys == 5000 and not in_memory.cache.enabled


def _config(drawn: Blueprint) -> LogStoreConfig | RuntimeStoreConfig:
    from pydantic import TypeAdapter

    from store_runtime.config.runtime import RuntimeConfig

    adapter: TypeAdapter[LogStoreConfig | RuntimeStoreConfig] = TypeAdapter(RuntimeConfig)
    return adapter.validate_json(config_map(drawn)["data"]["config.json"])


def test_a_config_is_another_object_only_when_it_says_something_else() -> None:
    def name_of(spec: dict[str, Any], epoch: int = 1) -> str:
        name: str = config_map(Blueprint(resource("LogStore", spec), place(), epoch))["metadata"]["name"]
        return name

    assert name_of({}) == name_of({"retention": {"maxAge": "1h"}}) == name_of({"podTemplate": {"labels": {"a": "b"}}})
    assert len({name_of({}), name_of({"entries": {}}), name_of({}, epoch=2)}) == 3
    assert re.fullmatch(r"gateway-logs-e2-[0-9a-f]{8}", name_of({}, epoch=2))
    assert config_map(case("logstore-least"))["immutable"] is True


# -- pods and jobs -----------------------------------------------------------------------------------------------------


def test_on_a_volume_the_pod_itself_provisions_and_migrates() -> None:
    for name in ("logstore-least", "logstore-postgres-entries", "runtimestore-least"):
        drawn = case(name)
        made = workload(drawn)
        assert made["kind"] == "StatefulSet" and jobs(drawn) == {}
        assert [c["name"] for c in made["spec"]["template"]["spec"]["initContainers"]] == ["provision", "migrate"]


def test_without_a_volume_jobs_do_it_before() -> None:
    drawn = case("logstore-postgres")
    made = workload(drawn)
    assert made["kind"] == "Deployment" and "initContainers" not in made["spec"]["template"]["spec"]
    assert list(jobs(drawn)) == [JobName.PROVISION, JobName.MIGRATE]
    template = jobs(drawn)[JobName.MIGRATE]["spec"]["template"]["spec"]
    assert template["restartPolicy"] == "OnFailure"
    assert {"name": "credentials", "secret": {"secretName": "logs-db", "defaultMode": 0o440}} in template["volumes"]


def test_memory_is_never_in_two_pods() -> None:
    drawn = case("runtimestore-memory")
    assert workload(drawn)["spec"]["strategy"] == {"type": "Recreate"} and jobs(drawn) == {} and claims(drawn) == ()


def test_another_image_or_config_is_another_job_and_a_changed_policy_is_not() -> None:
    spec = {"backend": CASES["logstore-postgres"][1]["backend"]}

    def name_of(**changed: Any) -> str:
        name: str = job(blueprint("LogStore", spec | changed), JobName.MIGRATE)["metadata"]["name"]
        return name

    assert name_of() == name_of(retention={"maxAge": "1h"}) == name_of(replicas=2)
    assert len({name_of(), name_of(image="other:1"), name_of(tls={"secretRef": {"name": "t"}})}) == 3


def test_jobs_report_where_the_kubelet_looks() -> None:
    at = Place(url="http://x", public_keys=("k",), termination_log="/somewhere/report", command=("python", "-m", "r"))
    for name in ("logstore-quickstart", "logstore-postgres"):
        for _, template in pod_templates(children(Blueprint(resource(*CASES[name]), at))):
            for container in containers(template):
                assert container["command"] == ["python", "-m", "r"]
                assert container["terminationMessagePath"] == "/somewhere/report"
                assert container["args"][0] == container["name"]
                assert container["args"][-2:] == ["--report", "/somewhere/report"]


def test_the_workload_tells_which_data_it_serves() -> None:
    drawn = case("logstore-postgres")
    assert workload(drawn)["metadata"]["annotations"][ANNOTATION_FINGERPRINT] == drawn.resource.fingerprint


def test_people_add_to_the_pods_and_never_take_away() -> None:
    template = workload(case("logstore-everything"))["spec"]["template"]
    assert template["metadata"]["labels"]["app.kubernetes.io/part-of"] == "gateway"
    assert template["metadata"]["annotations"] == {"example.com/scrape": "yes"}
    spec = template["spec"]
    assert spec["nodeSelector"] == {"disk": "ssd"} and spec["priorityClassName"] == "storage"
    assert spec["tolerations"] == [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}]
    assert spec["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"][LABEL_SERVES] == "true"
    assert spec["securityContext"]["runAsUser"] == 1000 and spec["terminationGracePeriodSeconds"] == 120
    assert spec["containers"][0]["image"] == "registry.example/storekeeper:1"
    assert spec["containers"][0]["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, {"requests": {"cpu": "50m", "memory": "256Mi"}}),
        ({"limits": {"memory": "128Mi"}}, {"requests": {"cpu": "50m"}, "limits": {"memory": "128Mi"}}),
        ({"requests": {"cpu": 1}}, {"requests": {"cpu": "1", "memory": "256Mi"}}),
    ],
)
def test_default_requests_never_pass_a_limit(wanted: dict[str, Any], expected: dict[str, Any]) -> None:
    assert resources(blueprint("LogStore", {"resources": wanted})) == expected


# -- claims ------------------------------------------------------------------------------------------------------------


def test_claims_are_kept_unless_the_data_goes_with_the_resource() -> None:
    kept = claims(case("logstore-quickstart"))
    assert [claim["metadata"]["name"] for claim in kept] == ["gateway-logs-data", "gateway-logs-entries"]
    assert all("ownerReferences" not in claim["metadata"] for claim in kept)
    going = claims(case("logstore-everything"))
    assert all(claim["metadata"]["ownerReferences"][0]["uid"] == UID for claim in going)
    assert {claim["metadata"]["labels"][LABEL_STORE_ID] for claim in going} == {"99999999-8888-7777-6666-000000000000"}
    assert going[0]["spec"]["storageClassName"] == "fast" and "storageClassName" not in going[1]["spec"]
    assert going[1]["spec"]["resources"]["requests"]["storage"] == "50Gi"


# -- retention ---------------------------------------------------------------------------------------------------------


def test_without_a_limit_nothing_is_scheduled_and_no_token_is_made() -> None:
    for name in ("logstore-least", "runtimestore-least", "runtimestore-memory"):
        drawn = case(name)
        assert retention_cron_job(drawn) is None and policy_map(drawn) is None and jobs_token(drawn) is None


@pytest.mark.parametrize("name", ["logstore-quickstart", "logstore-postgres-entries"])
def test_on_a_volume_retention_asks_the_serving_pod_with_a_token(name: str) -> None:
    drawn = case(name)
    cron_job = retention_cron_job(drawn)
    assert cron_job is not None and jobs_token(drawn) is not None
    (container,) = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    arguments = container["args"]
    assert arguments[arguments.index("--url") + 1] == drawn.place.url and "--config" not in arguments
    assert arguments[arguments.index("--token-file") + 1] == "/run/secrets/storekeeper/token/token"
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {"policy", "scratch", "token"}, "the volume is the serving pod's"


def test_on_a_network_database_retention_does_the_work_itself() -> None:
    drawn = case("logstore-postgres")
    cron_job = retention_cron_job(drawn)
    assert cron_job is not None and jobs_token(drawn) is None
    (container,) = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert "--config" in container["args"] and "--url" not in container["args"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {"policy", "scratch", "config", "credentials"}


def test_with_tls_only_the_authority_is_given_to_callers() -> None:
    cron_job = retention_cron_job(case("logstore-everything"))
    assert cron_job is not None
    volumes = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"]
    (tls,) = [volume["secret"] for volume in volumes if volume["name"] == "tls"]
    assert tls["items"] == [{"key": "ca.crt", "path": "ca.crt"}] and tls["optional"] is True


def test_the_policy_is_the_retention_of_request_logs() -> None:
    policy = policy_map(case("logstore-everything"))
    assert policy is not None
    written = LogRetention.model_validate_json(policy["data"]["retention.json"])
    assert written.document() == {"maxAge": "720h", "maxSize": str(5 * 10**9), "payloadMaxAge": "36h"}


def test_stores_are_cleaned_at_a_minute_of_their_own() -> None:
    def minute(uid: str) -> str:
        body = resource("LogStore", {"adoptStoreID": uid, "retention": {"maxAge": "1h"}})
        return schedule(Blueprint(body, place()))

    minutes = {minute(f"store-{number}") for number in range(200)}
    assert len(minutes) > 40 and all(re.fullmatch(r"[0-5]?[0-9] \* \* \* \*", found) for found in minutes)
    assert schedule(case("logstore-everything")) == "30 3 * * 0"


# -- reaching it -------------------------------------------------------------------------------------------------------


def test_the_binding_is_what_an_application_needs() -> None:
    made = binding(case("logstore-everything"))
    assert made["type"] == "servicebinding.io/logstore"
    assert made["stringData"] == {
        "type": "logstore",
        "provider": "storekeeper",
        "uri": "https://gateway.team.svc.cluster.local:8080",
        "host": "gateway.team.svc.cluster.local",
        "port": "8080",
    }


def test_a_budget_only_where_a_pod_may_be_missed() -> None:
    assert disruption_budget(case("logstore-quickstart")) is None
    budget = disruption_budget(case("logstore-postgres"))
    assert budget is not None and budget["spec"]["maxUnavailable"] == 1


def test_requests_come_from_the_namespace_and_the_operator_metrics_from_anywhere() -> None:
    requests, metrics = network_policy(case("logstore-quickstart"))["spec"]["ingress"]
    assert requests["from"][0] == {"podSelector": {}} and "storekeeper-system" in json.dumps(requests["from"][1])
    assert requests["ports"][0]["port"] == "http" and metrics["ports"][0]["port"] == "metrics" and "from" not in metrics
    nobody = Blueprint(resource("LogStore", {}), Place(url="http://x", public_keys=("k",)))
    assert network_policy(nobody)["spec"]["ingress"][0]["from"] == [{"podSelector": {}}]
