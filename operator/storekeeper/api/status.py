"""The form of `status`, for the CRDs: what the plan writes, and what people and tools may rely on.

Nothing in it changes by the minute. Strings are no enums here: an operator of another version may say more.
"""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from store_runtime.config.model import Document

DEFAULT: dict[str, Any] = {"observedGeneration": -1}
"""A resource that the operator has not seen yet is in progress, not current, for tools that follow kstatus."""

Word = Annotated[str, StringConstraints(max_length=316)]


class ConditionStatus(Document):
    """A condition, in the form of every Kubernetes API."""

    type: Word = Field(description="Ready, Reconciling, Stalled or Warning.")
    status: Annotated[str, StringConstraints(max_length=16)] = Field(description="True, False or Unknown.")
    reason: Annotated[str, StringConstraints(max_length=1024)] = Field(description="Why, in one CamelCase word.")
    message: Annotated[str, StringConstraints(max_length=32_768)] = Field(description="Why, in a sentence.")
    last_transition_time: str = Field(
        description="When the status last changed.", json_schema_extra={"format": "date-time", "maxLength": 64}
    )
    observed_generation: int | None = Field(None, description="The generation of the spec that this is said of.")


class ResourceStatus(Document):
    """What the operator last saw."""

    observed_generation: int = Field(-1, description="The generation of the spec that this status is of.")
    conditions: tuple[ConditionStatus, ...] = Field(
        (),
        max_length=16,
        description="Ready, Reconciling and Stalled, as kstatus reads them; Warning where something wants a person.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    phase: Word | None = Field(None, description="All of it in one CamelCase word.")


class ActiveBackend(Document):
    """The place of the data that the running store serves. A cache: the truth is in the data."""

    type: Word | None = Field(None, description="Kind of database.")
    fingerprint: Word | None = Field(None, description="Names the place: host, port and database, or volume.")
    schema_version: Word | None = Field(None, description="Version of the data's schema.")
    store_id: Word | None = Field(
        None, alias="storeID", description="Id of the store, to be adopted by another resource after a Retain."
    )
    epoch: int | None = Field(None, description="Grows with every move of the store.")


class Binding(Document):
    """How an application reaches the store (https://servicebinding.io)."""

    name: Word | None = Field(
        None, description="Secret with type, provider, uri, host, port and token, for an application to mount."
    )
    revision: Word | None = Field(None, description="Of what the Secret says, besides its token.")


class StoreStatusForm(ResourceStatus):
    """What the operator last saw of the store."""

    active_backend: ActiveBackend | None = Field(None, description="What the running store serves.")
    binding: Binding | None = Field(None, description="How an application reaches the store.")


class StreamStatusForm(ResourceStatus):
    """What the operator last saw of the stream."""
