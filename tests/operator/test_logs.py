"""One JSON object a line, with the key; no secret slips in by a stack."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from storekeeper.cli.logs import configure_logs
from storekeeper.settings import LogFormat, LogLevel


@pytest.fixture(autouse=True)
def afterwards() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    yield
    structlog.reset_defaults()
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def fail_with_a_secret() -> None:
    token = "very-secret"
    raise ValueError(f"something of {len(token)} characters")


def test_lines_are_json_and_carry_the_object(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogLevel.INFO, LogFormat.JSON)
    with structlog.contextvars.bound_contextvars(object="LogStore n/a"):
        structlog.get_logger("storekeeper.x").info("step done", step="Apply")
        logging.getLogger("some.library").warning("said %s", "this")
    structlog.get_logger("storekeeper.x").debug("not at this level")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["event"], line["object"], line["level"]) for line in lines] == [
        ("step done", "LogStore n/a", "info"),
        ("said this", "LogStore n/a", "warning"),
    ]


@pytest.mark.parametrize("form", LogFormat)
def test_stacks_show_where_and_not_with_what(form: LogFormat, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogLevel.INFO, form)
    try:
        fail_with_a_secret()
    except ValueError:
        structlog.get_logger("storekeeper.x").exception("reconcile broke")
    said = capsys.readouterr().out
    assert "fail_with_a_secret" in said
    assert "something of 11 characters" in said
    assert "very-secret" not in said
