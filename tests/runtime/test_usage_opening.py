"""From a config to a RuntimeStore: provisioning, ownership, adoption and destruction, each of them twice."""

from pathlib import Path

import pytest

from store_runtime.clock import ManualClock
from store_runtime.config.runtime import RuntimeStoreConfig
from store_runtime.config.wire import Role
from store_runtime.errors import Conflict, Fenced, NotFound, OwnedByAnother, SchemaTooNew
from store_runtime.runtimestore.drivers.file import FileDriver
from store_runtime.runtimestore.model import Limits
from store_runtime.runtimestore.opening import destroy, migrate, open_store, provision, release
from store_runtime.switch.driver import FenceClass


@pytest.fixture
def config(tmp_path):
    def make(**changes):
        store = {"namespace": "n", "name": "s", "id": "store-1", "owner": "owner-1", **changes.pop("store", {})}
        document = {
            "kind": "RuntimeStore",
            "store": store,
            "auth": {"audience": "a", "publicKeys": ["k"]},
            "backend": {"type": "file", "file": {"directory": str(tmp_path / "data" / "store")}},
            **changes,
        }
        return RuntimeStoreConfig.model_validate(document)

    return make


def change_meta(config, **changes):
    driver = FileDriver(tmp_directory(config), Limits())
    meta = driver.read_meta()
    assert driver.change_meta(meta, meta.changed(**changes))
    driver.close()


def tmp_directory(config):
    return Path(config.backend.file.directory)


def test_a_file_store_from_provisioning_to_destruction(config):
    with pytest.raises(NotFound, match="provision"):
        open_store(config(), ManualClock())
    metas = [provision(config()) for _ in range(2)]
    assert metas[0] == metas[1]
    assert (metas[0].store_id, metas[0].owner, metas[0].role, metas[0].epoch) == ("store-1", "owner-1", Role.ACTIVE, 1)
    assert [migrate(config()) for _ in range(2)] == ["1", "1"]
    for expected in (1.0, 2.0):
        store = open_store(config(), ManualClock())
        store.increment("p", "k", "m", 1)
        assert store.get_usage("p", "k", "m") == expected
        assert store.meta() == metas[0]
        assert store.driver.fence_class is FenceClass.TRANSACTIONAL
        store.check_backend()
        store.close()
        store.close()
    for _ in range(2):
        destroy(config())
    assert not tmp_directory(config()).exists()


def test_destroying_leaves_what_is_not_ours(config):
    provision(config())
    (tmp_directory(config()) / "notes.txt").write_text("mine")
    with pytest.raises(OwnedByAnother):
        destroy(config(store={"owner": "owner-2"}))
    destroy(config())
    assert [path.name for path in tmp_directory(config()).iterdir()] == ["notes.txt"]


def test_another_store_or_owner_is_refused_until_it_is_released(config):
    provision(config())
    for other in ({"id": "store-2"}, {"owner": "owner-2"}):
        for call in (provision, migrate, destroy, lambda c: open_store(c, ManualClock())):
            with pytest.raises(OwnedByAnother):
                call(config(store=other))
    for _ in range(2):
        release(config())
    with pytest.raises(Conflict, match="released"):
        open_store(config(), ManualClock())
    adopted = provision(config(store={"owner": "owner-2"}))
    assert (adopted.owner, adopted.role) == ("owner-2", Role.ACTIVE)
    open_store(config(store={"owner": "owner-2"}), ManualClock()).close()


def test_releasing_and_destroying_nothing_is_no_error(config):
    release(config())
    destroy(config())


def test_data_of_a_later_epoch_or_schema_is_refused(config):
    provision(config())
    change_meta(config(), epoch=2)
    with pytest.raises(Fenced, match="epoch 2"):
        open_store(config(), ManualClock())
    open_store(config(epoch=2), ManualClock()).close()
    change_meta(config(), schema_version="2")
    for call in (migrate, lambda c: open_store(c, ManualClock())):
        with pytest.raises(SchemaTooNew):
            call(config(epoch=2))


def test_windows_may_change_between_starts(config):
    provision(config())
    clock = ManualClock()
    store = open_store(config(), clock)
    store.increment("p", "k", "m", 3)
    store.close()
    store = open_store(config(windows=["10s", "5m"]), clock)
    assert store.window("p", "k", "m", 10) == 3.0
    assert store.window("p", "k", "m", 300) == 3.0
    store.close()


def test_a_memory_store_needs_no_provisioning(config):
    memory = config(backend={"type": "memory", "memory": {"maxKeys": 1}})
    assert provision(memory).store_id == "store-1"
    assert migrate(memory) == "1"
    store = open_store(memory, ManualClock())
    store.increment("p", "k", "m", 1)
    with pytest.raises(Exception, match="limit is 1"):
        store.increment("p", "k2", "m", 1)
    assert store.meta() == provision(memory)
    assert store.driver.fence_class is FenceClass.PROCESS
    store.close()
    release(memory)
    destroy(memory)
