"""The PostgreSQL that backends are tested with: what a test does to its server is what happens in a failure."""

import psycopg
import pytest

from tests.postgres_server import URL_VARIABLE, PostgresDatabase, server_of_url


def connected(database: PostgresDatabase) -> psycopg.Connection:
    directory = database.credentials_directory
    user, password = ((directory / name).read_text() for name in ("username", "password"))
    return psycopg.connect(
        host=database.host, port=database.port, dbname=database.database, user=user, password=password, autocommit=True
    )


def test_a_database_is_empty_and_its_credentials_open_it(postgres_database):
    assert postgres_database.tables() == []
    with connected(postgres_database) as connection:
        connection.execute("CREATE TABLE entries (id text)")
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
    assert postgres_database.tables() == ["entries"]
    assert postgres_database.backend().database == postgres_database.database


def test_the_next_test_gets_another_one(postgres_database):
    assert postgres_database.tables() == []


def test_a_wrong_password_is_refused(postgres_database):
    (postgres_database.credentials_directory / "password").write_text("wrong")
    with pytest.raises(psycopg.OperationalError, match="password"):
        connected(postgres_database)


def test_terminated_connections_fail_and_new_ones_work(postgres_database):
    with connected(postgres_database) as connection:
        connection.execute("SELECT 1")
        assert postgres_database.terminate_connections() == 1
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert postgres_database.execute("SELECT 1") == [(1,)]


def test_a_server_stops_and_comes_back_with_what_was_committed(postgres_database):
    postgres_database.execute("CREATE TABLE kept (id text)")
    for _ in range(2):
        postgres_database.stop()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        connected(postgres_database)
    for _ in range(2):
        postgres_database.start()
    assert postgres_database.tables() == ["kept"]


def test_a_test_may_leave_the_server_stopped(postgres_database):
    postgres_database.stop()


def test_a_server_by_its_url(postgres_database):
    ours = postgres_database.server
    url = f"postgresql://{ours.user}:{ours.password}@{ours.host}:{ours.port}/postgres?sslmode=prefer"
    server = server_of_url(url)
    name = server.create_database()
    server.execute(name, psycopg.sql.SQL("CREATE TABLE kept (id text)"))
    assert server.tables(name) == ["kept"]
    server.drop_database(name)
    with pytest.raises(pytest.skip.Exception, match=URL_VARIABLE):
        server.stop()
    assert ours.password not in repr(server)
    assert ours.password not in repr(ours)
