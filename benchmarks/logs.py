"""Request logs on SQLite and PostgreSQL beside the wide-row layout of the field, in the same run on the same database.

`python benchmarks/logs.py`, QUICK=1 for a shorter run of the same cases. One JSON line a case on standard output, a
table for people on standard error. Rows have 2 KB of payload, over 7 days, of 5 providers and 12 models, 1 % errors.

The wide layout is one table of 58 columns with its payloads in the row and 23 indexes; it is filled 256 rows a
transaction, by the same client and with the same durability, but without validation, fence or bookkeeping; its first
page is a COUNT and an OFFSET. Its bars are those of the finished store: rollups, search and compressed payloads are not
there yet. STORE_TEST_POSTGRES_URL names a server to use instead of a new one.
"""

import json
import logging
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import structlog
from rich.console import Console
from rich.table import Table

from store_runtime.clock import SystemClock
from store_runtime.config.backends import LogBackend, LogBackendType, SqliteBackend
from store_runtime.config.runtime import LogStoreConfig
from store_runtime.logstore import opening
from store_runtime.logstore.model import Filters, Status
from store_runtime.logstore.store import LogStore
from tests.postgres_server import URL_VARIABLE, PostgresDatabase, new_database, running_server, server_of_url

QUICK = bool(os.environ.get("QUICK"))
ROWS = 10_000 if QUICK else 200_000
BATCH, WIDE_BATCH = 1_000, 256
SINGLES = 100 if QUICK else 500
REPEATS = 40 if QUICK else 200
PAGE = 50
DAYS = 7
START = datetime(2026, 11, 14, tzinfo=UTC)

TEXTS = (
    "object_type", "provider", "model", "alias", "stop_reason", "status", "parent_request_id", "session_id",
    "selected_key_id", "virtual_key_id", "routing_rule_id", "user_id", "team_id", "customer_id", "error_message",
    "metadata", "timestamp", "created_at", "selected_key_name", "virtual_key_name", "routing_engines_used",
)  # fmt: skip
NUMBERS = (
    "latency_ms", "prompt_tokens", "completion_tokens", "total_tokens", "cached_read_tokens", "cost",
    "number_of_retries", "fallback_index", "stream",
)  # fmt: skip
PAYLOADS = (
    "input", "responses_input", "output", "responses_output", "embedding", "rerank", "ocr", "params", "tools",
    "tool_calls", "speech_in", "speech_out", "transcription_in", "transcription_out", "image_in", "image_out",
    "video_in", "video_out", "cache_debug", "token_usage", "error_details", "raw_request", "raw_response",
    "routing_log", "plugin_logs", "content_summary", "list_models",
)  # fmt: skip
WIDE_COLUMNS = ("id", *TEXTS, *NUMBERS, *PAYLOADS)
WIDE_INDEXES = (
    "timestamp", "created_at", "object_type", "provider", "model", "alias", "parent_request_id", "session_id",
    "latency_ms", "selected_key_id", "virtual_key_id", "routing_rule_id", "user_id", "team_id", "customer_id",
    "total_tokens", "cost", "status", "stop_reason", "timestamp, provider, status", "status, timestamp",
    "status, created_at", "status, timestamp, selected_key_id, virtual_key_id, routing_rule_id, provider, object_type,"
    " model, cost, prompt_tokens, completion_tokens, total_tokens, cached_read_tokens",
)  # fmt: skip
WIDE_LIST = ", ".join(("id", *TEXTS, *NUMBERS))
FILTERED = "provider = 'provider-1' AND model = 'model-1' AND status = 'success'"
FILTERS = Filters(providers=("provider-1",), models=("model-1",), statuses=(Status.SUCCESS,))


@dataclass(frozen=True)
class Case:
    """A line of output; `ratio` is how many times better than the reference; `bar` is what is asked for."""

    case: str
    value: float
    unit: str
    reference: str | None = None
    reference_value: float | None = None
    ratio: float | None = None
    bar: float | None = None
    holds: bool | None = None


def beside_wide(case: str, unit: str, value: float, wide: float, bar: float) -> Case:
    """The ratio is how many times better: rates are better when larger, times and bytes when smaller."""
    ratio = value / wide if unit.endswith("/s") else wide / value
    return Case(case, value, unit, "wide rows", wide, ratio, bar, ratio >= bar)


# -- rows ---------------------------------------------------------------------------------------------------------


