"""Request logs on PostgreSQL: the contract, and what is particular to a server: outages, rights, rotated passwords."""

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import psycopg
import pytest

from store_runtime.config.backends import LogBackend, LogBackendType, PostgresBackend
from store_runtime.config.wire import JobName
from store_runtime.errors import BackendUnreachable, Conflict, SchemaTooNew, StoreError
from store_runtime.jobs import lifecycle
from store_runtime.jobs.lifecycle import run_job
from store_runtime.jobs.patience import patiently
from store_runtime.jobs.report import REFUSED, RETRYABLE, exit_status
from store_runtime.logstore import opening
from store_runtime.logstore.drivers.postgres import PostgresDialect
from store_runtime.logstore.model import RequestLogChange
from store_runtime.logstore.store import LogStore
from tests.conformance.log_store import Harness, LogStoreContract, all_ids, at_once, document, new_log
from tests.conformance.log_switching import LogSwitchableContract, LogSwitchHarness
from tests.postgres_server import PostgresDatabase, PostgresServer, new_database
from tests.runtime.serving import log_store_config, run, write_config

pytestmark = pytest.mark.server


class PostgresHarness(Harness):
    def __init__(self, backend: PostgresBackend) -> None:
        super().__init__()
        self.postgres = backend

    def backend(self) -> LogBackend:
        return LogBackend(type=LogBackendType.POSTGRES, postgres=self.postgres)


@pytest.fixture
def harness(postgres_database):
    harness = PostgresHarness(postgres_database.backend())
    harness.prepare()
    return harness


@pytest.fixture
def store(harness):
    with closing(harness.open()) as opened:
        yield opened


class TestPostgresLogStore(LogStoreContract):
    pass


class PostgresSwitchHarness(LogSwitchHarness):
    def __init__(self, server: PostgresServer, directory: Path, stack: ExitStack) -> None:
        super().__init__()
        self.server, self.directory, self.stack = server, directory, stack
        self.databases: dict[str, PostgresDatabase] = {}

    def dialect(self, backend):
        if backend not in self.databases:
            made = new_database(self.server, self.directory / backend)
            self.databases[backend] = self.stack.enter_context(made)
        return PostgresDialect(self.databases[backend].backend(), name="switch")


class TestPostgresSwitchable(LogSwitchableContract):
    @pytest.fixture
    def switching(self, postgres_server, tmp_path):
        with ExitStack() as stack:
            yield PostgresSwitchHarness(postgres_server, tmp_path, stack)


# -- outages ------------------------------------------------------------------------------------------------------


def test_connections_that_are_terminated_lose_nothing_when_it_is_tried_again(postgres_database, store):
    """Writers send a batch again until it is acknowledged, while the server ends every connection, over and over."""
    done = threading.Event()
    failed: list[str] = []

    def write(number: int) -> None:
        for batch in range(30):
            items = [document(f"{number}-{batch}-{item}", payload={"x": item}) for item in range(5)]
            for _ in range(200):
                try:
                    result = store.create_many(items)
                except BackendUnreachable as error:
                    failed.append(error.specific_code)
                    continue
                assert result.created + result.existing == 5
                break
            else:
                pytest.fail("never acknowledged")

    def terminate() -> None:
        while not done.is_set():
            postgres_database.terminate_connections()
            done.wait(0.05)

    terminator = threading.Thread(target=terminate)
    terminator.start()
    try:
        at_once([lambda number=number: write(number) for number in range(4)])
    finally:
        done.set()
        terminator.join(60)
    assert set(failed) == {"BackendUnreachable"}
    assert sorted(all_ids(store)) == sorted(f"{n}-{b}-{i}" for n in range(4) for b in range(30) for i in range(5))
    assert store.get("3-29-4").payload == {"x": 4}


def test_a_server_that_stopped_and_came_back_is_used_without_reopening(postgres_database, harness, store):
    store.create(new_log("before"))
    postgres_database.stop()
    for call in (store.check_backend, lambda: store.create(new_log("a")), lambda: store.get("before"), store.stats):
        with pytest.raises(BackendUnreachable) as error:
            call()
        assert harness.postgres.host in error.value.message
    postgres_database.start()
    assert patiently(store.get, "before").id == "before"
    store.create(new_log("after"))
    assert set(all_ids(store)) == {"before", "after"}


def test_a_store_opens_while_its_server_is_away_and_works_when_it_comes(postgres_database, harness):
    with closing(harness.open()) as store:
        store.create(new_log("before"))
    postgres_database.stop()
    with closing(harness.open()) as opened:
        with pytest.raises(BackendUnreachable):
            opened.check_backend()
        postgres_database.start()
        patiently(opened.check_backend)
        opened.create(new_log("a"))
        assert set(all_ids(opened)) == {"before", "a"}


