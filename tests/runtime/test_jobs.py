"""What jobs do when things go wrong: patience, reports that fit, and exit statuses that tell what to do."""

import json

import pytest

from store_runtime.config.runtime import RuntimeStoreConfig
from store_runtime.config.wire import REPORT_BYTES_MAX, JobName, JobReport, RetainRequest, RetainResult, Role
from store_runtime.errors import (
    BackendUnreachable,
    Conflict,
    Corrupt,
    InvalidInput,
    NotFound,
    OwnedByAnother,
    SchemaTooNew,
    StoreError,
)
from store_runtime.jobs import kinds, lifecycle
from store_runtime.jobs.check import check
from store_runtime.jobs.kinds import Runtime, open_runtime
from store_runtime.jobs.lifecycle import run_job
from store_runtime.jobs.patience import DELAY_SECONDS_MAX, FIRST_DELAY_SECONDS, PATIENCE_SECONDS, patiently
from store_runtime.jobs.report import (
    MESSAGE_CHARS_MAX,
    OK,
    REFUSED,
    RETRYABLE,
    USAGE,
    encode,
    exit_status,
    failed,
    leave,
)
from store_runtime.jobs.retain import load_policy, retain
from tests.runtime.serving import usage_store_config


class Time:
    """Sleeping moves the clock."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds

    def monotonic(self) -> float:
        return self.seconds


class Backend:
    """Unreachable until `back_at`."""

    def __init__(self, time: Time, back_at: float) -> None:
        self.time, self.back_at, self.calls = time, back_at, 0

    def call(self, what: str) -> str:
        self.calls += 1
        if self.time.seconds < self.back_at:
            raise BackendUnreachable("no route")
        return what


# -- patience -----------------------------------------------------------------------------------------------------


def test_a_database_that_comes_back_is_waited_for_with_growing_delays():
    time = Time()
    backend = Backend(time, back_at=7)
    assert patiently(backend.call, "done", sleep=time.sleep, monotonic=time.monotonic) == "done"
    assert time.slept[:3] == [FIRST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2, FIRST_DELAY_SECONDS * 4]
    assert max(time.slept) <= DELAY_SECONDS_MAX


def test_a_database_that_stays_away_is_given_up_in_time():
    time = Time()
    backend = Backend(time, back_at=1e9)
    with pytest.raises(BackendUnreachable):
        patiently(backend.call, "done", sleep=time.sleep, monotonic=time.monotonic)
    assert PATIENCE_SECONDS - DELAY_SECONDS_MAX <= time.seconds <= PATIENCE_SECONDS
    assert backend.calls < 20


@pytest.mark.parametrize(
    "error",
    [
        OwnedByAnother("x"), InvalidInput("x"), Conflict("x"), ValueError("x"),
        BackendUnreachable("it answers, but not to us", code="InsufficientPrivileges"),
    ],
)  # fmt: skip
def test_nothing_else_is_tried_again(error):
    def call() -> None:
        raise error

    with pytest.raises(type(error)):
        patiently(call, sleep=lambda _: pytest.fail("slept"))


# -- reports ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BackendUnreachable("x"), RETRYABLE),
        (Conflict("x"), RETRYABLE),
        (NotFound("x"), RETRYABLE),
        (Corrupt("x"), RETRYABLE),
        (ValueError("x"), RETRYABLE),
        (InvalidInput("x"), USAGE),
        (OwnedByAnother("x"), REFUSED),
        (SchemaTooNew("x"), REFUSED),
        (StoreError("x", code="InsufficientPrivileges"), REFUSED),
        (BackendUnreachable("x", code="AuthenticationFailed"), REFUSED),
        (BackendUnreachable("x", code="DatabaseMissing"), REFUSED),
        (Conflict("x", code="Released"), REFUSED),
    ],
)
def test_the_exit_status_tells_a_retry_from_a_refusal(error, status):
    report = failed(JobReport(job=JobName.PROVISION, ok=True), error)
    assert not report.ok
    assert exit_status(report.code) == status


def test_a_good_end_is_zero():
    assert exit_status("") == OK


@pytest.mark.parametrize("text", ["x" * 100_000, "ü🎉" * 50_000, "\x00\x1f" * 50_000, '"\\' * 50_000])
def test_a_report_fits_a_termination_message_whatever_was_said(text):
    report = failed(JobReport(job=JobName.MIGRATE, ok=True, store_id="s" * 64), StoreError(text))
    encoded = encode(report)
    assert len(encoded) <= REPORT_BYTES_MAX
    found = JobReport.model_validate_json(encoded)
    assert (found.code, found.store_id) == ("InternalError", "s" * 64)
    assert 300 < len(found.message) <= MESSAGE_CHARS_MAX


def test_the_words_of_an_unexpected_error_stay_in_the_log():
    report = failed(JobReport(job=JobName.MIGRATE, ok=True), ValueError("password=hunter2"))
    assert "hunter2" not in encode(report).decode()
    assert "ValueError" in report.message


def test_a_report_replaces_the_one_before(tmp_path):
    path = tmp_path / "report"
    leave(failed(JobReport(job=JobName.MIGRATE, ok=True), StoreError("x" * 900)), path)
    leave(JobReport(job=JobName.MIGRATE, ok=True), path)
    assert JobReport.model_validate_json(path.read_bytes()).ok


# -- a store's life -----------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path):
    return RuntimeStoreConfig.model_validate(usage_store_config(tmp_path))


def test_each_job_can_be_run_again(config, tmp_path):
    for _ in range(2):
        report = run_job(JobName.PROVISION, config)
        assert (report.ok, report.store_id, report.role, report.epoch) == (True, "store-1", Role.ACTIVE, 1), report
    for _ in range(2):
        report = run_job(JobName.MIGRATE, config)
        assert (report.ok, report.schema_version) == (True, "1")
    for _ in range(2):
        report = run_job(JobName.RELEASE, config)
        assert report.ok
        assert "adoptStoreID: store-1" in report.message
    adopter = config.model_copy(update={"store": config.store.model_copy(update={"owner": "owner-2"})})
    assert run_job(JobName.PROVISION, adopter).ok
    not_ours = run_job(JobName.DESTROY, config)
    assert (not_ours.ok, "nothing of store-1" in not_ours.message) == (True, True)
    assert any((tmp_path / "usage").iterdir()), "it is somebody else's now"
    for _ in range(2):
        assert run_job(JobName.DESTROY, adopter).ok
    assert not list((tmp_path / "usage").glob("*"))


def test_somebody_elses_data_is_refused_by_every_job_that_would_change_it(config):
    assert run_job(JobName.PROVISION, config).ok
    other = config.model_copy(update={"store": config.store.model_copy(update={"id": "store-2", "owner": "owner-2"})})
    for job in (JobName.PROVISION, JobName.MIGRATE):
        assert (run_job(job, other).code, job) == ("OwnedByAnother", job)
    for job in (JobName.RELEASE, JobName.DESTROY):
        assert run_job(job, other).ok, "there is nothing of its own to let go"
    (part,) = check(config).parts
    assert (part.reachable, part.store_id, part.role) == (True, "store-1", Role.ACTIVE)


def test_an_unexpected_failure_is_a_report_too(config, monkeypatch):
    def fail(_):
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(kinds.openings(config)[0], "provision", fail)
    report = run_job(JobName.PROVISION, config)
    assert (report.ok, report.code) == (False, "InternalError")
    assert "hunter2" not in report.message


class Part:
    """An opening that records what was asked of it."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self.calls = name, calls

    def release(self, _) -> None:
        self.calls.append(f"release {self.name}")

    def destroy(self, _) -> None:
        self.calls.append(f"destroy {self.name}")