def documents() -> Iterator[list[dict[str, Any]]]:
    """Batches of request logs as a gateway sends them; the same in every run."""
    source = random.Random(5)
    words = ["".join(source.choices("abcdefghijklmnop", k=source.randint(3, 9))) for _ in range(5000)]
    for _ in range(ROWS // BATCH):
        yield [document(source, words) for _ in range(BATCH)]


def document(source: random.Random, words: Sequence[str]) -> dict[str, Any]:
    moment = START + timedelta(seconds=source.random() * DAYS * 86_400)
    prompt, completion = source.randrange(4000), source.randrange(1000)
    return {
        "id": f"{source.getrandbits(128):032x}", "timestamp": moment.isoformat(), "object_type": "chat.completion",
        "provider": f"provider-{source.randrange(5)}", "model": f"model-{source.randrange(12)}",
        "status": "error" if source.random() < 0.01 else "success", "latency_ms": source.uniform(100, 9000),
        "prompt_tokens": prompt, "completion_tokens": completion, "cost": source.random() / 50, "stream": True,
        "virtual_key_id": f"vk-{source.randrange(50)}", "selected_key_id": f"key-{source.randrange(10)}",
        "session_id": f"session-{source.randrange(5000)}", "team_id": f"team-{source.randrange(20)}",
        "metadata": {"environment": "production", "release": source.randrange(30)},
        "payload": {
            "input": [{"role": "user", "content": " ".join(source.choices(words, k=180))}],
            "output": {"role": "assistant", "content": " ".join(source.choices(words, k=100))},
            "params": {"temperature": 0.7, "max_tokens": 1024},
        },
    }  # fmt: skip


def wide_row(log: dict[str, Any]) -> dict[str, Any]:
    payload = {name: json.dumps(part) for name, part in log["payload"].items()}
    total = {"total_tokens": log["prompt_tokens"] + log["completion_tokens"], "created_at": log["timestamp"]}
    known = {**log, **total, **payload, "metadata": json.dumps(log["metadata"]), "stream": int(log["stream"])}
    return {name: known.get(name) for name in WIDE_COLUMNS}


# -- the two databases --------------------------------------------------------------------------------------------


class Database(ABC):
    """One kind of database, with a store and a wide table on it."""

    name: str

    @abstractmethod
    def backend(self) -> LogBackend: ...

    @abstractmethod
    def insert_wide(self, rows: Sequence[dict[str, Any]]) -> None:
        """One transaction."""

    @abstractmethod
    def ask_wide(self, statement: str) -> list[Any]: ...

    @abstractmethod
    def sizes(self) -> tuple[int, int]:
        """Bytes of the store's tables and of the wide one, after everything was written out."""

    def config(self) -> LogStoreConfig:
        return LogStoreConfig.model_validate(
            {
                "store": {"namespace": "bench", "name": "logs", "id": "bench", "owner": "bench"},
                "auth": {"audience": "bench", "publicKeys": ["none"]},
                "backend": self.backend(),
            }
        )

    def wide_ddl(self, real: str) -> Iterator[str]:
        numbers = dict.fromkeys(NUMBERS, real)
        columns = ", ".join(f"{name} {numbers.get(name, 'TEXT')}" for name in WIDE_COLUMNS[1:])
        yield f"CREATE TABLE logs (id VARCHAR(255) PRIMARY KEY, {columns})"
        for number, index in enumerate(WIDE_INDEXES):
            yield f"CREATE INDEX logs_{number} ON logs ({index})"


class Sqlite(Database):
    name = "SQLite"

    def __init__(self, directory: Path) -> None:
        self._path = directory / "logs.db"
        self._wide_path = directory / "wide.db"
        self._wide = sqlite3.connect(self._wide_path, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -65536"):
            self._wide.execute(f"PRAGMA {pragma}").fetchall()
        for statement in self.wide_ddl("REAL"):
            self._wide.execute(statement)
        marks = ", ".join(f":{name}" for name in WIDE_COLUMNS)
        self._insert = f"INSERT INTO logs VALUES ({marks}) ON CONFLICT (id) DO NOTHING"

    def backend(self) -> LogBackend:
        return LogBackend(type=LogBackendType.SQLITE, sqlite=SqliteBackend(path=str(self._path)))

    def insert_wide(self, rows: Sequence[dict[str, Any]]) -> None:
        self._wide.execute("BEGIN IMMEDIATE")
        self._wide.executemany(self._insert, rows)
        self._wide.execute("COMMIT")

    def ask_wide(self, statement: str) -> list[Any]:
        return self._wide.execute(statement).fetchall()

    def sizes(self) -> tuple[int, int]:
        return pages_bytes(self._path), pages_bytes(self._wide_path)


def pages_bytes(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (pages,), (size,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    return int(pages) * int(size)


class Postgres(Database):
    name = "PostgreSQL"

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        user, password = ((database.credentials_directory / name).read_text() for name in ("username", "password"))
        self._wide = psycopg.connect(
            host=database.host, port=database.port, dbname=database.database, user=user, password=password,
            autocommit=True,
        )  # fmt: skip
        for statement in self.wide_ddl("DOUBLE PRECISION"):
            self._wide.execute(statement.encode())
        types = ", ".join(f"{name} {'float8' if name in NUMBERS else 'text'}" for name in WIDE_COLUMNS)
        names = ", ".join(WIDE_COLUMNS)
        source = f"SELECT {names} FROM json_to_recordset(%s) AS r ({types})"
        self._insert = f"INSERT INTO logs ({names}) {source} ON CONFLICT (id) DO NOTHING".encode()

    def backend(self) -> LogBackend:
        return LogBackend(type=LogBackendType.POSTGRES, postgres=self._database.backend())

    def insert_wide(self, rows: Sequence[dict[str, Any]]) -> None:
        self._wide.execute(self._insert, (json.dumps(rows),))

    def ask_wide(self, statement: str) -> list[Any]:
        return self._wide.execute(statement.encode()).fetchall()

    def sizes(self) -> tuple[int, int]:
        ask = "SELECT pg_total_relation_size('request_log') + pg_total_relation_size('request_log_payload')"
        (store,), (wide,) = self.ask_wide(ask)[0], self.ask_wide("SELECT pg_total_relation_size('logs')")[0]
        return int(store), int(wide)


# -- what is measured ---------------------------------------------------------------------------------------------


def cases_on(database: Database) -> Iterator[Case]:
    opening.provision(database.config())
    opening.migrate(database.config())
    with closing(opening.open_store(database.config(), SystemClock())) as store:
        yield insert_case(database, store)
        yield Case(f"{database.name}: create, one at a time", singles_rate(store), "rows/s")
        yield from page_cases(database, store)
        yield Case(f"{database.name}: statistics of {ROWS:,} rows", p95_ms(store.stats), "ms p95")
        own, wide = database.sizes()
        rows = ROWS + SINGLES
        yield beside_wide(f"{database.name}: disk", "bytes a row", own / rows, wide / ROWS, bar=2)


def insert_case(database: Database, store: LogStore) -> Case:
    """Batches of both alternate, so that a change of the machine's load meets both."""
    own_seconds = wide_seconds = 0.0
    for batch in documents():
        began = time.perf_counter()
        assert store.create_many(batch).created == len(batch)
        own_seconds += time.perf_counter() - began
        rows = [wide_row(log) for log in batch]
        began = time.perf_counter()
        for at in range(0, len(rows), WIDE_BATCH):
            database.insert_wide(rows[at : at + WIDE_BATCH])
        wide_seconds += time.perf_counter() - began
    name = f"{database.name}: insert in batches of {BATCH:,}, to {ROWS:,} rows"
    return beside_wide(name, "rows/s", ROWS / own_seconds, ROWS / wide_seconds, bar=3)


def singles_rate(store: LogStore) -> float:
    batch = next(documents())[:SINGLES]
    logs = [log | {"id": f"single-{number}"} for number, log in enumerate(batch)]
    began = time.perf_counter()
    for log in logs:
        store.create_many([log])
    return SINGLES / (time.perf_counter() - began)


def page_cases(database: Database, store: LogStore) -> Iterator[Case]:
    def wide_page(condition: str) -> Callable[[], object]:
        page = f"SELECT {WIDE_LIST} FROM logs WHERE {condition} ORDER BY timestamp DESC LIMIT {PAGE} OFFSET 0"
        count = f"SELECT count(*) FROM logs WHERE {condition}"
        return lambda: (database.ask_wide(count), database.ask_wide(page))

    name = f"{database.name}: first page of {ROWS:,} rows"
    asked = ("no filter", None, "1 = 1"), ("provider, model, status", FILTERS, FILTERED)
    for words, filters, condition in asked:

        def own_page(filters: Filters | None = filters) -> object:
            return store.search(filters, limit=PAGE)

        yield beside_wide(f"{name}, {words}", "ms p95", p95_ms(own_page), p95_ms(wide_page(condition)), bar=5)


def p95_ms(call: Callable[[], object]) -> float:
    call()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.quantiles(times, n=20)[-1] * 1000


@contextmanager
def databases() -> Iterator[list[Database]]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = os.environ.get(URL_VARIABLE)
        server = server_of_url(url) if url else stack.enter_context(running_server())
        yield [Sqlite(directory), Postgres(stack.enter_context(new_database(server, directory / "credentials")))]


def main() -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with databases() as found:
        report([case for database in found for case in cases_on(database)])
    return 0


def report(cases: list[Case]) -> None:
    table = Table("case", "value", "unit", "beside it", "times better", "bar", "holds")
    for case in cases:
        print(json.dumps(asdict(case)))
        beside = f"{case.reference_value:,.1f} ({case.reference})" if case.reference_value else ""
        ratio, bar = (f"{case.ratio:.2f}" if case.ratio else ""), (f"{case.bar:g}" if case.bar else "")
        holds = "" if case.holds is None else str(case.holds)
        table.add_row(case.case, f"{case.value:,.1f}", case.unit, beside, ratio, bar, holds)
    Console(stderr=True, width=150).print(table)


if __name__ == "__main__":
    sys.exit(main())
