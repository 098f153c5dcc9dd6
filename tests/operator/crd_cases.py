"""Resources and changes that are taken or refused: by a real API server (tests/cluster/test_crds.py) and by the models'
own checks (tests/operator/test_api_twins.py).
"""

from typing import Any

POSTGRES = {"host": "db", "database": "logs", "credentialsSecretRef": {"name": "logs-db"}}
ON_POSTGRES = {"type": "postgres", "postgres": POSTGRES}
TO_GATEWAY = {"logStoreRef": {"name": "gateway"}}

GOOD = [
    ("LogStore", {"backend": {"type": "sqlite"}}),
    ("LogStore", {"backend": ON_POSTGRES, "replicas": 3, "entries": {"enabled": False}}),
    ("LogStore", {"retention": {"maxSize": 1048576, "maxAge": "1h30m", "schedule": "*/5 0-6,22 * * 1"}}),
    ("LogStore", {"tls": {"secretRef": {"name": "cert"}}, "adoptStoreID": "6f1c3a9e-0000-4000-8000-0123456789ab"}),
    ("LogStore", {"resources": {"requests": {"cpu": 1, "memory": "1.5Gi"}, "limits": {"cpu": "500m"}}}),
    (
        "LogStore",
        {
            "podTemplate": {
                "labels": {"app.kubernetes.io/part-of": "gateway"},
                "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
                "affinity": {
                    "podAntiAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": [
                            {"weight": 10, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname"}}
                        ]
                    }
                },
            }
        },
    ),
    ("RuntimeStore", {"backend": {"type": "memory", "memory": {"maxKeys": 1000}}, "cache": {"enabled": False}}),
    ("RuntimeStore", {"backend": {"type": "file", "file": {"storage": {"size": "1Gi"}}}, "windows": ["5s", "30d"]}),
    ("Stream", TO_GATEWAY | {"name": "Ünïcode / 流", "deletionPolicy": "Delete"}),
]


BAD_FORM: list[tuple[str, dict[str, Any], str]] = [
    ("LogStore", {"retentoin": {}}, 'unknown field "spec.retentoin"'),
    ("LogStore", {"backend": {"type": "mysql"}}, 'supported values: "sqlite", "postgres"'),
    ("LogStore", {"backend": {"postgres": POSTGRES}}, "spec.backend.type: Required value"),
    ("LogStore", {"replicas": 2}, "spec.replicas: Invalid value"),
    ("LogStore", {"retention": {"maxAge": "5x"}}, "spec.retention.maxAge"),
    ("LogStore", {"retention": {"maxSize": "ten"}}, "spec.retention.maxSize"),
    ("LogStore", {"retention": {"schedule": "hourly"}}, "spec.retention.schedule"),
    ("LogStore", {"podTemplate": {"security": {"runAsUser": 0}}}, "spec.podTemplate.security.runAsUser"),
    ("LogStore", {"podTemplate": {"tolerations": [{"effect": "Sometimes"}]}}, "spec.podTemplate.tolerations[0].effect"),
    ("RuntimeStore", {"backend": {"type": "redis"}}, 'supported values: "memory", "file"'),
    ("RuntimeStore", {"windows": ["60"]}, "spec.windows[0]"),
    ("Stream", {}, "spec.logStoreRef: Required value"),
    ("Stream", TO_GATEWAY | {"indexedFields": ["a", "a"]}, "Duplicate value"),
]
"""The schema refuses these, in the API server's own words."""

BAD_RULE: list[tuple[str, dict[str, Any], str]] = [
    ("LogStore", {"backend": {"type": "postgres"}}, "type postgres needs its member postgres"),
    ("LogStore", {"backend": {"type": "sqlite", "postgres": POSTGRES}}, "postgres does not belong to this type"),
    ("LogStore", {"backend": {"type": "postgres", "postgres": POSTGRES, "sqlite": {}}}, "sqlite does not belong"),
    (
        "LogStore",
        {"backend": {"type": "postgres", "postgres": POSTGRES | {"host": "me:hunter2@db"}}},
        "put user and password into a Secret",
    ),
    ("LogStore", {"replicas": 2, "backend": {"type": "sqlite"}}, "more than one replica needs a database"),
    ("LogStore", {"replicas": 2, "backend": ON_POSTGRES, "entries": {}}, "leave entries out"),
    ("LogStore", {"entries": {"storage": {"size": "0"}}}, "a volume needs a size above 0"),
    ("LogStore", {"podTemplate": {"labels": {"storekeeper.dev/name": "x"}}}, "choose another prefix"),
    ("LogStore", {"podTemplate": {"labels": {"app.kubernetes.io/name": "x"}}}, "the operator sets"),
    ("RuntimeStore", {"replicas": 2}, "memory and file belong to one pod"),
    ("RuntimeStore", {"backend": {"type": "memory", "file": {}}}, "file does not belong to this type"),
    ("Stream", TO_GATEWAY | {"name": "ü" * 128}, "at most 255 bytes"),
]
"""Our rules refuse these, in words of ours."""


def sqlite(**storage: str) -> dict[str, Any]:
    return {"backend": {"type": "sqlite", "sqlite": {"storage": storage}}}


def file(**storage: str) -> dict[str, Any]:
    return {"backend": {"type": "file", "file": {"storage": storage}}}


REFUSED_CHANGES = [
    ("LogStore", {}, {"adoptStoreID": "x"}, "a store's identity cannot be changed"),
    ("LogStore", {"adoptStoreID": "x"}, {}, "a store's identity cannot be changed"),
    ("LogStore", sqlite(size="20Gi"), sqlite(size="19Gi"), "a volume cannot shrink"),
    ("LogStore", sqlite(size="20Gi"), {}, "without a size it is 10Gi"),
    ("LogStore", {}, sqlite(size="5Gi"), "without a size it is 10Gi"),
    ("LogStore", sqlite(storageClassName="a"), sqlite(storageClassName="b"), "the class of a volume"),
    ("LogStore", {}, sqlite(storageClassName="b"), "the class of a volume"),
    ("LogStore", {"entries": {}}, {"entries": {"storage": {"size": "1Gi"}}}, "without a size it is 20Gi"),
    ("RuntimeStore", {}, file(size="512Mi"), "without a size it is 1Gi"),
    ("Stream", TO_GATEWAY, {"logStoreRef": {"name": "other"}}, "cannot move to another LogStore"),
    ("Stream", TO_GATEWAY, TO_GATEWAY | {"name": "renamed"}, "cannot be renamed"),
]


TAKEN_CHANGES = [
    ("LogStore", sqlite(size="1Gi"), sqlite(size=str(2 * 2**30))),
    ("LogStore", sqlite(size="1Gi"), {"backend": ON_POSTGRES}),
    ("LogStore", {"backend": ON_POSTGRES}, sqlite(size="1Gi")),
    ("LogStore", {}, {"entries": {"storage": {"size": "1Gi"}}}),
    ("RuntimeStore", {}, {"backend": {"type": "memory"}}),
    ("Stream", TO_GATEWAY, TO_GATEWAY | {"retention": {"maxAge": "1m"}, "indexedFields": ["level"]}),
]
