"""Where pods run: the forms that Kubernetes itself has for a pod's affinity, tolerations and spreading.

Written out, so that a typing error is refused when the resource is written and not when its pods are made
(https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#scheduling).
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from store_runtime.config.model import Document

TERMS_MAX = 16
"""Of one list of terms or expressions."""

Key = Annotated[str, StringConstraints(min_length=1, max_length=317)]
Value = Annotated[str, StringConstraints(max_length=63)]
Values = Annotated[tuple[Value, ...], Field(max_length=64)]
Weight = Annotated[int, Field(ge=1, le=100)]
Labels = Annotated[dict[Key, Value], Field(max_length=32)]
Keys = Annotated[tuple[Key, ...], Field(max_length=TERMS_MAX)]


class NodeOperator(StrEnum):
    """How a node's label is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GT = "Gt"
    LT = "Lt"


class LabelOperator(StrEnum):
    """How a label is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class NodeExpression(Document):
    """A requirement on a node's label or field."""

    key: Key
    operator: NodeOperator
    values: Values = ()


class LabelExpression(Document):
    """A requirement on a label."""

    key: Key
    operator: LabelOperator
    values: Values = ()


class LabelSelector(Document):
    """Which objects: all that have these labels and satisfy these expressions."""

    match_labels: Labels = Field({})
    match_expressions: tuple[LabelExpression, ...] = Field((), max_length=TERMS_MAX)


class NodeTerm(Document):
    """Which nodes: all that satisfy every expression."""

    match_expressions: tuple[NodeExpression, ...] = Field((), max_length=TERMS_MAX)
    match_fields: tuple[NodeExpression, ...] = Field((), max_length=TERMS_MAX)


class NodeSelector(Document):
    """Nodes that satisfy one of the terms."""

    node_selector_terms: tuple[NodeTerm, ...] = Field(min_length=1, max_length=TERMS_MAX)


class PreferredNodes(Document):
    """A wish with its weight."""

    weight: Weight
    preference: NodeTerm


class NodeAffinity(Document):
    """Nodes that pods need or prefer."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    preferred_during_scheduling_ignored_during_execution: tuple[PreferredNodes, ...] = Field((), max_length=TERMS_MAX)


class PodTerm(Document):
    """Pods to be near to, or away from, within a topology."""

    topology_key: Key
    label_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    namespaces: Keys = ()
    match_label_keys: Keys = ()
    mismatch_label_keys: Keys = ()


class PreferredPods(Document):
    """A wish with its weight."""

    weight: Weight
    pod_affinity_term: PodTerm


class PodAffinity(Document):
    """Pods that must or should be near (or away, as an anti-affinity)."""

    required_during_scheduling_ignored_during_execution: tuple[PodTerm, ...] = Field((), max_length=TERMS_MAX)
    preferred_during_scheduling_ignored_during_execution: tuple[PreferredPods, ...] = Field((), max_length=TERMS_MAX)


class Affinity(Document):
    """As a pod's affinity."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


class TolerationOperator(StrEnum):
    """How a taint's value is compared."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does to pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(Document):
    """A taint that pods accept."""

    key: Key | None = None
    operator: TolerationOperator | None = None
    value: Value | None = None
    effect: TaintEffect | None = None
    toleration_seconds: int | None = None


class WhenUnsatisfiable(StrEnum):
    """What happens to a pod that cannot be spread as asked."""

    DO_NOT_SCHEDULE = "DoNotSchedule"
    SCHEDULE_ANYWAY = "ScheduleAnyway"


class TopologySpread(Document):
    """How evenly pods are spread over a topology."""

    max_skew: int = Field(ge=1, le=1000)
    topology_key: Key
    when_unsatisfiable: WhenUnsatisfiable
    label_selector: LabelSelector | None = None
    min_domains: int | None = Field(None, ge=1, le=1000)
    match_label_keys: Keys = ()
