"""One YAML file becomes three running stores, on this machine, in one go (`make demo`).

Starts quickstart.yaml by `storekeeper local up` and feeds it as an application would, by the files of the bindings and
the HTTP API: this machine's own log lines into the Stream, request logs into the LogStore, counters and an answer into
the RuntimeStore. Asks all of it back, fails if a number is not right, and ends by itself with everything stopped.

    python examples/quickstart.py [--file LOG]        KEEP=1 leaves the stores running
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from machine_logs import Record, Source, source
from made_up_requests import RequestLog, request_logs, usage
from rich.console import Console
from rich.table import Table

YAML = Path(__file__).with_name("quickstart.yaml")
BATCH_LINES = 2_000
REQUEST_LOGS = 200
NEWEST = 4
LEVELS = ("error", "warning", "info", "debug")
QUESTION = "Explain a write-ahead log to somebody who knows spreadsheets."
ANSWER = "It is the list of edits you keep beside the sheet, so that a power cut loses none of them."

console = Console(highlight=False)


class WrongAnswer(Exception):
    """A store did not answer what was written to it."""


def require(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise WrongAnswer(f"{what}: expected {expected!r}, the store says {found!r}")


# -- the stores -------------------------------------------------------------------------------------------------------


def storekeeper(*arguments: str, state: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "storekeeper", "local", *arguments, "--state", str(state)]
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, check=False)


@contextmanager
def three_stores(state: Path, keep: bool) -> Iterator[dict[str, dict[str, Any]]]:
    """The resources of quickstart.yaml by name, up and ready; stopped at the end, unless they are to be kept."""
    began = time.perf_counter()
    try:
        up = storekeeper("up", str(YAML), state=state)
        if up.returncode != 0:
            raise SystemExit(up.returncode)
        resources = json.loads(storekeeper("status", "-o", "json", state=state).stdout)["resources"]
        heading(f"{YAML.name} → {len(resources)} resources ready", time.perf_counter() - began)
        for resource in resources:
            say(f"  [green]✓[/] {resource['kind']:<13} {resource['name']:<9} [dim]{resource['url']}[/]")
        yield {resource["name"]: resource for resource in resources}
    finally:
        if not keep:
            began = time.perf_counter()
            storekeeper("down", "--purge", "--yes", state=state)
            heading("everything stopped and removed", time.perf_counter() - began)


def client(resource: dict[str, Any]) -> httpx.Client:
    """As an application: URL and token are files of the store's binding."""
    binding = Path(resource["tokenFile"]).parent
    headers = {"Authorization": f"Bearer {(binding / 'token').read_text()}"}
    return httpx.Client(base_url=(binding / "uri").read_text(), headers=headers, timeout=30, trust_env=False)


def answered(response: httpx.Response) -> Any:
    if response.is_error:
        raise WrongAnswer(f"{response.request.method} {response.request.url.path}: {response.text}")
    return response.json()


# -- the Stream -------------------------------------------------------------------------------------------------------


def feed_stream(store: httpx.Client, found: Source) -> list[Record]:
    records = found.records()
    began = time.perf_counter()
    for start in range(0, len(records), BATCH_LINES):
        body = "\n".join(json.dumps(record) for record in records[start : start + BATCH_LINES])
        headers = {"Content-Type": "application/x-ndjson"}
        answer = answered(store.post("/api/v1/streams/system/logs", content=body.encode(), headers=headers))
        require("accepted entries of a batch", body.count("\n") + 1, answer["accepted"])
    seconds = time.perf_counter() - began
    heading(f"Stream system: {len(records):,} real lines of {found.name}", seconds)
    say(f"  acknowledged means on disk: {len(records) / seconds:,.0f} entries a second, with fsync")
    return records


