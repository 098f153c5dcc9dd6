"""The command line: help that reads well, one line for an error, exit statuses, and a fast start."""

import json
import subprocess
import sys
import threading

import pytest

from store_runtime.config.wire import JobReport
from tests.runtime.serving import Served, free_ports, provision, run, token, usage_store_config, write_config

JOBS = ["provision", "migrate", "release", "destroy"]


@pytest.fixture
def config(tmp_path):
    return write_config(usage_store_config(tmp_path), tmp_path)


def test_help_names_every_command_and_the_exit_statuses():
    text = run("--help").stdout
    for command in ("serve", *JOBS, "retain", "check"):
        assert command in text
    assert "3 refused" in text


@pytest.mark.parametrize("command", ["serve", *JOBS, "retain", "check"])
def test_every_command_explains_itself(command):
    done = run(command, "--help")
    assert done.returncode == 0
    assert "--config" in done.stdout


def test_the_version():
    assert run("--version").stdout.startswith("store-runtime 0.")


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["provision", "--help"]])
def test_what_needs_no_store_imports_none(command):
    """Imports are what makes a command slow; a time would depend on the machine."""
    script = (
        "import sys\nfrom store_runtime.cli import app\n"
        f"try: app({command!r})\nexcept SystemExit: pass\n"
        "heavy = {'fastapi', 'granian', 'sqlalchemy', 'polars', 'pyarrow', 'duckdb', 'httpx', 'redis'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_a_job_leaves_one_report_and_says_a_line(config, tmp_path):
    report = tmp_path / "report.json"
    for job in JOBS:
        done = run(job, "--config", str(config), "--report", str(report))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"{job}: ")
        assert len(done.stdout.splitlines()) == 1
        found = JobReport.model_validate_json(report.read_bytes())
        assert (found.job.value, found.ok, found.store_id, found.code) == (job, True, "store-1", "")


def test_a_job_says_it_in_json_when_asked(config):
    done = run("provision", "--config", str(config), "-o", "json")
    assert JobReport.model_validate_json(done.stdout).ok


def test_a_refusal_is_one_line_an_exit_status_and_a_report(config, tmp_path):
    assert run("provision", "--config", str(config)).returncode == 0
    other = usage_store_config(tmp_path)
    other["store"] |= {"id": "store-2", "owner": "owner-2"}
    config.write_text(json.dumps(other))
    report = tmp_path / "report.json"
    done = run("provision", "--config", str(config), "--report", str(report))
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("store-runtime: provision: OwnedByAnother: ")
    assert "Traceback" not in done.stderr
    assert JobReport.model_validate_json(report.read_bytes()).code == "OwnedByAnother"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        ("{", "config.json"),
        ('{"kind": "Nothing"}', "kind"),
        (json.dumps(usage_store_config() | {"extra": 1}), "extra"),
    ],
)
@pytest.mark.parametrize("job", ["provision", "check"])
def test_a_config_that_is_wrong_is_usage(tmp_path, content, says, job):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    done = run(job, "--config", str(path))
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(tmp_path):
    done = run("--debug", "check", "--config", str(tmp_path / "none.json"))
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["provision"],
        ["--log-level", "loud", "check", "--config", "x"],
        ["retain", "--policy", "x"],
        ["retain", "--policy", "x", "--config", "x", "--url", "http://x"],
        ["retain", "--policy", "x", "--url", "http://x"],
        ["check", "--config", "x", "-o", "yaml"],
    ],
)
def test_wrong_usage_is_two(arguments):
    assert run(*arguments).returncode == 2


# -- check --------------------------------------------------------------------------------------------------------


def test_check_shows_a_table_or_json(config, tmp_path):
    provision(json.loads(config.read_text()), tmp_path)
    table = run("check", "--config", str(config))
    assert table.returncode == 0
    for word in ("RuntimeStore test/store", "file", "yes", "store-1", "active"):
        assert word in table.stdout
    found = json.loads(run("check", "--config", str(config), "-o", "json").stdout)
    assert found["parts"][0] == {
        "part": "store", "backend": "file", "reachable": True, "storeId": "store-1", "role": "active", "epoch": 1,
        "schemaVersion": "1", "code": "", "message": "",
    }  # fmt: skip


def test_check_of_nothing_creates_nothing(config, tmp_path):
    done = run("check", "--config", str(config))
    assert done.returncode == 1
    assert "NotFound" in done.stdout
    assert not (tmp_path / "usage").exists()


# -- retain through the serving store -----------------------------------------------------------------------------


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / "policy.json"
    path.write_text('{"maxAge": "720h"}')
    return path


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(token("RuntimeStore/test/store") + "\n")
    return path


def test_a_store_that_starts_while_it_is_asked_is_waited_for(tmp_path, policy, token_file):
    """And its own word, that it has nothing to retain, is the job's."""
    store = Served(usage_store_config(), tmp_path)
    report = tmp_path / "retain.json"
    answers = []

    def ask() -> None:
        answers.append(
            run("retain", "--url", store.url, "--token-file", str(token_file), "--policy", str(policy),
                "--report", str(report))
        )  # fmt: skip

    job = threading.Thread(target=ask)
    job.start()
    with store:
        job.join(60)
    assert answers[0].returncode == 1
    assert JobReport.model_validate_json(report.read_bytes()).code == "NothingToRetain"


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1", "http://"])
def test_what_is_no_url_is_usage(policy, token_file, url):
    done = run("retain", "--url", url, "--token-file", str(token_file), "--policy", str(policy))
    assert done.returncode == 2, done.stderr
    assert "URL" in done.stderr


def test_the_token_is_neither_shown_nor_reported(tmp_path, policy):
    path, report = tmp_path / "token", tmp_path / "report.json"
    path.write_text("secret-token\nwith a second line")
    (port,) = free_ports(1)
    done = run("--debug", "retain", "--url", f"http://127.0.0.1:{port}", "--token-file", str(path),
               "--policy", str(policy), "--report", str(report))  # fmt: skip
    assert done.returncode == 2
    assert "secret-token" not in done.stdout + done.stderr + report.read_text()


def test_a_token_that_is_not_there_is_named(tmp_path, policy):
    done = run("retain", "--url", "http://127.0.0.1", "--token-file", str(tmp_path / "x"), "--policy", str(policy))
    assert done.returncode == 2
    assert str(tmp_path / "x") in done.stderr
