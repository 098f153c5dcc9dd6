"""What the deletion of a store asks for in the data itself.

`Retain` marks the store *released*, so that another resource may adopt it; `Delete` on a network database removes our
tables. A claim needs neither: with `Delete` the resource owns it and it is collected. A finalizer is put only where
something must be done.
"""

from store_runtime.config.wire import JobName
from storekeeper.api.resource import DeletionPolicy, StoreResource


def retains(resource: StoreResource) -> bool:
    return resource.spec.deletion_policy is DeletionPolicy.RETAIN


def needs_finalizer(resource: StoreResource) -> bool:
    if not resource.is_persistent:
        return False
    return retains(resource) or not resource.data_is_on_volume


def removal_job(resource: StoreResource) -> JobName:
    return JobName.RELEASE if retains(resource) else JobName.DESTROY
