"""The quickstart, as `make demo` runs it, and how it reads the log lines of any machine."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    """A module of the examples, which are programs and no package."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


machine_logs = load("machine_logs")
made_up_requests = load("made_up_requests")
quickstart = load("quickstart")


@pytest.mark.parametrize(
    ("line", "record"),
    [
        (
            "2026-01-02 03:04:05 status installed libgpg-error0:amd64 1.46",
            {"time": "2026-01-02 03:04:05", "level": "debug", "action": "status", "unit": "dpkg"},
        ),
        (
            "2026-01-02 03:04:05 upgrade libc6:amd64 2.36 2.37",
            {"time": "2026-01-02 03:04:05", "level": "info", "action": "upgrade", "unit": "dpkg"},
        ),
        (
            "2026-01-02T03:04:05+0000 host sshd[17]: error: kex failed",
            {"time": "2026-01-02T03:04:05+0000", "level": "error", "unit": "sshd", "message": "error: kex failed"},
        ),
        (
            "2026-01-02T03:04:05.123456+01:00 host kernel: warning: hot",
            {"time": "2026-01-02T03:04:05.123456+01:00", "level": "warning", "unit": "kernel"},
        ),
        ("Nov  1 09:23:11 host cron[12]: all is well", {"said_at": "Nov  1 09:23:11", "unit": "cron", "level": "info"}),
        ("no format [at all", {"message": "no format [at all", "unit": "dpkg", "level": "info"}),
    ],
)
def test_lines_of_known_formats_keep_their_time_and_unit(line: str, record: dict[str, str]) -> None:
    found = machine_logs.record_of(line, "dpkg")
    assert {key: found.get(key) for key in record} == record
    assert found["message"]


def test_newest_lines_of_a_file_are_read_and_blank_ones_are_not(tmp_path: Path) -> None:
    path = tmp_path / "my.log"
    path.write_text("\n".join(f"line {number}\n" for number in range(machine_logs.LINES_MAX + 10)))
    found = machine_logs.source(path, tmp_path / "unused")
    assert len(found.lines) == machine_logs.LINES_MAX
    assert found.lines[-1] == f"line {machine_logs.LINES_MAX + 9}"


def test_machine_without_logs_shows_the_supervisors_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_logs, "FILES", (tmp_path / "absent",))
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "supervisor.log").write_text("started\n")
    assert machine_logs.source(None, tmp_path / "supervisor.log").lines == ["started"]


def test_made_up_requests_are_the_same_at_every_run() -> None:
    at = quickstart.datetime(2026, 1, 1, tzinfo=quickstart.UTC)
    logs = made_up_requests.request_logs(200, at)
    assert logs == made_up_requests.request_logs(200, at)
    assert len({log["provider"] for log in logs}) == 3
    assert len({log["model"] for log in logs}) == 5
    counted = made_up_requests.usage(logs)
    assert sum(amount for (_, _, metric), amount in counted.items() if metric == "req") == 200


def test_wrong_answer_is_an_error() -> None:
    with pytest.raises(quickstart.WrongAnswer, match=r"entries: expected 2, the store says 1"):
        quickstart.require("entries", 2, 1)


def run(tmp_path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """In a folder of its own for temporary files, so that what stays behind shows."""
    command = [sys.executable, str(EXAMPLES / "quickstart.py"), *arguments]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


def test_quickstart_feeds_a_file_asks_it_back_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    log = tmp_path / "my.log"
    log.write_text("one\nFATAL: two\n2026-01-02 03:04:05 status three [x]\n")
    done = run(tmp_path / "tmp", "--file", str(log))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"3 real lines of {log}" in done.stdout
    assert "error 1, info 1, debug 1" in done.stdout
    assert "status three [x]" in done.stdout
    assert "all answers were right" in done.stdout
    assert list((tmp_path / "tmp").iterdir()) == []


def test_file_that_cannot_be_read_is_said_before_anything_starts(tmp_path: Path) -> None:
    done = run(tmp_path, "--file", str(tmp_path / "absent.log"))
    assert done.returncode == 2
    assert "absent.log is not a file that can be read" in done.stderr
    assert list(tmp_path.iterdir()) == []
