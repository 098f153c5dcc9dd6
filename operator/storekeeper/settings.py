"""The operator's own settings: environment variables with the prefix STOREKEEPER_, read once at the start.

Nothing secret is among them: the signing key is a file, the API's credentials are the pod's service account.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class PullPolicy(StrEnum):
    """When the kubelet pulls the stores' image."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class LogLevel(StrEnum):
    """What is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """JSON lines for machines, or lines for a person at a terminal."""

    JSON = "json"
    CONSOLE = "console"


class Settings(BaseSettings):
    """One variable a field: `cluster_wide` is STOREKEEPER_CLUSTER_WIDE."""

    model_config = SettingsConfigDict(env_prefix="STOREKEEPER_", frozen=True, extra="ignore")

    namespace: str = Field("default", min_length=1, description="The operator's own namespace; its Lease is there.")
    cluster_wide: bool = Field(False, description="Serve every namespace; needs the ClusterRole.")
    namespaces: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Comma-separated namespaces to serve; empty: the operator's own."
    )
    image: str = Field("storekeeper:latest", min_length=1, description="Image of the stores and their jobs.")
    image_pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    signing_key_file: Path = Field(
        Path("/run/secrets/storekeeper/signing-key/private.pem"), description="Ed25519 private key in PEM."
    )
    cluster_domain: str = Field("cluster.local", description="DNS suffix of Services.")
    runtime_ca_file: Path | None = Field(None, description="CA bundle for stores that serve TLS.")
    lease_name: str = Field("storekeeper", min_length=1, description="Name of the Lease by which one replica leads.")
    concurrency: int = Field(8, ge=1, le=128, description="Reconciles at the same time.")
    resync_seconds: float = Field(300.0, ge=10, description="Every resource is reconciled at least this often.")
    sweep_seconds: float = Field(1800.0, ge=60, description="How often whole lists are compared with the watches.")
    http_host: str = Field("0.0.0.0", description="Where /healthz, /readyz and /metrics listen.")  # a pod's own
    http_port: int = Field(8081, ge=0, le=65_535)
    log_level: LogLevel = LogLevel.INFO
    log_format: LogFormat = LogFormat.JSON

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_scope(self) -> "Settings":
        if self.cluster_wide and self.namespaces:
            raise ValueError("cluster_wide and namespaces exclude each other; unset one of them")
        return self

    @property
    def watched_namespaces(self) -> tuple[str | None, ...]:
        """(None,) for the whole cluster."""
        return (None,) if self.cluster_wide else (self.namespaces or (self.namespace,))
