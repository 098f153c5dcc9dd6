"""When the two token Secrets of a store are made.

At first, when what they say changed, when a person rotates them, and when a pod waits for one that was lost. Never
periodically: a Secret cannot be read, so the status remembers its revision.
"""

import hashlib
import json
from collections.abc import Iterator

from store_runtime.config.wire import Scope
from storekeeper.manifests.objects import ANNOTATION_ROTATE, Manifest
from storekeeper.plan.situation import Situation
from storekeeper.plan.steps import IssueToken


def revision(situation: Situation) -> str:
    """8 hex digits of what the binding says but the token, and of the rotation annotation.

    Labels are no part of it: another version of the operator must not take a token from an application.
    """
    rotate = situation.resource.metadata.annotations.get(ANNOTATION_ROTATE, "")
    secret = situation.desired.binding
    said = json.dumps([secret["metadata"]["name"], secret.get("stringData", {}), rotate], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:8]


def token_steps(situation: Situation) -> Iterator[IssueToken]:
    known = situation.known_binding_revision
    if known == revision(situation):
        yield from _missing(situation)
        return
    reason = "new store" if not known else "its content or the rotation annotation changed"
    for secret, scopes in _secrets(situation):
        yield _issue(situation, secret, scopes, reason, replace=bool(known))


def _missing(situation: Situation) -> Iterator[IssueToken]:
    """A pod's own event says that a Secret of ours is gone; or retention begins, and its token was never needed."""
    said = " ".join(trouble.message for trouble in situation.observed.troubles)
    begins = situation.desired.retention is not None and situation.live(situation.desired.retention) is None
    for secret, scopes in _secrets(situation):
        name = secret["metadata"]["name"]
        if f'"{name}" not found' in said or (begins and secret is situation.desired.jobs_token):
            yield _issue(situation, secret, scopes, f"{name} is missed", replace=False)


def _secrets(situation: Situation) -> Iterator[tuple[Manifest, tuple[Scope, ...]]]:
    yield situation.desired.binding, (Scope.READ, Scope.WRITE)
    if situation.desired.jobs_token is not None:
        yield situation.desired.jobs_token, (Scope.ADMIN,)


def _issue(
    situation: Situation, secret: Manifest, scopes: tuple[Scope, ...], reason: str, *, replace: bool
) -> IssueToken:
    return IssueToken(
        secret=secret,
        audience=situation.audience,
        subject=secret["metadata"]["name"],
        scopes=scopes,
        reason=reason,
        replace=replace,
    )
