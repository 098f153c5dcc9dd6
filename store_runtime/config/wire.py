"""Documents that the operator and the runtime exchange: job reports, a store's status, the declared streams."""

from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from store_runtime.config.model import Document
from store_runtime.config.quantities import Duration, Size
from store_runtime.config.retention import LogRetention

REPORT_BYTES_MAX = 4096
"""Kubernetes keeps at most 4096 bytes of a termination message."""

EPOCH_MAX = 2**31 - 1
"""What every backend's integers hold; a store is switched a few times in its life."""

SIGNING_ALGORITHM = "EdDSA"
ISSUER = "storekeeper"


class Role(StrEnum):
    """What a backend's data is at this moment, as `_store_meta` says."""

    ACTIVE = "active"
    FENCED = "fenced"
    TARGET = "target"
    RETIRED = "retired"
    RELEASED = "released"


class Scope(StrEnum):
    """What a token allows; `admin` includes the others."""

    WRITE = "write"
    READ = "read"
    ADMIN = "admin"


class JobName(StrEnum):
    """The runtime's jobs, as subcommands of `store-runtime`."""

    PROVISION = "provision"
    MIGRATE = "migrate"
    RETAIN = "retain"
    RELEASE = "release"
    DESTROY = "destroy"
    SERVE = "serve"  # reports only why it could not start


class JobReport(Document):
    """What a job leaves behind: the pod's termination message, or a file. At most REPORT_BYTES_MAX as JSON."""

    job: JobName
    ok: bool
    code: str = Field("", description="A code of store_runtime.errors, empty when ok.")
    message: str = ""
    store_id: str = ""
    schema_version: str = ""
    role: Role | None = None
    epoch: int | None = None


class BackendStatus(Document):
    """A backend as its runtime sees it now."""

    type: str
    reachable: bool
    code: str = ""
    message: str = ""
    schema_version: str = ""
    role: Role | None = None
    epoch: int | None = None


class Warned(Document):
    """Something that wants a person: a CamelCase reason and a sentence."""

    reason: str
    message: str


class StoreStatus(Document):
    """GET /v1/status."""

    kind: str
    namespace: str
    name: str
    store_id: str
    version: str
    started_at: datetime
    backend: BackendStatus
    warnings: tuple[Warned, ...] = ()


class DeclaredStream(Document):
    """A stream that a Stream resource declares."""

    name: str = Field(min_length=1, max_length=255)
    max_age: Duration = timedelta()
    max_size: Size = 0
    indexed_fields: tuple[str, ...] = ()


class StreamSync(Document):
    """PUT /v1/admin/streams: the whole set of declared streams; what is missing from it is declared no longer.

    `delete` names streams whose data goes too (their resource was deleted with deletionPolicy Delete).
    """

    streams: tuple[DeclaredStream, ...] = ()
    delete: tuple[str, ...] = ()


class StreamOutcome(Document):
    """What became of one stream of a sync; `code` is empty when it is as declared."""

    name: str
    code: str = ""
    message: str = ""


class StreamSyncResult(Document):
    """The reply to a sync, one outcome a stream named in it."""

    outcomes: tuple[StreamOutcome, ...] = ()


class RetainRequest(Document):
    """POST /v1/admin/retain: apply the retention of request logs now (streams know their own)."""

    retention: LogRetention = LogRetention()
    dry_run: bool = False


class RetainResult(Document):
    """What went (or would go, in a dry run)."""

    expired: int = 0
    evicted: int = 0
    payloads: int = 0
    segments: int = 0


class RoleChange(Document):
    """POST /v1/admin/fence and /v1/admin/activate: a compare-and-set of `_store_meta`.

    Nothing changes, and 409 RoleChanged says so, unless the role (and the epoch, if given) is as expected.
    """

    expected_role: Role
    role: Role
    expected_epoch: int | None = Field(None, ge=1, le=EPOCH_MAX)
    epoch: int | None = Field(None, ge=1, le=EPOCH_MAX, description="The epoch from then on; it never goes down.")


class CaptureChange(Document):
    """POST /v1/admin/capture: dirty marks on or off, only in the role that is expected."""

    expected_role: Role
    capture: bool


class MetaDocument(Document):
    """`_store_meta` after a change."""

    store_id: str
    role: Role
    epoch: int
    capture: bool
    schema_version: str = ""
    successor: str = ""