def ask_stream(store: httpx.Client, records: Sequence[Record], since: datetime) -> None:
    path = "/api/v1/streams/system/logs"
    window = {"from": since.isoformat(), "to": (datetime.now(UTC) + timedelta(seconds=1)).isoformat()}
    require("entries", len(records), answered(store.get(f"{path}/count", params=window))["count"])
    expected = Counter(record["level"] for record in records)
    shown = []
    for level in LEVELS:
        indexing = {"indexing": json.dumps({"level": [level]})}
        count = answered(store.get(f"{path}/count", params=window | indexing))["count"]
        require(f"entries of level {level}", expected[level], count)
        shown += [f"{level} {count:,}"] if count else []
    say(f"  counted back: {', '.join(shown)}; the newest:")
    newest = answered(store.get(path, params=window | {"limit": str(NEWEST)}))["records"]
    last = {record["message"] for record in records[-BATCH_LINES:]}
    for record in newest:
        fields = record["fields"]
        require("a newest entry is one of the last that were written", True, fields["message"] in last)
        said_at = fields.get("time") or fields.get("said_at") or record["timestamp"]
        say(f"    [dim]{said_at}[/] {shortened(fields['message'])}")


# -- the LogStore -----------------------------------------------------------------------------------------------------


def feed_request_logs(store: httpx.Client, logs: Sequence[RequestLog]) -> None:
    began = time.perf_counter()
    result = answered(store.post("/v1/request-logs", json=list(logs)))
    require("request logs created", len(logs), result["created"])
    again = answered(store.post("/v1/request-logs", json=list(logs)))
    require("request logs created by a repetition", 0, again["created"])
    heading(f"LogStore gateway: {len(logs)} request logs, sent twice, kept once", time.perf_counter() - began)


def ask_request_logs(store: httpx.Client, logs: Sequence[RequestLog]) -> None:
    window = {"start_time": logs[0]["timestamp"], "end_time": (datetime.now(UTC) + timedelta(seconds=1)).isoformat()}
    failed = [log for log in logs if log["status"] == "error" and log["provider"] == "openai"]
    search = window | {"provider": "openai", "status": "error", "limit": "1000"}
    found = answered(store.get("/v1/request-logs", params=search))["logs"]
    require(
        "failed requests to openai, newest first", [log["id"] for log in reversed(failed)], [f["id"] for f in found]
    )
    say(f"  searched: {len(found)} failed requests to openai, the newest: {found[0]['error_message']}")
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    for title in ("  provider", "requests", "succeeded", "mean latency", "tokens", "cost"):
        table.add_column(title, justify="left" if title == "  provider" else "right")
    for provider in sorted({log["provider"] for log in logs}):
        stats = answered(store.get("/v1/request-logs/stats", params=window | {"provider": provider}))
        require_stats(stats, [log for log in logs if log["provider"] == provider])
        latency, cost = f"{stats['average_latency_ms']:,.0f} ms", f"${stats['total_cost']:.4f}"
        numbers = (
            f"{stats['total_requests']}",
            f"{stats['success_rate']:.1f} %",
            latency,
            f"{stats['total_tokens']:,}",
        )
        table.add_row(f"  {provider}", *numbers, cost)
    console.print(table)


def require_stats(stats: dict[str, Any], logs: Sequence[RequestLog]) -> None:
    require("requests", len(logs), stats["total_requests"])
    require("tokens", sum(log.get("total_tokens", 0) for log in logs), stats["total_tokens"])
    require("cost", round(sum(log.get("cost", 0.0) for log in logs), 6), round(stats["total_cost"], 6))
    succeeded = sum(log["status"] == "success" for log in logs)
    require("success rate", round(100 * succeeded / len(logs), 6), round(stats["success_rate"], 6))


# -- the RuntimeStore -------------------------------------------------------------------------------------------------


def feed_usage(store: httpx.Client, logs: Sequence[RequestLog]) -> None:
    began = time.perf_counter()
    increments = [
        {"provider": provider, "key": key, "metric": metric, "delta": amount}
        for (provider, key, metric), amount in usage(list(logs)).items()
    ]
    answered(store.post("/v1/increments", json={"increments": increments, "op_id": "demo"}))
    again = answered(store.post("/v1/increments", json={"increments": increments, "op_id": "demo"}))
    require("a repeated operation counts again", False, again["applied"])
    answered(store.put("/cache/answers/write-ahead-log", json={"value": ANSWER, "ttl_seconds": 60}))
    heading(f"RuntimeStore limits: {len(increments)} counters and a cached answer", time.perf_counter() - began)


