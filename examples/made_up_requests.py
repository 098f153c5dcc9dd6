"""Request logs as a gateway would write them: made up, the same at every run, with sums that can be checked.

Used by quickstart.py. Three providers, five models, some failures; prices are round numbers.
"""

import random
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

SEED = 20_260_101
MODELS = (
    # provider, model, dollars per million tokens (in, out), typical latency in ms
    ("openai", "gpt-4o", 2.5, 10.0, 900),
    ("openai", "gpt-4o-mini", 0.15, 0.6, 400),
    ("anthropic", "claude-sonnet", 3.0, 15.0, 1_100),
    ("anthropic", "claude-haiku", 0.8, 4.0, 500),
    ("mistral", "mistral-large", 2.0, 6.0, 700),
)
QUESTIONS = (
    "Summarise the incident of last night in three sentences.",
    "Translate this error message for a customer: connection reset by peer.",
    "Write a regular expression that matches an ISO 8601 date.",
    "Which of these invoices is overdue, and by how many days?",
    "Explain a write-ahead log to somebody who knows spreadsheets.",
)
ERRORS = ("rate limit reached, retry after 2 s", "upstream timed out after 30 s", "context length exceeded")
FAILURES_IN_A_HUNDRED = 8

RequestLog = dict[str, Any]


def request_logs(count: int, until: datetime) -> list[RequestLog]:
    """`count` requests, two seconds apart, the last one shortly before `until`."""
    chance = random.Random(SEED)  # the same story at every run
    begin = until - timedelta(seconds=2 * count)
    return [_request_log(chance, number, begin + timedelta(seconds=2 * number)) for number in range(count)]


def _request_log(chance: random.Random, number: int, at: datetime) -> RequestLog:
    provider, model, dollars_in, dollars_out, typical_ms = chance.choice(MODELS)
    question = chance.choice(QUESTIONS)
    prompt_tokens, completion_tokens = chance.randint(40, 900), chance.randint(20, 600)
    failed = chance.randrange(100) < FAILURES_IN_A_HUNDRED
    log: RequestLog = {
        "id": f"request-{number:04d}",
        "timestamp": at.isoformat(),
        "object_type": "chat.completion",
        "provider": provider,
        "model": model,
        "status": "error" if failed else "success",
        "latency_ms": round(typical_ms * chance.uniform(0.5, 2.5), 1),
        "virtual_key_id": f"team-{chance.randint(1, 3)}",
        "payload": {"input": [{"role": "user", "content": question}]},
    }
    if failed:
        return log | {"error_message": chance.choice(ERRORS), "number_of_retries": 1}
    return log | {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "cost": (prompt_tokens * dollars_in + completion_tokens * dollars_out) / 1e6,
        "stop_reason": "stop",
    }


def usage(logs: list[RequestLog]) -> Counter[tuple[str, str, str]]:
    """What the gateway counts: (provider, key, metric) → amount."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for log in logs:
        key = (log["provider"], log["virtual_key_id"])
        counted[(*key, "req")] += 1
        counted[(*key, "tokens")] += log.get("total_tokens", 0)
        counted[(*key, "errors")] += log["status"] == "error"
    return +counted
