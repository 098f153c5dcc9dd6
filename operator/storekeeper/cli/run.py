"""`storekeeper run`: puts the operator together from its settings, and runs it until SIGTERM or SIGINT."""

import asyncio
import signal
import socket
import sys
import uuid

import structlog
from pydantic import ValidationError

from store_runtime.clock import SystemClock
from storekeeper.adapters.cluster import ClusterError
from storekeeper.adapters.kubernetes import KubernetesCluster
from storekeeper.adapters.kubernetes_api import KubernetesApi, connect
from storekeeper.adapters.runtime_api import RuntimeApi
from storekeeper.cli.logs import configure_logs
from storekeeper.cli.places import ClusterPlaces, ServiceAddresses
from storekeeper.execute.tokens import Signer, SigningKeyError
from storekeeper.handlers.operator import Operator
from storekeeper.metrics import Metrics
from storekeeper.observe.cache import Cache
from storekeeper.reconcile import Reconciler
from storekeeper.settings import Settings

EXIT_OK = 0
EXIT_CONFIG = 2
SPARE_CONNECTIONS = 4
"""Beside one a worker: the election, sweeps, the first lists."""

log = structlog.get_logger(__name__)


def run() -> int:
    """Exit status: 0 after a clean stop, 2 for bad settings; a lost lease ends the process with 1 by itself."""
    try:
        settings = Settings()
        configure_logs(settings.log_level, settings.log_format)
        signer = Signer.from_file(settings.signing_key_file)
        metrics = Metrics()
        api = connect(pool_size=settings.concurrency + SPARE_CONNECTIONS, count=metrics.count_request)
    except ValidationError as error:
        for problem in error.errors():
            field = "STOREKEEPER_" + ".".join(str(part) for part in problem["loc"]).upper()
            print(f"storekeeper: {field.rstrip('_')}: {problem['msg']}", file=sys.stderr)  # noqa: T201
        return EXIT_CONFIG
    except (SigningKeyError, ClusterError) as error:
        print(f"storekeeper: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_CONFIG
    asyncio.run(_operate(settings, api, signer, metrics))
    return EXIT_OK


async def _operate(settings: Settings, api: KubernetesApi, signer: Signer, metrics: Metrics) -> None:
    cache = Cache()
    cluster = KubernetesCluster(api, cache)
    ca = str(settings.runtime_ca_file) if settings.runtime_ca_file else True
    runtime_api = RuntimeApi(signer.operator_token, verify=ca, address_of=ServiceAddresses(cache))
    places = ClusterPlaces(settings, (signer.public_pem,))
    reconciler = Reconciler(cluster, places, runtime_api, signer, SystemClock(), metrics)
    identity = f"{socket.gethostname()}_{uuid.uuid4()}"
    operator = Operator(settings, api, cache, reconciler.reconcile, metrics, identity)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await operator.run(stop)
    finally:
        runtime_api.close()
        cluster.close()