def ask_usage(store: httpx.Client, logs: Sequence[RequestLog]) -> None:
    counted = usage(list(logs))
    windows = [{"provider": p, "key": k, "metric": m, "seconds": 60} for p, k, m in counted]
    values = answered(store.post("/v1/windows", json={"windows": windows}))["values"]
    require("usage of the last minute", [float(amount) for amount in counted.values()], values)
    (provider, key, _), _ = counted.most_common(1)[0]
    tokens = store.get(f"/usage/{provider}/{key}/tokens/window", params={"seconds": 60}).text
    say(f"  {provider}/{key} used {float(tokens):,.0f} tokens within the last minute")
    hit = answered(store.get("/cache/answers/write-ahead-log"))["value"]
    require("cached answer", ANSWER, hit)
    require("status of a miss", 404, store.get("/cache/answers/never-asked").status_code)
    say(f"  cache hit for “{shortened(QUESTION)}”")


# -- telling ----------------------------------------------------------------------------------------------------------


def heading(title: str, seconds: float) -> None:
    say(f"\n[bold]{title}[/] [dim]{seconds:.1f} s[/]")


def say(text: str) -> None:
    """Rich's markup; lines are never broken, so that output in a file stays as it is."""
    console.print(text, soft_wrap=True)


def shortened(text: str, characters: int = 88) -> str:
    text = text.replace("[", r"\[")
    return text if len(text) <= characters else text[: characters - 1] + "…"


def tell_how_to_go_on(state: Path, resources: dict[str, dict[str, Any]]) -> None:
    gateway = resources["gateway"]
    token = shlex.quote(gateway["tokenFile"])
    say("\n[bold]still running[/]")
    for resource in resources.values():
        say(f"  {resource['kind']} {resource['name']}: {resource['url']}")
    lines = (
        f"token file: {gateway['tokenFile']}",
        f'curl -H "Authorization: Bearer $(cat {token})" {gateway["url"]}/api/v1/streams',
        f"storekeeper local status --state {shlex.quote(str(state))}",
        f"storekeeper local down --purge --state {shlex.quote(str(state))}",
    )
    for line in lines:
        console.print(f"  {line}", markup=False, soft_wrap=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="One YAML file becomes three running stores.")
    parser.add_argument("--file", type=Path, help="a log file to feed into the Stream, instead of this machine's own")
    file, keep = parser.parse_args().file, os.environ.get("KEEP") == "1"
    if file is not None and not (file.is_file() and os.access(file, os.R_OK)):
        parser.error(f"{file} is not a file that can be read")
    state = Path(tempfile.mkdtemp(prefix="storekeeper-demo-")) / "state"
    began, since = time.perf_counter(), datetime.now(UTC)
    try:
        with three_stores(state, keep) as resources:
            found = source(file, last_resort=state / "logs" / "supervisor.log")
            logs = request_logs(REQUEST_LOGS, until=datetime.now(UTC))
            with client(resources["gateway"]) as gateway, client(resources["limits"]) as limits:
                ask_stream(gateway, feed_stream(gateway, found), since)
                feed_request_logs(gateway, logs)
                ask_request_logs(gateway, logs)
                feed_usage(limits, logs)
                ask_usage(limits, logs)
            if keep:
                tell_how_to_go_on(state, resources)
    except (WrongAnswer, OSError, httpx.HTTPError) as error:
        say(f"\n[red bold]not right:[/] {error}")
        return 1
    finally:
        if not keep:
            with suppress(OSError):  # a state that could not be removed has said so itself
                state.parent.rmdir()
    heading("all answers were right", time.perf_counter() - began)
    return 0


if __name__ == "__main__":
    sys.exit(main())
