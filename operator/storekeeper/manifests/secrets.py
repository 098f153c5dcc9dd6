"""Secrets without their token: the executor signs one and posts them. They are never read, applied or patched.

The binding follows https://servicebinding.io/spec: an application mounts it and finds all that it needs.
"""

from urllib.parse import urlsplit

from storekeeper.manifests.blueprint import Blueprint
from storekeeper.manifests.config import limited_retention
from storekeeper.manifests.objects import MANAGED_BY, Manifest

TOKEN_KEY = "token"  # noqa: S105 — the name of a key
_PORTS = {"http": 80, "https": 443}


def binding_name(blueprint: Blueprint) -> str:
    return f"{blueprint.base}-binding"


def jobs_token_name(blueprint: Blueprint) -> str:
    return f"{blueprint.base}-jobs"


def binding(blueprint: Blueprint) -> Manifest:
    kind = blueprint.resource.kind.lower()
    url = urlsplit(blueprint.place.url)
    data = {
        "type": kind,
        "provider": MANAGED_BY,
        "uri": blueprint.place.url,
        "host": url.hostname or "",
        "port": str(url.port or _PORTS[url.scheme]),
    }
    body = {"type": f"servicebinding.io/{kind}", "stringData": data}
    return blueprint.child("Secret", binding_name(blueprint), body)


def jobs_token(blueprint: Blueprint) -> Manifest | None:
    """For the pods of the retention CronJob, where they ask the serving pod; None where they do not."""
    if limited_retention(blueprint) is None or not blueprint.resource.has_volume:
        return None
    return blueprint.child("Secret", jobs_token_name(blueprint), {"type": "Opaque", "stringData": {}})
