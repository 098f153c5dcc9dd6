"""What every custom resource has: its metadata, and the part of a store's spec that LogStore and RuntimeStore share."""

from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, ClassVar

from pydantic import AliasGenerator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from store_runtime.config.model import Document
from storekeeper.api.group import ObjectRef
from storekeeper.api.pods import PodTemplate, Resources, TlsSpec, Volume

NAME_CHARS_MAX = 36
"""Of a store: the longest name made from it (`<name>-usage-provision-<8 hex>`, with the 63 of a label) must fit."""
NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
"""A store's Service bears its name, so it must be a DNS label that begins with a letter (RFC 1035)."""
REPLICAS_MAX = 100
STORE_ID_PATTERN = r"^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)?$"
"""A store's id is the value of a label."""
IMAGE_CHARS_MAX = 512

IDENTITY_CHANGES = "a store's identity cannot be changed; make a new resource that adopts the store"

StoreId = Annotated[str, StringConstraints(max_length=63, pattern=STORE_ID_PATTERN)]
Image = Annotated[str, StringConstraints(min_length=1, max_length=IMAGE_CHARS_MAX, pattern=r"^[A-Za-z0-9][^\s]*$")]


def _without_nulls(value: Any) -> Any:
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


class Metadata(BaseModel):
    """The part of an object's metadata that decisions look at; the rest is ignored."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, alias_generator=AliasGenerator(alias=to_camel), populate_by_name=True
    )

    name: str = Field(min_length=1, max_length=253)
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: tuple[str, ...] = ()
    creation_timestamp: str = ""
    deletion_timestamp: str = ""

    @property
    def is_deleting(self) -> bool:
        return bool(self.deletion_timestamp)


class Resource(BaseModel):
    """A custom resource: what is wanted (`spec`) and, as plain data, what was last said of it (`status`)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: ClassVar[str]
    plural: ClassVar[str]
    short_names: ClassVar[tuple[str, ...]]

    metadata: Annotated[Metadata, BeforeValidator(_without_nulls)]
    spec: Document
    status: dict[str, Any] = {}

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef(self.kind, self.metadata.namespace, self.metadata.name)


class DeletionPolicy(StrEnum):
    """What becomes of the data when its resource is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class StoreSpec(Document):
    """What LogStore and RuntimeStore have in common."""

    replicas: int = Field(1, ge=1, le=REPLICAS_MAX, description="Serving pods.")
    paused: bool = Field(
        False, description="Leave everything as it is: the store keeps running, changes of this spec wait."
    )
    deletion_policy: DeletionPolicy = Field(
        DeletionPolicy.RETAIN,
        description="Retain: the data stays and is marked released, for a resource that adopts it. Delete: it goes.",
    )
    adopt_store_id: StoreId = Field(
        "",
        alias="adoptStoreID",
        description="Take over the store of this id, which an earlier resource released. Cannot be changed.",
    )
    image: Image | None = Field(None, description="Container image of the store; by default the operator's choice.")
    resources: Resources = Field(Resources(), description="CPU and memory of the store's pods.")
    pod_template: PodTemplate = Field(PodTemplate(), description="Labels, scheduling and security of its pods.")
    tls: TlsSpec | None = Field(None, description="Serve HTTPS with this certificate; by default HTTP.")


class StoreResource(Resource):
    """A LogStore or a RuntimeStore: a store with a backend and pods of its own."""

    spec: StoreSpec

    @property
    def store_id(self) -> str:
        """The id in the data: adopted, or the resource's own uid."""
        return self.spec.adopt_store_id or self.metadata.uid

    @cached_property
    def fingerprint(self) -> str:
        """Names the place of the data (see store_runtime.config.backends.fingerprint)."""
        raise NotImplementedError

    @property
    def backend_type(self) -> str:
        raise NotImplementedError

    @property
    def data_volume(self) -> Volume | None:
        """The volume of the backend, if it is on one; its size is resolved."""
        raise NotImplementedError

    @property
    def entries_volume(self) -> Volume | None:
        """The volume of the Streams it hosts, if it does; its size is resolved."""
        return None

    @property
    def credentials_secret(self) -> str:
        """Name of the Secret with the backend's credentials; empty if it needs none."""
        return ""

    @property
    def data_is_on_volume(self) -> bool:
        return self.data_volume is not None

    @property
    def has_volume(self) -> bool:
        return self.data_is_on_volume or self.entries_volume is not None

    @property
    def is_persistent(self) -> bool:
        """Whether its data outlives its pods."""
        return True

    @property
    def volume_identity(self) -> dict[str, object]:
        """What a fingerprint says of data on the store's own volume."""
        return {"volume": f"{self.kind}/{self.metadata.namespace}/{self.metadata.name}"}
