"""The ServiceAccount of a store's pods: an identity of their own, without any right and without a token."""

from storekeeper.manifests.blueprint import Blueprint
from storekeeper.manifests.objects import Manifest


def service_account(blueprint: Blueprint) -> Manifest:
    return blueprint.child("ServiceAccount", blueprint.base, {"automountServiceAccountToken": False})
