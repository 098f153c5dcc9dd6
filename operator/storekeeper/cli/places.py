"""Where stores run in a cluster: mount points and commands are those of the image, the URL is that of the Service."""

from dataclasses import replace

from storekeeper.api.resource import StoreResource
from storekeeper.manifests.blueprint import Blueprint
from storekeeper.manifests.objects import ObjectRef
from storekeeper.manifests.place import Place
from storekeeper.observe.cache import Cache
from storekeeper.settings import Settings


class ClusterPlaces:
    """Callable as `Places`: a resource → its Place."""

    def __init__(self, settings: Settings, public_keys: tuple[str, ...]) -> None:
        self._domain = settings.cluster_domain
        self._place = Place(
            url="",
            public_keys=public_keys,
            image=settings.image,
            image_pull_policy=settings.image_pull_policy.value,
            operator_namespace=settings.namespace,
        )

    def __call__(self, resource: StoreResource) -> Place:
        service = Blueprint(resource, self._place).base
        scheme = "https" if resource.spec.tls is not None else "http"
        host = f"{service}.{resource.metadata.namespace}.svc.{self._domain}"
        return replace(self._place, url=f"{scheme}://{host}:{self._place.port}")


class ServiceAddresses:
    """Callable as `AddressOf`: the cluster IP of a Service that the watches have seen."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def __call__(self, host: str) -> str | None:
        name, _, rest = host.partition(".")
        service = self._cache.get(ObjectRef("Service", rest.partition(".")[0], name))
        address: str | None = ((service or {}).get("spec") or {}).get("clusterIP")
        return None if address == "None" else address  # None: headless
