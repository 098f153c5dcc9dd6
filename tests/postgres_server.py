"""A PostgreSQL server of Debian's packages that tests start, stop and fill, or one that STORE_TEST_POSTGRES_URL names.

`running_server` gives a server, its `new_database` a database for one test. PostgreSQL refuses to run as root: there it
runs as the user postgres. Passwords are in files and in this process only.
"""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from store_runtime.config.backends import PostgresBackend, SslMode

URL_VARIABLE = "STORE_TEST_POSTGRES_URL"
BINARIES = sorted(
    Path("/usr/lib/postgresql").glob("*/bin/initdb"),
    key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit() else 0,
)
COMMAND_SECONDS = 60


@dataclass
class PostgresServer:
    """A server that answers at `host`; `connection` is the rest that psycopg needs to reach it."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    connection: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def stop(self, *, mode: str = "immediate") -> None:
        """End the server: `immediate` as a crash does, `fast` in order."""
        pytest.skip(f"the server of {URL_VARIABLE} is not the tests' to stop")

    def start(self) -> None:
        """Start it if it does not run; a server that somebody else runs does."""

    def create_database(self) -> str:
        """A new empty database; its name."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(self.maintenance_database, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return name

    def drop_database(self, name: str) -> None:
        """Also one that is connected to; nothing where there is none."""
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        self.execute(self.maintenance_database, statement)

    def terminate_connections(self, database: str) -> int:
        """End every connection to a database, as a failover does; how many there were."""
        statement = sql.SQL("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = {}")
        return len(self.execute(self.maintenance_database, statement.format(sql.Literal(database))))

    def tables(self, database: str) -> list[str]:
        statement = sql.SQL("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        return [str(name) for (name,) in self.execute(database, statement)]

    def execute(self, database: str, statement: sql.SQL | sql.Composed) -> list[tuple[Any, ...]]:
        """The rows of one statement in a connection of its own."""
        parameters = {**self.connection, "host": self.host, "port": self.port, "dbname": database}
        with psycopg.connect(user=self.user, password=self.password, autocommit=True, **parameters) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @property
    def maintenance_database(self) -> str:
        return str(self.connection.get("dbname") or "postgres")


@dataclass
class LocalPostgresServer(PostgresServer):
    """One of our own in `directory`; it listens on `host` (where pods may be) and on the loopback address."""

    directory: Path = Path()

    def create(self) -> None:
        """A new cluster of databases; `fsync` stays on."""
        if not BINARIES:
            pytest.fail("PostgreSQL is not installed: run `make packages`")
        password_file = self.directory / "password"
        password_file.touch(0o600)
        password_file.write_text(self.password)
        if _is_root():
            for path in (self.directory, password_file):
                shutil.chown(path, "postgres")
        data = str(self.directory / "data")
        self._run("initdb", "-D", data, "-U", self.user, "-A", "scram-sha-256", f"--pwfile={password_file}", "-N")
        with Path(data, "pg_hba.conf").open("a") as rules:
            rules.write("host all all 198.18.0.0/15 scram-sha-256\n")

    def start(self) -> None:
        if self._runs():
            return
        addresses = ",".join(sorted({"127.0.0.1", self.host}))
        options = f"-p {self.port} -c listen_addresses={addresses} -c unix_socket_directories={self.directory}"
        self._control("-l", str(self.directory / "log"), "-o", options, "start")

    def stop(self, *, mode: str = "immediate") -> None:
        if self._runs():
            self._control("-m", mode, "stop")

    def _runs(self) -> bool:
        return (self.directory / "data" / "postmaster.pid").exists()

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", str(self.directory / "data"), "-w", *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(BINARIES[-1].with_name(program)), *arguments]
        if _is_root():
            command = ["runuser", "-u", "postgres", "--", *command]
        output = self.directory / "output"  # a file: the server keeps what it is started with open
        with output.open("w") as written:
            done = subprocess.run(
                command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=written, stderr=subprocess.STDOUT,
                timeout=COMMAND_SECONDS, check=False,
            )  # fmt: skip
        if done.returncode:
            raise AssertionError(f"{program} failed: {output.read_text()[-2000:]}")


@dataclass(frozen=True)
class PostgresDatabase:
    """A database for one test, and what can happen to it. `credentials_directory` has the files username, password."""

    server: PostgresServer
    database: str
    credentials_directory: Path

    @property
    def host(self) -> str:
        return self.server.host

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def user(self) -> str:
        return self.server.user

    def backend(self) -> PostgresBackend:
        """As a store's config names it."""
        return PostgresBackend(
            host=self.host, port=self.port, database=self.database, ssl_mode=SslMode.PREFER,
            credentials_directory=str(self.credentials_directory),
        )  # fmt: skip

    def stop(self, *, mode: str = "immediate") -> None:
        self.server.stop(mode=mode)

    def start(self) -> None:
        self.server.start()

    def terminate_connections(self) -> int:
        return self.server.terminate_connections(self.database)

    def tables(self) -> list[str]:
        return self.server.tables(self.database)

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        return self.server.execute(self.database, sql.SQL(statement))


@contextmanager
def running_server(host: str = "127.0.0.1") -> Iterator[PostgresServer]:
    """A new server in a folder of its own, stopped and removed at the end."""
    with tempfile.TemporaryDirectory(prefix="storekeeper-postgres-", ignore_cleanup_errors=True) as directory:
        password = secrets.token_urlsafe(16)
        server = LocalPostgresServer(host, free_port(), "storekeeper", password, directory=Path(directory))
        server.create()
        try:
            server.start()
            yield server
        finally:
            server.stop(mode="fast")


def server_of_url(url: str) -> PostgresServer:
    """The server that a libpq URL names; its user has to be allowed to create databases."""
    parts = conninfo_to_dict(url)
    host, port = str(parts.pop("host", "127.0.0.1")), int(parts.pop("port", None) or 5432)
    return PostgresServer(host, port, str(parts.pop("user", "postgres")), str(parts.pop("password", "")), parts)


@contextmanager
def new_database(server: PostgresServer, directory: Path) -> Iterator[PostgresDatabase]:
    """A fresh database, dropped at the end; the server runs then, whatever the test did to it."""
    directory.mkdir(mode=0o700)
    (directory / "username").write_text(server.user)
    (directory / "password").write_text(server.password)
    database = PostgresDatabase(server, server.create_database(), directory)
    try:
        yield database
    finally:
        server.start()
        server.drop_database(database.database)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_root() -> bool:
    return os.geteuid() == 0
