"""A PostgreSQL server of Debian's packages on this machine, reachable from the cluster's pods and from here."""

import secrets
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
START_SECONDS = 60


@dataclass
class PostgresServer:
    """`host` is an address that pods can reach; its password is only in files of `directory`."""

    directory: Path
    host: str
    port: int
    user: str = "storekeeper"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)

    def create(self) -> None:
        """A new cluster of databases; `fsync` stays on."""
        if not BINARIES:
            raise AssertionError("PostgreSQL is not installed: run `make packages`")
        self.directory.mkdir(parents=True)
        shutil.chown(self.directory, "postgres")
        password_file = self.directory / "password"
        password_file.write_text(self.password)
        shutil.chown(password_file, "postgres")
        data = self.directory / "data"
        self._run("initdb", "-D", str(data), "-U", self.user, "-A", "scram-sha-256", f"--pwfile={password_file}", "-N")
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 198.18.0.0/15 scram-sha-256\n")

    def start(self) -> None:
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1,{self.host} -c unix_socket_directories={self.directory}"
        )
        log = str(self.directory / "log")
        self._run("pg_ctl", "-D", str(self.directory / "data"), "-l", log, "-o", options, "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.directory / "data"), "-m", "immediate", "-w", "stop")

    def create_database(self) -> str:
        name = f"logs_{secrets.token_hex(4)}"
        self._sql("postgres", f"CREATE DATABASE {name}")
        return name

    def tables(self, database: str) -> list[str]:
        listing = self._sql(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        return listing.split()

    def _sql(self, database: str, statement: str) -> str:
        connection = psycopg.connect(
            host="127.0.0.1", port=self.port, user=self.user, password=self.password, dbname=database, autocommit=True
        )
        with connection:
            cursor = connection.execute(statement.encode())
            return "\n".join(str(row[0]) for row in cursor) if cursor.description else ""

    def _run(self, program: str, *arguments: str) -> None:
        command = ["runuser", "-u", "postgres", "--", str(BINARIES[-1] / program), *arguments]
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(command, cwd=self.directory, text=True, timeout=START_SECONDS, check=False, **pipes)
        if done.returncode:
            raise AssertionError(f"{program} failed: {done.stdout[-2000:]}")
