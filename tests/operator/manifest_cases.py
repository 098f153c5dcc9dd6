"""Resources that between them show every form of a store's children, and all children drawn from one."""

from collections.abc import Iterator
from typing import Any

from store_runtime.config.wire import JobName
from storekeeper.api.parse import parse
from storekeeper.api.resource import StoreResource
from storekeeper.manifests.account import service_account
from storekeeper.manifests.blueprint import Blueprint
from storekeeper.manifests.claims import claims
from storekeeper.manifests.config import config_map, policy_map
from storekeeper.manifests.jobs import job, jobs
from storekeeper.manifests.network import disruption_budget, network_policy, service
from storekeeper.manifests.objects import Manifest
from storekeeper.manifests.place import Place
from storekeeper.manifests.retention import retention_cron_job
from storekeeper.manifests.secrets import binding, jobs_token
from storekeeper.manifests.workload import workload

UID = "11111111-2222-3333-4444-555555555555"
PUBLIC_KEY = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"
ON_POSTGRES = {
    "type": "postgres",
    "postgres": {"host": "db.example", "database": "logs", "credentialsSecretRef": {"name": "logs-db"}},
}
EVERYTHING = {
    "deletionPolicy": "Delete",
    "adoptStoreID": "99999999-8888-7777-6666-000000000000",
    "image": "registry.example/storekeeper:1",
    "backend": {"type": "sqlite", "sqlite": {"storage": {"size": "20Gi", "storageClassName": "fast"}}},
    "entries": {"autoCreate": False, "storage": {"size": "50Gi"}},
    "retention": {"maxAge": "30d", "maxSize": "5G", "payloadMaxAge": "36h", "schedule": "30 3 * * 0"},
    "tls": {"secretRef": {"name": "gateway-tls"}},
    "resources": {"requests": {"memory": "1Gi"}, "limits": {"cpu": 2, "memory": "2Gi"}},
    "podTemplate": {
        "labels": {"app.kubernetes.io/part-of": "gateway"},
        "annotations": {"example.com/scrape": "yes"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 10,
                        "podAffinityTerm": {
                            "topologyKey": "kubernetes.io/hostname",
                            "labelSelector": {"matchLabels": {"app": "noisy"}},
                        },
                    }
                ]
            }
        },
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "priorityClassName": "storage",
        "imagePullSecrets": [{"name": "registry"}],
        "terminationGracePeriodSeconds": 120,
        "security": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000},
    },
}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "logstore-least": ("LogStore", {}),
    "logstore-quickstart": ("LogStore", {"retention": {"maxAge": "720h"}, "entries": {"enabled": True}}),
    "logstore-postgres": ("LogStore", {"backend": ON_POSTGRES, "replicas": 3, "retention": {"maxAge": "90d"}}),
    "logstore-postgres-entries": ("LogStore", {"backend": ON_POSTGRES, "entries": {}, "retention": {"maxAge": "1h"}}),
    "logstore-everything": ("LogStore", EVERYTHING),
    "runtimestore-least": ("RuntimeStore", {}),
    "runtimestore-memory": (
        "RuntimeStore",
        {
            "backend": {"type": "memory", "memory": {"maxKeys": 5000}},
            "windows": ["10s", "1d"],
            "cache": {"enabled": False},
        },
    ),
}


def place(namespace: str = "team", name: str = "gateway", scheme: str = "http") -> Place:
    return Place(
        url=f"{scheme}://{name}.{namespace}.svc.cluster.local:8080",
        public_keys=(PUBLIC_KEY,),
        image="storekeeper:test",
        operator_namespace="storekeeper-system",
    )


def resource(kind: str, spec: dict[str, Any], *, name: str = "gateway", namespace: str = "team") -> StoreResource:
    metadata = {"name": name, "namespace": namespace, "uid": UID, "generation": 1}
    body = {"apiVersion": "storekeeper.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
    found = parse(body)
    assert isinstance(found, StoreResource)
    return found


def blueprint(kind: str, spec: dict[str, Any], *, name: str = "gateway", namespace: str = "team") -> Blueprint:
    scheme = "https" if "tls" in spec else "http"
    return Blueprint(resource(kind, spec, name=name, namespace=namespace), place(namespace, name, scheme))


def case(name: str) -> Blueprint:
    return blueprint(*CASES[name])


def children(drawn: Blueprint) -> list[Manifest]:
    """Every child that the store wants, and the Job that lets it go."""
    return [manifest for manifest in _children(drawn) if manifest is not None]


def _children(drawn: Blueprint) -> Iterator[Manifest | None]:
    yield service_account(drawn)
    yield config_map(drawn)
    yield policy_map(drawn)
    yield from claims(drawn)
    yield binding(drawn)
    yield jobs_token(drawn)
    yield from jobs(drawn).values()
    yield workload(drawn)
    yield service(drawn)
    yield network_policy(drawn)
    yield disruption_budget(drawn)
    yield retention_cron_job(drawn)
    yield job(drawn, JobName.RELEASE)


def pod_templates(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, template) of every pod that these objects make."""
    for manifest in manifests:
        where = f"{manifest['kind']} {manifest['metadata']['name']}"
        if manifest["kind"] in ("StatefulSet", "Deployment", "Job"):
            yield where, manifest["spec"]["template"]
        if manifest["kind"] == "CronJob":
            yield where, manifest["spec"]["jobTemplate"]["spec"]["template"]


def containers(template: dict[str, Any]) -> list[dict[str, Any]]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]
