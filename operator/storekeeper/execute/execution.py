"""Carries out a plan's steps in order, against any cluster; each step has its outcome, and nothing is raised.

A later step may depend on any earlier one (pods on what they mount, the workload on the migration), so the first
failure ends the run; only a Delete that failed does not: nothing in the same plan waits for an absence.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from storekeeper.adapters.cluster import ClusterError, ClusterWriter
from storekeeper.adapters.runtime_api import RuntimeApi, RuntimeUnavailable
from storekeeper.execute.tokens import Signer
from storekeeper.manifests.objects import FINALIZER, Manifest, ref_of
from storekeeper.plan.steps import Apply, Create, Delete, IssueToken, Outcome, SetFinalizer, Step, SyncStreams

NOT_TRIED = "NotTried"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """The runtime that a SyncStreams is for."""

    url: str
    audience: str


class Executor:
    """Thread-safe: it holds no state of its own."""

    def __init__(self, cluster: ClusterWriter, runtime_api: RuntimeApi, signer: Signer) -> None:
        self._cluster = cluster
        self._runtime_api = runtime_api
        self._signer = signer

    def execute(self, steps: Iterable[Step], target: Target) -> tuple[Outcome, ...]:
        """One outcome a step, in order; after a failure that others depend on, the rest is NotTried."""
        outcomes: list[Outcome] = []
        failed: Outcome | None = None
        for step in steps:
            if failed is not None:
                error = f"not tried, because an earlier step failed: {failed.error}"
                outcomes.append(Outcome(step, error=error, code=NOT_TRIED, retryable=failed.retryable))
                continue
            outcome = self._outcome(step, target)
            outcomes.append(outcome)
            if outcome.error and not isinstance(step, Delete):
                failed = outcome
        return tuple(outcomes)

    def _outcome(self, step: Step, target: Target) -> Outcome:
        try:
            outcome = self._carry_out(step, target)
        except ClusterError as error:
            code = error.code or str(error.status)
            outcome = Outcome(
                step, error=str(error), code=code, retryable=error.retryable, retry_after=error.retry_after
            )
        except RuntimeUnavailable as error:
            outcome = Outcome(step, error=str(error), code=error.code, retryable=error.retryable)
        _tell(outcome)
        return outcome

    def _carry_out(self, step: Step, target: Target) -> Outcome:
        match step:
            case Apply(manifest=manifest):
                return Outcome(step, changed=self._cluster.apply(manifest))
            case Create(manifest=manifest):
                return Outcome(step, changed=self._cluster.create(manifest))
            case Delete(ref=ref):
                return Outcome(step, changed=self._cluster.delete(ref))
            case SetFinalizer(ref=ref, present=present):
                return Outcome(step, changed=self._cluster.set_finalizer(ref, FINALIZER, present))
            case IssueToken():
                return Outcome(step, changed=self._issue(step))
            case SyncStreams(sync=sync):
                result = self._runtime_api.sync_streams(target.url, target.audience, sync)
                return Outcome(step, changed=True, synced=result)

    def _issue(self, step: IssueToken) -> bool:
        if step.replace:
            self._cluster.delete(ref_of(step.secret))
        token = self._signer.token(step.audience, step.subject, step.scopes)
        return self._cluster.create(_with_token(step.secret, step.token_key, token))


def _with_token(secret: Manifest, key: str, token: str) -> Manifest:
    return {**secret, "stringData": {**secret.get("stringData", {}), key: token}}


def _tell(outcome: Outcome) -> None:
    """One line a step that did something; manifests are never logged, some become Secrets."""
    step = outcome.step
    match step:
        case Apply(manifest=manifest) | Create(manifest=manifest) | IssueToken(secret=manifest):
            what = str(ref_of(manifest))
        case Delete(ref=ref) | SetFinalizer(ref=ref):
            what = str(ref)
        case SyncStreams(sync=sync):
            what = f"{len(sync.streams)} streams"
    if outcome.error:
        log.warning("step failed", step=type(step).__name__, child=what, why=step.reason, error=outcome.error)
    elif outcome.changed:
        log.info("step done", step=type(step).__name__, child=what, why=step.reason)
