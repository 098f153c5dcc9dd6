"""Changes that cannot be obeyed: the twins of the CRDs' rules that compare with the old object, for a writer that is no
API server. Pure.
"""

from collections.abc import Iterator

from store_runtime.config.quantities import format_size
from storekeeper.api.backends import FILE_BYTES_DEFAULT, SQLITE_BYTES_DEFAULT
from storekeeper.api.cel import VOLUME_CLASS_CHANGES, VOLUME_SHRINKS
from storekeeper.api.logstore import ENTRIES_BYTES_DEFAULT, LogStore
from storekeeper.api.parse import InvalidSpec
from storekeeper.api.pods import Volume
from storekeeper.api.resource import IDENTITY_CHANGES, Resource, StoreResource
from storekeeper.api.stream import LOG_STORE_CHANGES, NAME_CHANGES, Stream

_Pair = tuple[str, int, Volume | None, Volume | None]


def check_change(old: Resource, new: Resource) -> None:
    """Raises InvalidSpec for the first field of `new` that `old`, of the same kind and name, does not let it have."""
    for field, message in _refusals(old, new):
        raise InvalidSpec(f"spec.{field}", message)


def _refusals(old: Resource, new: Resource) -> Iterator[tuple[str, str]]:
    if isinstance(old, Stream) and isinstance(new, Stream):
        if old.spec.log_store_ref != new.spec.log_store_ref:
            yield "logStoreRef.name", LOG_STORE_CHANGES
        if (old.spec.name or "") != (new.spec.name or ""):
            yield "name", NAME_CHANGES
    elif isinstance(old, StoreResource) and isinstance(new, StoreResource):
        if old.spec.adopt_store_id != new.spec.adopt_store_id:
            yield "adoptStoreID", IDENTITY_CHANGES
        for pair in _volumes(old, new):
            yield from _volume_refusals(*pair)


def _volumes(old: StoreResource, new: StoreResource) -> Iterator[_Pair]:
    """A backend of another type has another volume, or none: that is a move of the store, no change of a volume."""
    member, default = ("sqlite", SQLITE_BYTES_DEFAULT) if isinstance(new, LogStore) else ("file", FILE_BYTES_DEFAULT)
    yield f"backend.{member}.storage", default, old.data_volume, new.data_volume
    yield "entries.storage", ENTRIES_BYTES_DEFAULT, old.entries_volume, new.entries_volume


def _volume_refusals(
    field: str, default_bytes: int, old: Volume | None, new: Volume | None
) -> Iterator[tuple[str, str]]:
    if old is None or new is None:
        return
    if (new.size or 0) < (old.size or 0):
        yield f"{field}.size", VOLUME_SHRINKS.format(format_size(default_bytes))
    if new.storage_class_name != old.storage_class_name:
        yield f"{field}.storageClassName", VOLUME_CLASS_CHANGES