def test_what_identifies_a_store_goes_last(config, monkeypatch):
    calls: list[str] = []
    monkeypatch.setattr(lifecycle, "openings", lambda _: (Part("logs", calls), Part("entries", calls)))
    assert run_job(JobName.RELEASE, config).ok
    assert run_job(JobName.DESTROY, config).ok
    assert calls == ["release entries", "release logs", "destroy entries", "destroy logs"]


def test_a_store_that_cannot_be_opened_wholly_is_closed_again(config, monkeypatch):
    closed: list[str] = []

    class Opens:
        def open_store(self, *_):
            return self

        def close(self) -> None:
            closed.append("logs")

    class Fails:
        def open_store(self, *_):
            raise OwnedByAnother("x")

    monkeypatch.setattr(kinds, "openings", lambda _: (Opens(), Fails()))
    with pytest.raises(OwnedByAnother):
        open_runtime(config, None)
    assert closed == ["logs"]


def test_closing_goes_on_when_one_store_fails_to(config):
    closed: list[str] = []

    class Fails:
        def close(self) -> None:
            closed.append("logs")
            raise OSError

    class Closes:
        def close(self) -> None:
            closed.append("entries")

    with pytest.raises(OSError):
        Runtime(config, Fails(), Closes()).close()
    assert sorted(closed) == ["entries", "logs"]


# -- retention ----------------------------------------------------------------------------------------------------


class Retaining:
    def __init__(self, result: RetainResult) -> None:
        self.result, self.asked = result, []

    def retain(self, *arguments, dry_run: bool) -> RetainResult:
        self.asked.append((*arguments, dry_run))
        return self.result


def test_retention_concerns_all_parts_of_a_log_store():
    logs, streams = Retaining(RetainResult(expired=3, payloads=2)), Retaining(RetainResult(expired=4, segments=1))
    request = RetainRequest(dry_run=True)
    found = retain(Runtime(None, logs, streams), request)
    assert found == RetainResult(expired=7, payloads=2, segments=1)
    assert logs.asked == [(request.retention, True)]
    assert streams.asked == [(True,)]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{", ""),
        ('{"maxAge": "5 minutes"}', "maxAge"),
        ('{"maxAgee": "5m"}', "maxAgee"),
        ('{"maxSize": -1}', "maxSize"),
    ],
)
def test_a_policy_that_is_wrong_names_the_field(tmp_path, text, field):
    path = tmp_path / "policy.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=str(path)) as raised:
        load_policy(path)
    assert raised.value.field == field


def test_a_policy_is_read(tmp_path):
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"maxAge": "720h", "maxSize": "50Gi"}))
    policy = load_policy(path)
    assert (policy.max_age.days, policy.max_size) == (30, 50 * 2**30)
