"""`storekeeper keygen`: the key that signs every token, made once and never read by this command.

In the cluster it is a Secret that is POSTed by a Helm hook whose Role may create Secrets and nothing else.
"""

import base64
import os
import sys
from pathlib import Path

from storekeeper.adapters.cluster import ClusterError
from storekeeper.adapters.kubernetes_api import connect, path
from storekeeper.cli.logs import configure_logs
from storekeeper.execute.tokens import new_key, private_pem, public_pem
from storekeeper.manifests.objects import LABEL_NAME
from storekeeper.settings import LogFormat, LogLevel

PRIVATE_FILE = "private.pem"
PUBLIC_FILE = "public.pem"
PRIVATE_MODE = 0o600


def into_file(file: Path) -> int:
    """Exclusively and with 0600 from the first byte; a file that is there is left alone."""
    pem = private_pem(new_key())
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
    except FileExistsError:
        return _say(f"{file} is there already and was left as it is")
    except OSError as error:
        return _fail(f"cannot write {file}: {error.strerror}")
    with os.fdopen(handle, "wb") as stream:
        stream.write(pem)
        stream.flush()
        os.fsync(stream.fileno())
    return _say(f"wrote a new signing key to {file}")


def into_cluster(name: str, namespace: str) -> int:
    """POST the Secret; one that is there is left alone."""
    configure_logs(LogLevel.WARNING, LogFormat.CONSOLE)
    key = new_key()
    data = {PRIVATE_FILE: private_pem(key), PUBLIC_FILE: public_pem(key).encode()}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "immutable": True,
        "metadata": {"name": name, "namespace": namespace, "labels": {LABEL_NAME: "storekeeper"}},
        "data": {file: base64.b64encode(value).decode() for file, value in data.items()},
    }
    try:
        connect(pool_size=1).request("POST", "Secret", path("Secret", namespace), body=secret)
    except ClusterError as error:
        if error.code == "AlreadyExists":
            return _say(f"the Secret {namespace}/{name} is there already and was left as it is")
        return _fail(str(error))
    return _say(f"created the Secret {namespace}/{name} with a new signing key")


def _say(message: str) -> int:
    print(message)  # noqa: T201
    return 0


def _fail(message: str) -> int:
    print(f"storekeeper keygen: {message}", file=sys.stderr)  # noqa: T201
    return 1
