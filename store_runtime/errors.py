"""Every error a store raises, as a closed set of codes that callers act on (never on messages).

    StoreError
    ├── InvalidInput           400  the request cannot be understood; names the field and the fix
    ├── Unauthorized           401
    ├── Forbidden              403
    ├── NotFound               404
    ├── Conflict               409  e.g. ManagedByResource, AlreadyExists
    ├── TooLarge               413  a limit that has a name and a unit
    ├── Overloaded             429  back-pressure; `retry_after` says when to come back
    ├── Fenced                 503  the store is being switched: retry, the write was not done
    ├── BackendUnreachable     503  the database does not answer; the write was not done
    ├── OutOfSpace             507
    ├── OwnedByAnother         409  `_store_meta` names another store: never retried by itself
    ├── SchemaTooNew           500  written by a newer version: this one refuses to touch it
    └── Corrupt                500  damaged data was found and put aside

The original error of a driver is kept as `__cause__`; its text never reaches a client.
"""

from typing import ClassVar


class StoreError(Exception):
    """Base of all: `code` is stable (CamelCase), `status` its HTTP status, `field` names what was wrong."""

    code: ClassVar[str] = "InternalError"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, field: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.specific_code = code or self.code


class InvalidInput(StoreError):
    """The request cannot be understood."""

    code, status = "InvalidInput", 400


class Unauthorized(StoreError):
    """No token, or one that this store does not accept."""

    code, status = "Unauthorized", 401


class Forbidden(StoreError):
    """The token lacks the scope."""

    code, status = "Forbidden", 403


class NotFound(StoreError):
    """There is no such item."""

    code, status = "NotFound", 404


class Conflict(StoreError):
    """The item is there already, or somebody else manages it."""

    code, status = "Conflict", 409


class OwnedByAnother(Conflict):
    """The database carries another store's identity."""

    code = "OwnedByAnother"


class TooLarge(StoreError):
    """More than a named limit."""

    code, status = "TooLarge", 413


class Overloaded(StoreError):
    """Back-pressure: nothing was stored, come back after `retry_after` seconds."""

    code, status, retryable = "Overloaded", 429, True

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Fenced(StoreError):
    """The store does not accept writes at this moment: its role is not active, or its epoch moved on."""

    code, status, retryable = "Fenced", 503, True


class BackendUnreachable(StoreError):
    """The database does not answer."""

    code, status, retryable = "BackendUnreachable", 503, True


class OutOfSpace(StoreError):
    """The disk is full: writers wait, readers go on."""

    code, status, retryable = "OutOfSpace", 507, True


class SchemaTooNew(StoreError):
    """The data was written by a newer version."""

    code = "SchemaTooNew"


class Corrupt(StoreError):
    """Damaged data was found and put aside."""

    code = "Corrupt"
