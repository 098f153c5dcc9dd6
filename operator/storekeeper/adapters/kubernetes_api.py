"""The Kubernetes API as JSON over HTTP: one pooled client, one way to fail, a deadline on every call.

Below `adapters.kubernetes` (which speaks in manifests) and `handlers.lease`. Generic by kind: a path is computed from
API_VERSIONS, so there is no class per kind. Bodies are never logged: some are Secrets.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import structlog

from storekeeper.adapters.cluster import ClusterError
from storekeeper.manifests.objects import API_VERSIONS, Manifest

Patience = tuple[float, float]
"""Seconds to wait for a connection, and for each part of an answer."""
PATIENCE: Patience = (5.0, 30.0)
"""Longer than any healthy answer takes, also that of a list."""
PAGE_SIZE = 500
"""Objects a page of a list: bounds the memory of one answer on both sides."""
MESSAGE_CHARS_MAX = 500
"""Of the API server's own words in an error."""

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"

_OTHER_API_VERSIONS = {
    "Event": "events.k8s.io/v1",
    "Lease": "coordination.k8s.io/v1",
}
RETRYABLE_STATUSES = frozenset({0, 408, 409, 429, 500, 502, 503, 504})

CountRequest = Callable[[str, str, int], None]
"""(verb, kind, HTTP status; 0 = no answer)"""

log = structlog.get_logger(__name__)


def plural(kind: str) -> str:
    """The resource's name in paths: StatefulSet → statefulsets, NetworkPolicy → networkpolicies."""
    lower = kind.lower()
    return f"{lower[:-1]}ies" if lower.endswith("y") else f"{lower}s"


def api_version(kind: str) -> str:
    return API_VERSIONS.get(kind) or _OTHER_API_VERSIONS[kind]


def path(kind: str, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
    """`/apis/apps/v1/namespaces/n/statefulsets/s/status`; no namespace: the collection in all namespaces."""
    version = api_version(kind)
    parts = ["/apis" if "/" in version else "/api", version]
    if namespace:
        parts += ["namespaces", quote(namespace, safe="")]
    parts.append(plural(kind))
    parts += [quote(part, safe="") for part in (name, subresource) if part]
    return "/".join(parts)


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer: its status and its JSON body."""

    status: int
    body: Manifest


class KubernetesApi:
    """Thread-safe; `client` is a `kubernetes.client.ApiClient`."""

    def __init__(self, client: Any, *, count: CountRequest | None = None) -> None:
        self._client = client
        self._count = count or (lambda _verb, _kind, _status: None)

    def get(self, kind: str, namespace: str | None, name: str, *, patience: Patience = PATIENCE) -> Manifest | None:
        try:
            return self.request("GET", kind, path(kind, namespace, name), patience=patience).body
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    def pages(self, kind: str, namespace: str | None, query: dict[str, str] | None = None) -> Iterator[list[Manifest]]:
        """Every object of a kind, a page at a time, with the `kind` and `apiVersion` that lists leave out."""
        query = {"limit": str(PAGE_SIZE), **(query or {})}
        while True:
            body = self.request("GET", kind, path(kind, namespace), query=query, verb="LIST").body
            yield [{"apiVersion": api_version(kind), "kind": kind, **item} for item in body.get("items") or []]
            token = (body.get("metadata") or {}).get("continue")
            if not token:
                return
            query = {**query, "continue": token}

    def request(
        self,
        method: str,
        kind: str,
        where: str,
        *,
        query: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
        verb: str = "",
        patience: Patience = PATIENCE,
    ) -> Answer:
        """One call. Raises ClusterError for anything but a 2xx answer; never retries by itself."""
        status = 0
        try:
            response = self._send(method, where, query, body, content_type, patience)
            status = response.status
            text = response.read()
        except Exception as error:
            cause = getattr(error, "reason", None) or error  # urllib3 wraps it
            why = f"{type(cause).__name__}: {cause}"[:MESSAGE_CHARS_MAX]
            raise ClusterError(f"{method} {where}: no answer from the API server ({why})") from error
        finally:
            self._count(verb or method, kind, status)
            log.debug("api request", method=method, path=where, status=status)
        if not 200 <= status < 300:
            raise _error(method, where, status, text, response.getheader("Retry-After"))
        return Answer(status, json.loads(text) if text else {})

    def _send(
        self,
        method: str,
        where: str,
        query: dict[str, str] | None,
        body: Any,
        content_type: str,
        patience: Patience,
    ) -> Any:
        url = self._client.configuration.host.rstrip("/") + where + ("?" + urlencode(query) if query else "")
        headers = {"Accept": JSON, "User-Agent": "storekeeper"}
        if body is not None:
            headers["Content-Type"] = content_type
        self._client.update_params_for_auth(headers, [], ["BearerToken"], where, method, None)
        return self._client.call_api(method, url, header_params=headers, body=body, _request_timeout=patience)

    def close(self) -> None:
        self._client.close()


def connect(*, pool_size: int, count: CountRequest | None = None) -> KubernetesApi:
    """From inside a pod: its service account; elsewhere: the current context of the kubeconfig.

    Raises ClusterError that says what was looked for.
    """
    import kubernetes.client
    import kubernetes.config
    import urllib3

    configuration = kubernetes.client.Configuration()
    try:
        try:
            kubernetes.config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except kubernetes.config.ConfigException:
            kubernetes.config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except kubernetes.config.ConfigException as error:
        raise ClusterError(
            f"not in a pod, and no usable kubeconfig: {error}; set KUBECONFIG", retryable=False
        ) from error
    configuration.connection_pool_maxsize = pool_size
    # Retrying belongs to the queue, which backs off per object and lets the others go on; only a connection that
    # could not be opened is tried again at once.
    configuration.retries = urllib3.Retry(
        total=1, connect=1, read=0, redirect=0, status=0, other=0, respect_retry_after_header=False
    )
    return KubernetesApi(kubernetes.client.ApiClient(configuration), count=count)


def _error(method: str, where: str, status: int, text: bytes, retry_after: str | None) -> ClusterError:
    """From a `Status` document (or whatever a proxy in between said) to a ClusterError."""
    try:
        document = json.loads(text)
        reason, message = document.get("reason", ""), document.get("message", "")
        causes = {cause.get("reason", "") for cause in (document.get("details") or {}).get("causes") or []}
    except (ValueError, AttributeError):
        reason, message, causes = "", text.decode(errors="replace"), set()
    code = "NamespaceTerminating" if "NamespaceTerminating" in causes else reason or f"HTTP{status}"
    return ClusterError(
        f"{method} {where}: {status} {code}: {message[:MESSAGE_CHARS_MAX]}",
        status=status,
        code=code,
        retryable=status in RETRYABLE_STATUSES,
        retry_after=_seconds(retry_after),
    )


def _seconds(header: str | None) -> float | None:
    try:
        return None if header is None else max(0.0, float(header))
    except ValueError:  # an HTTP date: no API server sends one
        return None