def test_what_belongs_to_another_is_noticed_when_the_server_comes_back(postgres_database, harness):
    postgres_database.stop()
    with closing(opening.open_store(harness.config(id_="store-2"), harness.clock)) as other:
        postgres_database.start()
        for call in (other.check_backend, other.stats, lambda: other.create(new_log("a"))):
            with pytest.raises(StoreError) as error:
                patiently(call)
            assert error.value.specific_code == "OwnedByAnother"


def test_a_schema_of_a_later_version_is_noticed_by_the_first_write_when_the_server_comes_back(
    postgres_database, harness
):
    postgres_database.execute("UPDATE _store_meta SET schema_version = '9999'")
    postgres_database.stop()
    with closing(harness.open()) as opened:
        postgres_database.start()
        for call in (lambda: opened.create(new_log("a")), opened.stats):
            with pytest.raises(SchemaTooNew):
                patiently(call)
    assert postgres_database.execute("SELECT count(*) FROM request_log") == [(0,)]


# -- credentials and rights ---------------------------------------------------------------------------------------


def test_a_rotated_password_is_used_by_the_next_connection(postgres_database, harness):
    role = limited_role(postgres_database, "LOGIN", grant="ALL ON SCHEMA public")
    directory = postgres_database.credentials_directory
    opening.destroy(harness.config())
    sign_in(directory, role, "first")
    postgres_database.execute(f"ALTER ROLE {role} PASSWORD 'first'")
    harness.prepare()
    with closing(harness.open()) as store:
        store.create(new_log("a"))
        postgres_database.execute(f"ALTER ROLE {role} PASSWORD 'second'")
        postgres_database.terminate_connections()
        with pytest.raises(BackendUnreachable) as error:
            store.create(new_log("b"))
        assert error.value.specific_code == "AuthenticationFailed"
        assert "second" not in error.value.message
        sign_in(directory, role, "second")
        store.create(new_log("b"))
        assert set(all_ids(store)) == {"a", "b"}


def limited_role(database: PostgresDatabase, options: str, grant: str = "") -> str:
    """A role that owns nothing; it is dropped with what it owns in the test's database when that is dropped."""
    role = f"role_{secrets.token_hex(4)}"
    database.execute(f"CREATE ROLE {role} {options} PASSWORD 'first'")
    if grant:
        database.execute(f"GRANT {grant} TO {role}")
    return role


def sign_in(directory: Path, user: str, password: str) -> None:
    (directory / "username").write_text(user)
    (directory / "password").write_text(password)


def wrong_password(database: PostgresDatabase) -> None:
    (database.credentials_directory / "password").write_text("not-the-password")


def no_password(database: PostgresDatabase) -> None:
    (database.credentials_directory / "password").unlink()


def unknown_role(database: PostgresDatabase) -> None:
    (database.credentials_directory / "username").write_text("nobody-here")


def missing_database(database: PostgresDatabase) -> None:
    database.server.drop_database(database.database)


def no_right_to_create(database: PostgresDatabase) -> None:
    sign_in(database.credentials_directory, limited_role(database, "LOGIN"), "first")


def no_right_to_connect(database: PostgresDatabase) -> None:
    database.execute(f"REVOKE CONNECT ON DATABASE {database.database} FROM PUBLIC")
    no_right_to_create(database)


def no_user(database: PostgresDatabase) -> None:
    (database.credentials_directory / "username").unlink()


def stopped(database: PostgresDatabase) -> None:
    database.stop()


CAUSES = [
    (wrong_password, "AuthenticationFailed", REFUSED),
    (no_password, "AuthenticationFailed", REFUSED),
    (unknown_role, "AuthenticationFailed", REFUSED),
    (missing_database, "DatabaseMissing", REFUSED),
    (no_right_to_create, "InsufficientPrivileges", REFUSED),
    (no_right_to_connect, "InsufficientPrivileges", REFUSED),
    (no_user, "SecretIncomplete", REFUSED),
    (stopped, "BackendUnreachable", RETRYABLE),
]


@pytest.mark.parametrize(("cause", "code", "status"), CAUSES, ids=lambda value: getattr(value, "__name__", None))
def test_what_stands_in_the_way_has_a_code_of_its_own(postgres_database, monkeypatch, cause, code, status):
    """In the error, and in the report and the exit status of the job."""
    monkeypatch.setattr(lifecycle, "patiently", lambda call, *arguments: call(*arguments))
    harness = PostgresHarness(postgres_database.backend())
    cause(postgres_database)
    report = run_job(JobName.PROVISION, harness.config())
    assert (report.ok, report.code) == (False, code)
    assert exit_status(report.code) == status
    assert str(harness.postgres.port) in report.message or "Secret" in report.message
    assert "not-the-password" not in report.model_dump_json()


