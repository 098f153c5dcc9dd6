"""Settings come from the environment; a wrong one is named."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from storekeeper.settings import Settings


def settings(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(f"STOREKEEPER_{name}", value)
    return Settings()


def test_without_any_it_serves_its_own_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch, NAMESPACE="ops").watched_namespaces == ("ops",)


def test_namespaces_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch, NAMESPACES="a, b,,c").watched_namespaces == ("a", "b", "c")


def test_cluster_wide_is_one_watch_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch, CLUSTER_WIDE="true").watched_namespaces == (None,)


def test_cluster_wide_and_namespaces_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="exclude each other"):
        settings(monkeypatch, CLUSTER_WIDE="true", NAMESPACES="a")


def test_limits_are_checked_and_the_field_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError) as error:
        settings(monkeypatch, CONCURRENCY="0")
    assert error.value.errors()[0]["loc"] == ("concurrency",)


def test_files_are_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch, SIGNING_KEY_FILE="/k/private.pem").signing_key_file == Path("/k/private.pem")
