"""Database servers for the tests of backends: one server a session, one database a test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres_server import (
    URL_VARIABLE,
    PostgresDatabase,
    PostgresServer,
    new_database,
    running_server,
    server_of_url,
)

pytest.register_assert_rewrite("tests.conformance")  # so that a failing case shows its values

SERVER_FIXTURES = {"postgres_database"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever uses a database has the marker `server`, so that `-m "not server"` never starts one."""
    for item in items:
        if SERVER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("server")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    url = os.environ.get(URL_VARIABLE)
    if url:
        yield server_of_url(url)
        return
    with running_server() as server:
        yield server


@pytest.fixture
def postgres_database(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[PostgresDatabase]:
    """A fresh PostgreSQL database, with which a test may do what it likes (stop, start, terminate_connections)."""
    with new_database(postgres_server, tmp_path / "postgres-credentials") as database:
        yield database
