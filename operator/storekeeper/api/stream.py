"""Stream: one named destination of log entries inside a LogStore."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from store_runtime.config.model import Document
from store_runtime.config.retention import Retention
from storekeeper.api.cel import immutable, rule, rules
from storekeeper.api.resource import NAME_CHARS_MAX, NAME_PATTERN, DeletionPolicy, Resource

STREAM_NAME_BYTES_MAX = 255
INDEXED_FIELDS_MAX = 64
FIELD_NAME_CHARS_MAX = 255

LOG_STORE_CHANGES = "a stream's entries cannot move to another LogStore; make a new Stream there"
NAME_CHANGES = "a stream cannot be renamed; make a new Stream"
_NAME_TOO_LONG = f"a stream's name has at most {STREAM_NAME_BYTES_MAX} bytes in UTF-8; choose a shorter one"


def _fits(name: str) -> str:
    if len(name.encode()) > STREAM_NAME_BYTES_MAX:
        raise ValueError(_NAME_TOO_LONG)
    return name


def _distinct(fields: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({field for field in fields if fields.count(field) > 1})
    if twice:
        raise ValueError(f"{twice[0]!r} is there twice; remove one")
    return fields


StreamName = Annotated[str, StringConstraints(min_length=1, max_length=STREAM_NAME_BYTES_MAX), AfterValidator(_fits)]
FieldName = Annotated[str, StringConstraints(min_length=1, max_length=FIELD_NAME_CHARS_MAX)]


class LogStoreRef(Document):
    """A LogStore in the Stream's own namespace."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=NAME_CHARS_MAX, pattern=NAME_PATTERN)] = Field(
        description="Name of the LogStore; it must have entries."
    )


class StreamSpec(Document):
    """What a Stream should be."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.logStoreRef.name == oldSelf.logStoreRef.name",
                LOG_STORE_CHANGES,
                ".logStoreRef.name",
            ),
            immutable("name", NAME_CHANGES),
        )
    )

    log_store_ref: LogStoreRef = Field(description="The LogStore that hosts it. Cannot be changed.")
    name: StreamName | None = Field(
        None,
        description="The stream's name, any text. Default: the resource's own name. Cannot be changed.",
        json_schema_extra=rules(rule(f"bytes(self).size() <= {STREAM_NAME_BYTES_MAX}", _NAME_TOO_LONG)),
    )
    retention: Retention = Field(Retention(), description="How long and how much. Default: everything, for ever.")
    indexed_fields: Annotated[tuple[FieldName, ...], AfterValidator(_distinct)] = Field(
        (),
        max_length=INDEXED_FIELDS_MAX,
        description="Fields that are looked up by value without a scan.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    deletion_policy: DeletionPolicy = Field(
        DeletionPolicy.RETAIN,
        description="Retain: the entries stay in the LogStore. Delete: they go with the resource.",
    )


class Stream(Resource):
    """A named destination of log entries inside a LogStore, with limits of its own and indexed fields."""

    kind: ClassVar[str] = "Stream"
    plural: ClassVar[str] = "streams"
    short_names: ClassVar[tuple[str, ...]] = ("stm",)

    spec: StreamSpec

    @property
    def stream_name(self) -> str:
        return self.spec.name or self.metadata.name
