"""From the cluster and the runtime to one store's `Observed`. Reads only; the same code for both clusters."""

from datetime import datetime

from storekeeper.adapters.cluster import ClusterError, ClusterReader, by_ref
from storekeeper.adapters.runtime_api import RuntimeApi, RuntimeUnavailable
from storekeeper.api.resource import StoreResource
from storekeeper.manifests.objects import (
    CHILD_KINDS,
    LABEL_JOB,
    LABEL_OWNER_KIND,
    LABEL_OWNER_NAME,
    Manifest,
    ObjectRef,
)
from storekeeper.observe import pods as pod_words
from storekeeper.plan.observed import Observed, PodTrouble, RuntimeView

WARNINGS_PER_POD_MAX = 3
"""Of a pod's Warning events: the newest say what is wrong now."""
PODS_ASKED_MAX = 5
"""Pods of one store whose Events are listed in one pass; a store that cannot start has few."""


def observe_store(
    reader: ClusterReader, runtime_api: RuntimeApi, resource: StoreResource, *, url: str, now: datetime
) -> Observed:
    """Everything the plan of a LogStore or RuntimeStore decides on. `url` is its runtime's base URL.

    Raises ClusterError if the cluster cannot be asked; a runtime that does not answer is an observation.
    """
    ref, deleting = resource.ref, resource.metadata.deletion_timestamp
    labels = {LABEL_OWNER_KIND: ref.kind, LABEL_OWNER_NAME: ref.name}
    children = by_ref(child for kind in CHILD_KINDS for child in reader.find(kind, ref.namespace, labels))
    pods = reader.find("Pod", ref.namespace, labels)
    found, malformed = pod_words.reports(pods)
    return Observed(
        children=children,
        reports={name: reported.report for name, reported in found.items()},
        report_ages={name: (now - reported.finished).total_seconds() for name, reported in found.items()},
        pods=tuple(pod["metadata"]["name"] for pod in pods if _is_own(pod)),
        troubles=(*malformed, *_troubles(reader, pods)),
        runtime=runtime_view(runtime_api, ref, url) if serves(pods) else RuntimeView(),
        namespace_terminating=bool(deleting) and reader.namespace_terminating(ref.namespace),
        deleting_seconds=(now - datetime.fromisoformat(deleting)).total_seconds() if deleting else 0.0,
    )


def serves(pods: list[Manifest]) -> bool:
    """Whether a serving pod is Ready: only then does the Service lead anywhere, and asking is no waiting."""
    live = (pod for pod in pods if _is_own(pod) and not pod["metadata"].get("deletionTimestamp"))
    return any(_condition(pod, "Ready") for pod in live)


def observe_runtime(reader: ClusterReader, runtime_api: RuntimeApi, ref: ObjectRef, url: str) -> RuntimeView:
    """Only the runtime's own word, of a store whose children do not matter now."""
    pods = reader.find("Pod", ref.namespace, {LABEL_OWNER_KIND: ref.kind, LABEL_OWNER_NAME: ref.name})
    return runtime_view(runtime_api, ref, url) if serves(pods) else RuntimeView()


def runtime_view(runtime_api: RuntimeApi, ref: ObjectRef, url: str) -> RuntimeView:
    try:
        return RuntimeView(status=runtime_api.status(url, audience(ref)))
    except RuntimeUnavailable as error:
        return RuntimeView(error=str(error))


def audience(ref: ObjectRef) -> str:
    """The `aud` of every token of a store."""
    return f"{ref.kind.lower()}/{ref.namespace}/{ref.name}"


def _troubles(reader: ClusterReader, pods: list[Manifest]) -> list[PodTrouble]:
    found = [trouble for pod in pods for trouble in pod_words.troubles(pod)]
    for pod in [pod for pod in pods if pod_words.is_starting(pod)][:PODS_ASKED_MAX]:
        namespace, name = pod["metadata"].get("namespace", ""), pod["metadata"]["name"]
        try:
            warnings = reader.pod_warnings(namespace, name)
        except ClusterError as error:
            warnings = [("EventsUnavailable", str(error))]
        found += [pod_words.trouble(name, reason, said) for reason, said in warnings[:WARNINGS_PER_POD_MAX]]
    return found


def _is_own(pod: Manifest) -> bool:
    """A pod of the store itself, not of one of its jobs."""
    return LABEL_JOB not in (pod["metadata"].get("labels") or {})


def _condition(pod: Manifest, kind: str) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)
