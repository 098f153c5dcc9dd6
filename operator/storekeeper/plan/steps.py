"""What can be done about a difference: small values that `execute` carries out, in order, each idempotent."""

from dataclasses import dataclass

from store_runtime.config.wire import Scope, StreamSync, StreamSyncResult
from storekeeper.manifests.objects import Manifest, ObjectRef


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply with our field manager. Never a Secret."""

    manifest: Manifest
    reason: str


@dataclass(frozen=True, slots=True)
class Create:
    """POST; an object that is there already is left alone (Jobs, immutable ConfigMaps, PersistentVolumeClaims)."""

    manifest: Manifest
    reason: str


@dataclass(frozen=True, slots=True)
class IssueToken:
    """POST a Secret from a template, with a newly signed token in `stringData[token_key]`.

    `replace` deletes it first (rotation). The token has no expiry: it is revoked by rotating the signing key.
    """

    secret: Manifest
    audience: str
    subject: str
    scopes: tuple[Scope, ...]
    reason: str
    token_key: str = "token"  # noqa: S105 — the name of a key, not a token
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete by name, with its dependents, in the background; absent is fine."""

    ref: ObjectRef
    reason: str


@dataclass(frozen=True, slots=True)
class SetFinalizer:
    """Put our finalizer on the resource, or take it off; other finalizers are left alone."""

    ref: ObjectRef
    present: bool
    reason: str


@dataclass(frozen=True, slots=True)
class SyncStreams:
    """Send the whole set of declared streams to their LogStore, in one call."""

    sync: StreamSync
    reason: str


Step = Apply | Create | IssueToken | Delete | SetFinalizer | SyncStreams


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a step; `error` is empty when it was done. `code` is an HTTP status or a code of ours."""

    step: Step
    changed: bool = False
    error: str = ""
    code: str = ""
    retryable: bool = True
    retry_after: float | None = None
    """Seconds that the refusing server asked to be left alone."""
    synced: StreamSyncResult | None = None
    """The runtime's reply to a SyncStreams."""
