"""One store's desired children beside what is observed: everything the checks and the plan look at."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from store_runtime.config.runtime import StoreIdentity
from store_runtime.config.wire import JobName, JobReport
from storekeeper.api.resource import StoreResource
from storekeeper.manifests.blueprint import Blueprint
from storekeeper.manifests.claims import beside
from storekeeper.manifests.objects import ANNOTATION_FINGERPRINT, LABEL_JOB, Manifest, ObjectRef, ref_of
from storekeeper.manifests.place import Place
from storekeeper.plan.desired import Desired, desire
from storekeeper.plan.observed import Observed
from storekeeper.plan.workloads import JobState, Rollout, job_state, rollout_of

WORKLOAD_KINDS = frozenset({"StatefulSet", "Deployment"})
KEPT_KINDS = frozenset({"PersistentVolumeClaim", "Job"})
"""Claims are data; Jobs have their own rule (superseded_jobs)."""


@dataclass(frozen=True)
class Situation:
    """Desired beside observed. Nothing here decides; it only answers questions."""

    resource: StoreResource
    observed: Observed
    identity: StoreIdentity
    fingerprint: str
    epoch: int
    desired: Desired

    # -- the store that runs ------------------------------------------------------------------------------------------

    @cached_property
    def workload(self) -> Manifest | None:
        """The live StatefulSet or Deployment; of another kind than desired if the spec was just changed."""
        live = self.live(self.desired.workload)
        if live is not None:
            return live
        return next((m for ref, m in self.observed.children.items() if ref.kind in WORKLOAD_KINDS), None)

    @cached_property
    def rollout(self) -> Rollout:
        return rollout_of(self.workload)

    @property
    def active_backend(self) -> dict[str, Any]:
        """What the status says is active; a cache, used only where no live object tells."""
        return dict((self.resource.status or {}).get("activeBackend") or {})

    @property
    def active_fingerprint(self) -> str:
        """Of the place where the data is: the workload's annotation, else the status; empty before the first start."""
        live = self.workload
        if live is not None:
            return str(live["metadata"].get("annotations", {}).get(ANNOTATION_FINGERPRINT, ""))
        return str(self.active_backend.get("fingerprint", ""))

    @property
    def active_type(self) -> str:
        return str(self.active_backend.get("type", ""))

    @property
    def known_binding_revision(self) -> str:
        """The revision of the token Secrets that the status remembers; empty: never made."""
        return str(((self.resource.status or {}).get("binding") or {}).get("revision", ""))

    @property
    def audience(self) -> str:
        metadata = self.resource.metadata
        return f"{self.resource.kind.lower()}/{metadata.namespace}/{metadata.name}"

    @property
    def adopts(self) -> bool:
        return self.identity.id != self.identity.owner

    @property
    def has_started(self) -> bool:
        return self.workload is not None or bool(self.active_fingerprint)

    @property
    def may_hold_data(self) -> bool:
        """Whether anything was ever provisioned, as far as can be told."""
        provisioned = job_state(self.job(JobName.PROVISION)) is JobState.SUCCEEDED
        return self.has_started or provisioned or bool(self.claims())

    # -- children -----------------------------------------------------------------------------------------------------

    def live(self, manifest: Manifest | None) -> Manifest | None:
        """The live object that a desired one stands for."""
        return None if manifest is None else self.observed.children.get(ref_of(manifest))

    def live_of_kind(self, kind: str) -> Iterator[tuple[ObjectRef, Manifest]]:
        return ((ref, live) for ref, live in self.observed.children.items() if ref.kind == kind)

    def claims(self) -> tuple[Manifest, ...]:
        """The live claims that stand where ours belong."""
        return tuple(live for claim in self.desired.claims if (live := self.live(claim)) is not None)

    @property
    def missing_claims(self) -> tuple[str, ...]:
        """Names of claims that are wanted and not there."""
        return tuple(claim["metadata"]["name"] for claim in self.desired.claims if self.live(claim) is None)

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def job(self, name: JobName) -> Manifest | None:
        """The live Job of today's config and image; an older one does not count."""
        return self.live(self.desired.jobs.get(name))

    def jobs(self) -> tuple[Manifest, ...]:
        return tuple(live for job in self.desired.jobs.values() if (live := self.live(job)) is not None)

    def job_pending(self, name: JobName) -> bool:
        """Wanted (as a Job of its own), and not done."""
        return name in self.desired.jobs and job_state(self.job(name)) is not JobState.SUCCEEDED

    def unwanted_children(self) -> Iterator[ObjectRef]:
        """Ours, but not desired (any more). Claims never: data is only deleted by its owner's deletion."""
        wanted = {ref_of(manifest) for manifest in self.desired.all()}
        for ref, live in self.observed.children.items():
            if ref in wanted or ref.kind in KEPT_KINDS or "deletionTimestamp" in live["metadata"]:
                continue
            if any(
                owner.get("uid") == self.resource.metadata.uid for owner in live["metadata"].get("ownerReferences", [])
            ):
                yield ref

    def superseded_jobs(self) -> Iterator[ObjectRef]:
        """Jobs of an older config or image."""
        current = {ref_of(job) for job in self.desired.jobs.values()}
        for ref, live in self.live_of_kind("Job"):
            if LABEL_JOB in live["metadata"].get("labels", {}) and ref not in current and not _of_cron_job(live):
                yield ref

    def failed_reports(self) -> Iterator[JobReport]:
        """Newest reports of jobs that have not succeeded since."""
        for name in (JobName.PROVISION, JobName.MIGRATE):
            report = self.observed.reports.get(name)
            if report is not None and not report.ok:
                yield report


def situate(resource: StoreResource, observed: Observed, place: Place) -> Situation:
    """Draw the children of this resource in this place, and put them beside what is there."""
    status = resource.status or {}
    epoch = int((status.get("activeBackend") or {}).get("epoch", 1))
    blueprint = Blueprint(resource, place, epoch)
    desired = desire(blueprint)
    sized = tuple(_sized(claim, observed.children.get(ref_of(claim))) for claim in desired.claims)
    desired = replace(desired, claims=sized)
    return Situation(resource, observed, blueprint.identity, resource.fingerprint, epoch, desired)


def _sized(claim: Manifest, live: Manifest | None) -> Manifest:
    return claim if live is None else beside(claim, live)


def _of_cron_job(job: Manifest) -> bool:
    return any(owner.get("kind") == "CronJob" for owner in job["metadata"].get("ownerReferences", []))
