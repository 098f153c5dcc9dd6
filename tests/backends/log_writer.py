"""Writes batches of request logs until it is killed or the disk is full: python log_writer.py <file> <name>.

Each acknowledged batch is printed as a JSON array of its ids. With --file-bytes-max no file may grow beyond that; the
error that then comes is printed as a JSON object, and whether the store can still be read.
"""

import argparse
import json
import resource
import sys
from pathlib import Path

from store_runtime.errors import StoreError
from store_runtime.logging import LogLevel, configure_logs
from tests.backends.test_log_store_sqlite import SqliteHarness
from tests.conformance.log_store import document

BATCH = 20


def write_all(path: Path, name: str) -> None:
    store = SqliteHarness(path).open()
    number = 0
    try:
        while True:
            ids = [f"{name}-{number}-{item}" for item in range(BATCH)]
            store.create_many([document(id_, payload={"of": id_, "x": "x" * 500}) for id_ in ids])
            print(json.dumps(ids), flush=True)
            number += 1
    except StoreError as error:
        readable = store.search().logs != () and store.get(f"{name}-0-0").payload is not None
        print(json.dumps({"code": error.specific_code, "readable": readable}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("name")
    parser.add_argument("--file-bytes-max", type=int, default=0)
    arguments = parser.parse_args()
    configure_logs(LogLevel.ERROR)
    if arguments.file_bytes_max:
        resource.setrlimit(resource.RLIMIT_FSIZE, (arguments.file_bytes_max, resource.RLIM_INFINITY))
    write_all(arguments.path, arguments.name)


if __name__ == "__main__":
    sys.exit(main())
