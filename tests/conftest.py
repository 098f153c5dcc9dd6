"""In CI nothing is skipped: what a machine lacks is a failure there, and not a test that nobody misses.

And what a test does to logging, which belongs to the whole process, ends with it.
"""

import logging
import os
from collections.abc import Generator, Iterator

import pytest
import structlog


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and in CI nothing may be: {call.excinfo.value if call.excinfo else 'no reason'}"
    return report


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Commands configure logging for their whole process; here a process runs many of them."""
    root = logging.getLogger()
    level, before = root.level, {id(handler) for handler in root.handlers}
    yield
    for handler in list(root.handlers):
        if id(handler) not in before and not type(handler).__module__.startswith("_pytest"):
            root.removeHandler(handler)
    root.setLevel(level)
    structlog.reset_defaults()
