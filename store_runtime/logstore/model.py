"""What callers of a LogStore pass and get, and the limits of it.

Times are aware datetimes; they are stored as microseconds since the epoch in UTC, the same on every backend.
"""

import json
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any
from uuid import uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, field_validator

from store_runtime.errors import InvalidInput, TooLarge

ID_CHARS_MAX = 255
TEXT_CHARS_MAX = 512
"""Of a provider, a model, a key's id: longer ones are payload in the wrong place."""
ERROR_CHARS_MAX = 8_192
METADATA_BYTES_MAX = 65_536
PAYLOAD_BYTES_MAX = 16 * 1024 * 1024
"""A few images in a prompt fit; a video belongs into an object store."""
BATCH_MAX = 10_000
"""Request logs of one call."""
PAGE_DEFAULT = 50
PAGE_MAX = 1_000
COUNT_MAX = 1_000_000_000
"""Tokens and retries: more than any model reads, and sums of billions of request logs still fit 64 bits."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIME_MIN = datetime(1, 1, 2, tzinfo=UTC)
TIME_MAX = datetime(9999, 12, 30, tzinfo=UTC)

NO_NUL = r"^[^\x00]*$"
Id = Annotated[str, StringConstraints(min_length=1, max_length=ID_CHARS_MAX, pattern=NO_NUL)]
Text = Annotated[str, StringConstraints(max_length=TEXT_CHARS_MAX, pattern=NO_NUL)]
Count = Annotated[int, Field(ge=0, le=COUNT_MAX)]
Amount = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Time = Annotated[AwareDatetime, Field(ge=TIME_MIN, le=TIME_MAX)]


class Status(StrEnum):
    """Where a request is."""

    PROCESSING = "processing"
    SUCCESS = "success"
    ERROR = "error"
    CANCELLED = "cancelled"


class _Fields(BaseModel):
    """What both a new request log and a change may say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    object_type: Text | None = Field(None, description="Kind of request: chat.completion, embedding, …")
    provider: Text | None = None
    model: Text | None = None
    alias: Text | None = Field(None, description="The name that the caller used for the model.")
    stream: bool | None = None
    latency_ms: Amount | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    cached_read_tokens: Count | None = None
    cost: Amount | None = Field(None, description="US dollars.")
    stop_reason: Text | None = None
    number_of_retries: Count | None = None
    fallback_index: Count | None = None
    parent_request_id: Text | None = None
    session_id: Text | None = None
    selected_key_id: Text | None = None
    virtual_key_id: Text | None = None
    routing_rule_id: Text | None = None
    user_id: Text | None = None
    team_id: Text | None = None
    customer_id: Text | None = None
    error_message: Annotated[str, StringConstraints(max_length=ERROR_CHARS_MAX, pattern=NO_NUL)] | None = None
    metadata: dict[str, Any] | None = Field(None, description="Any JSON object of the gateway's own.")

    @field_validator("metadata")
    @classmethod
    def _small(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and len(written(value).encode()) > METADATA_BYTES_MAX:
            raise ValueError(f"metadata is larger than {METADATA_BYTES_MAX} bytes; put large parts into payload")
        return value


class RequestLog(_Fields):
    """One request that a gateway handled. `payload` has its large parts by name: input, output, tools, raw_request…"""

    id: Id = Field(default_factory=lambda: str(uuid4()), description="Made up if it is not given.")
    timestamp: Time = Field(description="When the request began.")
    created_at: Time | None = Field(None, description="When it was stored; set by the store.")
    status: Status = Status.PROCESSING
    payload: dict[str, Any] | None = None


class RequestLogChange(_Fields):
    """What an update changes: the fields that are given. Null forgets a field, or a part of the payload by its name."""

    status: Status = Status.PROCESSING  # never null; without it the status stays as it is
    payload: dict[str, Any] = Field({}, description="Parts to replace by name; others stay.")

    @field_validator("status", "payload")
    @classmethod
    def _given(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("it cannot be taken away; leave it out to keep it")
        return value


class Order(StrEnum):
    """By time of the request."""

    NEWEST = "desc"
    OLDEST = "asc"


class Filters(BaseModel):
    """Which request logs: start_time ≤ timestamp < end_time, and one of each list that is not empty."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start_time: Time | None = None
    end_time: Time | None = None
    ids: tuple[Id, ...] = Field((), max_length=PAGE_MAX)
    providers: tuple[Text, ...] = Field((), max_length=100)
    models: tuple[Text, ...] = Field((), max_length=100)
    statuses: tuple[Status, ...] = ()


class Page(BaseModel):
    """A run of request logs; `cursor` resumes after them, None at the end."""

    logs: tuple[RequestLog, ...]
    cursor: str | None


class Rejected(BaseModel):
    """An item of a batch that was not stored, and why."""

    index: int
    id: str | None = None
    code: str
    message: str


class BatchResult(BaseModel):
    """What became of a batch; items that exist already are left as they are."""

    created: int
    existing: int
    rejected: tuple[Rejected, ...] = ()


class Stats(BaseModel):
    """Sums over the request logs of a filter. Rates are percent, None where there is nothing to divide by."""

    total_requests: int
    success_rate: float | None = Field(description="success / (success + error)")
    average_latency_ms: float | None = Field(description="Over those that have one.")
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    total_cost: float


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_ASCII_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def written(value: Any) -> str:
    """JSON text as it is stored, always valid UTF-8; raises ValueError for what JSON cannot say (NaN, a date)."""
    try:
        text = _ENCODER.encode(value)
        return text if is_utf8(text) else _ASCII_ENCODER.encode(value)  # a lone surrogate comes back as it was
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def is_utf8(text: str) -> bool:
    """Whether text can be encoded: lone surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def payload_text(payload: dict[str, Any]) -> str:
    """A payload as it is stored; raises InvalidInput and TooLarge."""
    try:
        text = written(payload)
    except ValueError as error:
        raise InvalidInput(f"payload cannot be written as JSON: {error}", field="payload") from error
    if len(text) > PAYLOAD_BYTES_MAX or len(text.encode()) > PAYLOAD_BYTES_MAX:
        raise TooLarge(f"a payload has at most {PAYLOAD_BYTES_MAX} bytes", field="payload")
    return text


def microseconds(moment: datetime) -> int:
    """Since the epoch, exact."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def moment(microseconds_: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds_)
