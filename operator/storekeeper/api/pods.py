"""What people may say about a store's pods and volumes: resources, scheduling, security, storage, certificates."""

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, field_validator

from store_runtime.config.model import Document
from store_runtime.config.quantities import Size
from storekeeper.api.cel import rule, rules
from storekeeper.api.scheduling import Affinity, Toleration, TopologySpread

MAP_ITEMS_MAX = 64
"""Labels, annotations, node selectors: more is a typing error."""
GRACE_SECONDS_MAX = 300
QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
RESERVED_PREFIX = "storekeeper.dev/"
RESERVED_LABELS = tuple(f"app.kubernetes.io/{name}" for name in ("name", "instance", "component", "managed-by"))

ObjectName = Annotated[
    str, StringConstraints(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]
"""A DNS subdomain: the name of most Kubernetes objects."""
Quantity = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int) and not isinstance(value, bool) else value),
    StringConstraints(max_length=32, pattern=QUANTITY_PATTERN),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 32, "pattern": QUANTITY_PATTERN}),
]
"""An amount of a resource as Kubernetes writes it: `500m`, `2`, `1Gi`."""
MapKey = Annotated[str, StringConstraints(min_length=1, max_length=317)]
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
AnnotationValue = Annotated[str, StringConstraints(max_length=16_384)]
UserId = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""Never 0: pods obey the restricted Pod Security standard."""


class SecretRef(Document):
    """A Secret in the resource's own namespace."""

    name: ObjectName = Field(description="Name of the Secret.")


class Volume(Document):
    """A volume of the store's own. It can grow if its storage class allows that; it cannot shrink or change class."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.size) || quantity(string(self.size)).isGreaterThan(quantity('0'))",
                "a volume needs a size above 0, for example 10Gi",
                ".size",
            )
        )
    )

    size: Size | None = Field(None, description="Capacity, for example 10Gi.")
    storage_class_name: ObjectName | None = Field(
        None, description="Storage class; by default the cluster's default class."
    )

    @field_validator("size")
    @classmethod
    def _not_empty(cls, size: int | None) -> int | None:
        if size == 0:
            raise ValueError("a volume needs a size above 0, for example 10Gi")
        return size

    def resolved(self, default_bytes: int) -> "Volume":
        if self.size is not None:
            return self
        return DefaultVolume(size=default_bytes, storage_class_name=self.storage_class_name)


class DefaultVolume(Volume):
    """A volume whose size nobody gave: it counts for a claim that is not there yet, and changes none that is."""


class TlsSpec(Document):
    """HTTPS with a certificate of one's own; a renewed one is taken up without a restart."""

    secret_ref: SecretRef = Field(
        description="Secret of type kubernetes.io/tls: tls.crt, tls.key, and ca.crt for the store's jobs to trust it."
    )


class Resources(Document):
    """CPU and memory, as in a container's resources."""

    requests: dict[MapKey, Quantity] = Field(
        {}, max_length=8, description="What is set aside for a pod. Default: cpu 50m, memory 256Mi."
    )
    limits: dict[MapKey, Quantity] = Field({}, max_length=8, description="What a pod cannot pass. Default: none.")


class PodSecurity(Document):
    """Ids that the pod's processes and its volume's files have. Pods always obey the restricted standard."""

    run_as_user: UserId = Field(65_532, description="User id of the processes.")
    run_as_group: UserId = Field(65_532, description="Group id of the processes.")
    fs_group: UserId = Field(65_532, description="Group id of the files on the store's volumes.")


_RESERVED = "keys that begin with storekeeper.dev/ are the operator's own; choose another prefix"


class PodTemplate(Document):
    """What is added to the store's pods."""

    labels: dict[MapKey, LabelValue] = Field(
        {},
        max_length=MAP_ITEMS_MAX,
        description="Labels of the pods, besides the operator's own.",
        json_schema_extra=rules(
            rule(f"self.all(key, !key.startsWith('{RESERVED_PREFIX}'))", _RESERVED),
            rule(
                f"self.all(key, !(key in {list(RESERVED_LABELS)}))",
                f"the operator sets {', '.join(RESERVED_LABELS)} itself; remove them",
            ),
        ),
    )
    annotations: dict[MapKey, AnnotationValue] = Field(
        {},
        max_length=MAP_ITEMS_MAX,
        description="Annotations of the pods.",
        json_schema_extra=rules(rule(f"self.all(key, !key.startsWith('{RESERVED_PREFIX}'))", _RESERVED)),
    )
    node_selector: dict[MapKey, LabelValue] = Field(
        {}, max_length=MAP_ITEMS_MAX, description="Labels of the nodes that may run the pods."
    )
    tolerations: tuple[Toleration, ...] = Field((), max_length=32, description="Taints of nodes that are accepted.")
    affinity: Affinity = Field(Affinity(), description="Nodes and neighbours that pods prefer or need.")
    topology_spread_constraints: tuple[TopologySpread, ...] = Field(
        (), max_length=8, description="How pods are spread; without a labelSelector, this store's pods."
    )
    priority_class_name: ObjectName | None = Field(None, description="Priority class of the pods.")
    runtime_class_name: ObjectName | None = Field(None, description="Runtime class of the pods.")
    image_pull_secrets: tuple[SecretRef, ...] = Field((), max_length=8, description="Secrets to pull the image with.")
    termination_grace_period_seconds: int = Field(
        60, ge=1, le=GRACE_SECONDS_MAX, description="Time to finish requests and close files."
    )
    security: PodSecurity = Field(PodSecurity(), description="User and group ids.")

    @field_validator("labels", "annotations")
    @classmethod
    def _not_reserved(cls, value: dict[str, Any]) -> dict[str, Any]:
        if any(key.startswith(RESERVED_PREFIX) for key in value):
            raise ValueError(_RESERVED)
        return value

    @field_validator("labels")
    @classmethod
    def _not_ours(cls, value: dict[str, str]) -> dict[str, str]:
        taken = sorted(value.keys() & set(RESERVED_LABELS))
        if taken:
            raise ValueError(f"the operator sets {taken[0]} itself; remove it")
        return value
