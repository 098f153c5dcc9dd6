"""A LogStore on PostgreSQL, and what a platform team sees when its database or its Secret is not there."""

from datetime import UTC, datetime

import pytest

from tests.e2e.platform import Namespace, eventually
from tests.postgres_server import PostgresServer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def manifest(name: str, server: PostgresServer, database: str, secret: str) -> str:
    return (
        f"apiVersion: storekeeper.dev/v1alpha1\nkind: LogStore\nmetadata: {{name: {name}}}\nspec:\n"
        f"  backend:\n    type: postgres\n    postgres: {{host: {server.host}, port: {server.port},"
        f" database: {database}, sslMode: disable, credentialsSecretRef: {{name: {secret}}}}}\n"
        "  deletionPolicy: Delete\n"
    )


def secret(name: str, server: PostgresServer) -> str:
    return (
        f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\n"
        f"stringData: {{username: {server.user}, password: {server.password}}}\n"
    )


def test_a_missing_secret_is_named_and_recovers_by_itself(namespace: Namespace, postgres: PostgresServer) -> None:
    database = postgres.create_database()
    namespace.apply(manifest("late", postgres, database, "late-db"))
    message = namespace.wait_reason("logstore", "late", "Ready", "SecretMissing")
    assert "late-db" in message
    namespace.apply(secret("late-db", postgres))
    namespace.wait_ready("logstore", "late", seconds=300)
    with namespace.client("logstore", "late") as client:
        row = {
            "id": "a",
            "timestamp": datetime.now(UTC).isoformat(),
            "provider": "p",
            "model": "m",
            "status": "success",
        }
        assert client.post("/v1/request-logs", json=row).json()["created"] == 1


def test_a_database_that_comes_back_needs_no_restart(namespace: Namespace, postgres: PostgresServer) -> None:
    namespace.apply(secret("early-db", postgres))
    database = postgres.create_database()
    postgres.stop()
    try:
        namespace.apply(manifest("early", postgres, database, "early-db"))
        message = namespace.wait_reason("logstore", "early", "Ready", "BackendUnreachable")
        assert postgres.host in message
        assert postgres.password not in namespace.story("logstore", "early")
    finally:
        postgres.start()
    namespace.wait_ready("logstore", "early", seconds=400)
    pods = namespace.names("pod", "storekeeper.dev/name=early,!storekeeper.dev/job")
    uid = namespace.get("pod", pods[0])["metadata"]["uid"]
    postgres.stop()
    try:
        namespace.wait_reason("logstore", "early", "Ready", "BackendUnreachable")
    finally:
        postgres.start()
    namespace.wait_ready("logstore", "early")
    assert namespace.get("pod", pods[0])["metadata"]["uid"] == uid


def test_a_second_resource_cannot_claim_a_database(namespace: Namespace, postgres: PostgresServer) -> None:
    namespace.apply(secret("shared-db", postgres))
    database = postgres.create_database()
    namespace.apply(manifest("owner", postgres, database, "shared-db"))
    owner = namespace.wait_ready("logstore", "owner")
    namespace.apply(manifest("thief", postgres, database, "shared-db"))
    message = namespace.wait_reason("logstore", "thief", "Stalled", "OwnedByAnother")
    assert owner["metadata"]["uid"] in message
    assert not namespace.exists("deployment", "thief-logs")
    namespace.delete("logstore", "thief", "--timeout=120s")
    namespace.wait_ready("logstore", "owner")
    namespace.delete("logstore", "owner", "--timeout=180s")
    eventually(lambda: postgres.tables(database) == [], "deletionPolicy Delete drops the tables", 60)
