"""How the store is reached: one Service; who may reach it: one NetworkPolicy; how many pods must stay: one budget."""

from typing import Any

from storekeeper.manifests.blueprint import Blueprint
from storekeeper.manifests.containers import HTTP_PORT_NAME, METRICS_PORT_NAME
from storekeeper.manifests.objects import Manifest

NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""The label that every namespace has, with its name."""


def service(blueprint: Blueprint) -> Manifest:
    place = blueprint.place
    spec = {
        "type": "ClusterIP",
        "selector": blueprint.serving_labels,
        "ports": [
            {"name": HTTP_PORT_NAME, "port": place.port, "targetPort": HTTP_PORT_NAME, "protocol": "TCP"},
            {"name": METRICS_PORT_NAME, "port": place.metrics_port, "targetPort": METRICS_PORT_NAME, "protocol": "TCP"},
        ],
    }
    return blueprint.child("Service", blueprint.base, {"spec": spec})


def network_policy(blueprint: Blueprint) -> Manifest:
    """Requests from the store's own namespace and from the operator's; metrics from anywhere, for they need no token.

    Policies add up: to let other namespaces in, make one of your own for the pods of the label storekeeper.dev/serves.
    """
    callers: list[dict[str, Any]] = [{"podSelector": {}}]
    if operator := blueprint.place.operator_namespace:
        callers.append({"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: operator}}})
    spec = {
        "podSelector": {"matchLabels": blueprint.owner_labels},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": callers, "ports": [{"port": HTTP_PORT_NAME, "protocol": "TCP"}]},
            {"ports": [{"port": METRICS_PORT_NAME, "protocol": "TCP"}]},
        ],
    }
    return blueprint.child("NetworkPolicy", blueprint.base, {"spec": spec})


def disruption_budget(blueprint: Blueprint) -> Manifest | None:
    """Only above one replica: with one, a budget would only keep a node from being drained."""
    if blueprint.resource.spec.replicas <= 1:
        return None
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": blueprint.serving_labels}}
    return blueprint.child("PodDisruptionBudget", blueprint.base, {"spec": spec})
