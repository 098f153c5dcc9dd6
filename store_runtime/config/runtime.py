"""The runtime's configuration: one JSON file, written by the operator, immutable, without secrets.

`load(path)` is the only way in; every error names the file and the field.
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from store_runtime.config.backends import LogBackend, Port, UsageBackend
from store_runtime.config.model import Document
from store_runtime.config.quantities import Duration
from store_runtime.errors import InvalidInput

DEFAULT_WINDOWS = (timedelta(minutes=1), timedelta(hours=1), timedelta(hours=24))


class StoreIdentity(Document):
    """Which store this is, in the data (`id`, `owner`) and for people (`namespace`, `name`)."""

    namespace: str
    name: str
    id: str = Field(description="The store's random id, written into `_store_meta` of its backend.")
    owner: str = Field(description="uid of the resource that owns the data: a second one is refused.")


class Tls(Document):
    """A mounted certificate; both files are watched for renewal."""

    certificate_file: str
    key_file: str


class Server(Document):
    """Where the HTTP API and the metrics listen."""

    host: str = "0.0.0.0"
    port: Port = 8080
    metrics_port: Port = 9090
    tls: Tls | None = None


class Auth(Document):
    """Tokens are JWTs (EdDSA) signed by the operator; the runtime only has the public halves."""

    audience: str = Field(description="`<kind>/<namespace>/<name>`, the `aud` of every accepted token.")
    public_keys: tuple[str, ...] = Field(min_length=1, description="PEM; several while a key is being rotated.")


class Entries(Document):
    """The entry engine that hosts the Streams of a LogStore."""

    directory: str
    auto_create: bool = True


class Cache(Document):
    """The response cache of a RuntimeStore."""

    enabled: bool = True
    ttl: Duration = timedelta(seconds=10)


class _StoreConfig(Document):
    version: Literal[1] = 1
    store: StoreIdentity
    epoch: int = Field(1, ge=1, description="Raised by each switch; data of a later epoch refuses this runtime.")
    server: Server = Server()
    auth: Auth


class LogStoreConfig(_StoreConfig):
    """A store of request logs, and the Streams it hosts."""

    kind: Literal["LogStore"] = "LogStore"
    backend: LogBackend
    entries: Entries | None = None


class RuntimeStoreConfig(_StoreConfig):
    """A store of usage counters and the response cache."""

    kind: Literal["RuntimeStore"] = "RuntimeStore"
    backend: UsageBackend
    windows: tuple[Duration, ...] = DEFAULT_WINDOWS
    cache: Cache = Cache()


RuntimeConfig = Annotated[LogStoreConfig | RuntimeStoreConfig, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[LogStoreConfig | RuntimeStoreConfig] = TypeAdapter(RuntimeConfig)


def load(path: Path) -> LogStoreConfig | RuntimeStoreConfig:
    """Read and validate a config file; raises InvalidInput that names the file and the field."""
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"cannot read the config {path}: {error.strerror}", field="config") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"config {path}: {field}: {first['msg']}", field=field) from error
