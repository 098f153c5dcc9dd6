"""A process that counts on a file store, for test_runtime_store_file: prints the number of each increment that was
acknowledged (its op_id is `<name>-<number>`), or at the first error one JSON line about it."""

import argparse
import json
import logging
import resource
import sys
import threading
from itertools import count
from pathlib import Path

import structlog

from store_runtime.clock import SystemClock
from store_runtime.config.runtime import DEFAULT_WINDOWS, Cache
from store_runtime.errors import StoreError
from store_runtime.runtimestore.drivers.file import JOURNAL_BYTES_MAX, FileDriver
from store_runtime.runtimestore.model import Increment, Limits
from store_runtime.runtimestore.store import RuntimeStore


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("name")
    parser.add_argument("increments", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--journal-bytes-max", type=int, default=JOURNAL_BYTES_MAX)
    parser.add_argument("--file-bytes-max", type=int, default=resource.RLIM_INFINITY)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    resource.setrlimit(resource.RLIMIT_FSIZE, (arguments.file_bytes_max, arguments.file_bytes_max))
    driver = FileDriver(arguments.directory, Limits(), journal_bytes_max=arguments.journal_bytes_max)
    store = RuntimeStore(driver, DEFAULT_WINDOWS, Cache(), SystemClock())
    numbers = count()
    threads = [
        threading.Thread(target=write, args=(store, arguments.name, numbers, arguments.increments))
        for _ in range(arguments.threads)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def write(store: RuntimeStore, name: str, numbers: "count[int]", increments: int) -> None:
    items = [Increment("p", name, "m", 1), Increment("p", "all", "m", 1)]
    while (number := next(numbers)) < increments:
        try:
            store.increment_many(items, op_id=f"{name}-{number}")
        except StoreError as error:
            print(json.dumps({"error": error.code, "counted": store.get_usage("p", name, "m"), "then": again(store)}))
            return
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


def again(store: RuntimeStore) -> str:
    try:
        store.cache_set("ns", "k", "x" * 1000, 0)
    except StoreError as error:
        return error.code
    return ""


if __name__ == "__main__":
    main()
