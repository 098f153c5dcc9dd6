"""The runtime's own log: structlog and the standard library's loggers, as one JSON line an event, on standard error.

Standard output belongs to what a command has to say. Values that may be secret are never logged, by the callers' rule;
nothing here could find them out.
"""

import logging
import sys
from enum import StrEnum

import structlog
from structlog.typing import Processor

QUIET = {"asyncio": "WARNING", "httpx": "WARNING", "alembic": "WARNING"}
"""Libraries that say at INFO what we say ourselves, or what nobody asked."""


class LogLevel(StrEnum):
    """From which level on."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """`auto` is text for a terminal and JSON for everything else."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


def configure_logs(level: LogLevel = LogLevel.INFO, form: LogFormat = LogFormat.AUTO) -> None:
    """To be called once, before stores are opened: their loggers are bound then."""
    text = form is LogFormat.TEXT or (form is LogFormat.AUTO and sys.stderr.isatty())
    number = logging.getLevelNamesMapping()[level.value.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Tracebacks as text: structlog's structured ones show local variables, and with them bodies and passwords.
    rendered = structlog.dev.ConsoleRenderer() if text else structlog.processors.JSONRenderer()
    ending: list[Processor] = [structlog.processors.format_exc_info, rendered]
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    _adopt_standard_loggers(number, shared, ending)


def _adopt_standard_loggers(number: int, shared: list[Processor], ending: list[Processor]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    logging.basicConfig(level=number, handlers=[handler], force=True)
    for name, quiet in QUIET.items():
        logging.getLogger(name).setLevel(max(number, logging.getLevelNamesMapping()[quiet]))
