"""Retention: what goes when. *Expire* is by age, *evict* is by size; 0 or absent is unlimited everywhere."""

from datetime import timedelta

from pydantic import Field

from store_runtime.config.model import Document
from store_runtime.config.quantities import Duration, Size


class Retention(Document):
    """Limits of a stream."""

    max_age: Duration = Field(timedelta(), description="Entries older than this expire. 0: unlimited.")
    max_size: Size = Field(0, description="Bytes on disk above which the oldest entries are evicted. 0: unlimited.")


class LogRetention(Retention):
    """Limits of a store of request logs."""

    payload_max_age: Duration = Field(
        timedelta(),
        description="Payloads (prompts, answers) older than this go, their request logs stay. 0: unlimited.",
    )
