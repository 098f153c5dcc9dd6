"""Claiming and releasing a backend: who owns the data is decided in the data, by compare-and-set."""

from store_runtime.config.runtime import StoreIdentity
from store_runtime.config.wire import Role
from store_runtime.errors import Conflict, OwnedByAnother
from store_runtime.switch.driver import StoreMeta, Switchable


def claim(driver: Switchable, store: StoreIdentity, *, epoch: int, schema_version: str) -> StoreMeta:
    """Make `store` the owner of this backend; idempotent.

    An empty backend is taken; a released one is taken by its id (adoption); anybody else's raises OwnedByAnother.
    """
    meta = driver.read_meta()
    claimed = _claimed(meta, store, epoch, schema_version)
    if claimed == meta:
        return claimed
    if not driver.change_meta(meta, claimed):
        raise Conflict("somebody else changed this store's identity at the same time; run it again")
    return claimed


def _claimed(meta: StoreMeta | None, store: StoreIdentity, epoch: int, schema_version: str) -> StoreMeta:
    if meta is None:
        return StoreMeta(store.id, store.owner, epoch=epoch, schema_version=schema_version)
    if meta.store_id != store.id:
        raise OwnedByAnother(
            f"this backend belongs to the store {meta.store_id}, not to {store.id}; give this store a database of "
            "its own, or set spec.adoptStoreID on a new resource if that store was released"
        )
    if meta.role is Role.RELEASED:
        return meta.changed(owner=store.owner, role=Role.ACTIVE)
    if meta.owner != store.owner:
        raise OwnedByAnother(
            f"the store {meta.store_id} is still owned by the resource {meta.owner} (role {meta.role}); "
            "delete that resource with deletionPolicy Retain first, which releases it"
        )
    return meta


def release(driver: Switchable, store: StoreIdentity) -> None:
    """Mark the data as free to be adopted; idempotent, and no error where there is nothing of ours."""
    meta = driver.read_meta()
    if meta is None or meta.role is Role.RELEASED:
        return
    if (meta.store_id, meta.owner) != (store.id, store.owner):
        return
    if not driver.change_meta(meta, meta.changed(role=Role.RELEASED)):
        raise Conflict("this store's identity changed while it was released; run it again")
