"""The signing key is made once, is private from its first byte, and is never read by the command that makes it."""

import base64
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from storekeeper.cli import app
from storekeeper.execute.tokens import Signer

from .api_server import ApiServer, Reply, refusal


@pytest.fixture
def cli() -> CliRunner:
    return CliRunner()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    server = ApiServer()
    config = tmp_path / "kubeconfig"
    config.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": server.url}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )
    )
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(config))
    yield server
    server.close()


def test_a_file_is_private_and_a_key(cli: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "keys" / "private.pem"
    done = cli.invoke(app, ["keygen", "--file", str(file)])
    assert (done.exit_code, "wrote a new signing key" in done.output) == (0, True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Signer.from_file(file).public_pem.startswith("-----BEGIN PUBLIC KEY-----")
    assert "PRIVATE" not in done.output


def test_a_file_that_is_there_is_left_alone(cli: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "private.pem"
    file.write_text("mine")
    done = cli.invoke(app, ["keygen", "--file", str(file)])
    assert (done.exit_code, file.read_text()) == (0, "mine")
    assert "left as it is" in done.output


def test_a_secret_is_posted_and_nothing_is_read(cli: CliRunner, server: ApiServer, tmp_path: Path) -> None:
    server.answer = lambda _: Reply(201, {})
    done = cli.invoke(app, ["keygen", "--secret", "signing", "--namespace", "ops"])
    assert done.exit_code == 0
    [request] = server.requests
    assert (request.method, request.path) == ("POST", "/api/v1/namespaces/ops/secrets")
    assert request.body["metadata"]["name"] == "signing"
    file = tmp_path / "private.pem"
    file.write_bytes(base64.b64decode(request.body["data"]["private.pem"]))
    assert Signer.from_file(file).public_pem.encode() == base64.b64decode(request.body["data"]["public.pem"])
    assert "PRIVATE" not in done.output


def test_a_secret_that_is_there_is_left_alone(cli: CliRunner, server: ApiServer) -> None:
    server.answer = lambda _: refusal(409, "AlreadyExists")
    done = cli.invoke(app, ["keygen", "--secret", "signing"])
    assert done.exit_code == 0
    assert "left as it is" in done.output


def test_a_refusal_fails_the_hook(cli: CliRunner, server: ApiServer) -> None:
    server.answer = lambda _: refusal(403, "Forbidden")
    assert cli.invoke(app, ["keygen", "--secret", "signing"]).exit_code == 1


@pytest.mark.parametrize("arguments", [[], ["--file", "a", "--secret", "b"]])
def test_one_place_is_asked_for(cli: CliRunner, arguments: list[str]) -> None:
    assert cli.invoke(app, ["keygen", *arguments]).exit_code == 2