def test_a_refused_job_ends_at_once_with_its_report(postgres_database, tmp_path):
    wrong_password(postgres_database)
    config = log_store_config(tmp_path)
    backend = postgres_database.backend().model_dump(mode="json", by_alias=True)
    config["backend"] = {"type": "postgres", "postgres": backend}
    report = tmp_path / "report.json"
    done = run("provision", "--config", str(write_config(config, tmp_path)), "--report", str(report))
    assert done.returncode == REFUSED
    assert json.loads(report.read_text())["code"] == "AuthenticationFailed"
    assert "not-the-password" not in done.stdout + done.stderr


def test_a_database_that_is_not_utf8_is_refused(postgres_database):
    name = f"latin_{secrets.token_hex(4)}"
    postgres_database.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        harness = PostgresHarness(postgres_database.backend().model_copy(update={"database": name}))
        with pytest.raises(Conflict, match="LATIN1"):
            opening.provision(harness.config())
    finally:
        postgres_database.server.drop_database(name)


def test_a_store_that_is_read_only_says_so(postgres_database, store):
    store.create(new_log("a"))
    postgres_database.execute(f"ALTER DATABASE {postgres_database.database} SET default_transaction_read_only = on")
    postgres_database.terminate_connections()
    with pytest.raises(BackendUnreachable) as error:
        store.create(new_log("b"))
    assert error.value.specific_code == "ReadOnly"
    assert all_ids(store) == ["a"]


# -- locks --------------------------------------------------------------------------------------------------------


def test_the_fence_holds_whatever_isolation_the_server_has_by_default(postgres_database, harness, store):
    """With snapshots of a whole transaction, a meta read after the lock would be that of before it."""
    isolation = "ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'"
    postgres_database.execute(isolation.format(postgres_database.database))
    postgres_database.terminate_connections()
    with closing(harness.open()) as fresh, fresh.driver._dialect.begin_write() as connection:
        shown = connection.exec_driver_sql("SHOW transaction_isolation").scalar_one()
    assert shown == "read committed"


def test_a_row_that_another_transaction_holds_is_waited_for(postgres_database, store):
    store.create(new_log("a", payload={"x": 1}))
    with connected(postgres_database) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM request_log FOR UPDATE")
        writer = threading.Thread(target=lambda: store.update("a", RequestLogChange(payload={"y": 2})))
        writer.start()
        assert store.get("a").payload == {"x": 1}
        other.execute("UPDATE request_log SET model = 'm'")
        other.execute("COMMIT")
        writer.join(60)
    assert (store.get("a").model, store.get("a").payload) == ("m", {"x": 1, "y": 2})


def test_sessions_are_named_and_go_when_the_store_is_closed(postgres_database, store):
    store.create(new_log("a"))
    sessions = f"SELECT application_name FROM pg_stat_activity WHERE datname = '{postgres_database.database}'"
    names = {name for (name,) in postgres_database.execute(sessions)}
    assert "storekeeper team/store" in names
    store.close()
    left = wait_until_none(postgres_database, sessions + " AND application_name LIKE 'storekeeper%'")
    assert left == []


def wait_until_none(database: PostgresDatabase, statement: str) -> list[tuple[str, ...]]:
    for _ in range(100):
        if not (left := database.execute(statement)):
            return []
        threading.Event().wait(0.05)
    return left


def connected(database: PostgresDatabase) -> psycopg.Connection:
    directory = database.credentials_directory
    user, password = ((directory / name).read_text() for name in ("username", "password"))
    return psycopg.connect(
        host=database.host, port=database.port, dbname=database.database, user=user, password=password, autocommit=True
    )


def test_ids_sort_by_code_point_whatever_the_collation(postgres_database):
    """A database whose own order is a language's."""
    name = f"de_{secrets.token_hex(4)}"
    with suppress(psycopg.Error):
        options = "LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' LOCALE 'C.UTF-8' ENCODING 'UTF8' TEMPLATE template0"
        postgres_database.execute(f"CREATE DATABASE {name} {options}")
    try:
        harness = PostgresHarness(postgres_database.backend().model_copy(update={"database": name}))
        harness.prepare()
        ids = ["a", "B", "ä", "Z", "z", "é", "\uffff", "😀", "-", "_a"]
        with closing(harness.open()) as store:
            store.create_many([document(id_) for id_ in ids])
            assert all_ids(store, limit=3) == sorted(ids, reverse=True)
            assert [item.key for item in store.driver.export(None, 100).items] == sorted(ids)
    finally:
        postgres_database.server.drop_database(name)


def stores(count: int, harness: PostgresHarness, stack: ExitStack) -> Iterator[LogStore]:
    for _ in range(count):
        yield stack.enter_context(closing(harness.open()))


def test_many_runtimes_share_a_database(harness):
    with ExitStack() as stack:
        replicas = list(stores(4, harness, stack))
        at_once(
            [
                lambda store=store, number=number: [
                    store.create_many([document(f"shared-{item}") for item in range(50)]) for _ in range(3)
                ]
                for number, store in enumerate(replicas)
            ]
        )
        assert replicas[0].stats().total_requests == 50
