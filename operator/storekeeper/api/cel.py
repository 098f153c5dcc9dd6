"""Rules that the API server checks when a resource is written (CEL in the CRD), kept beside the models they belong to.

Every rule has its twin in Python: a resource is also read where no API server has seen it. The twins of rules that
compare with the old object (`oldSelf`) are in `changes`.
Language: https://kubernetes.io/docs/reference/using-api/cel/ (optional fields and quantities: Kubernetes 1.29).
"""

from collections.abc import Iterable

from pydantic import JsonValue

Rule = dict[str, JsonValue]

VOLUME_SHRINKS = "a volume cannot shrink; keep the size it has (without a size it is {})"
VOLUME_CLASS_CHANGES = "the class of a volume that exists cannot be changed; keep storageClassName as it was"


def rule(expression: str, message: str, field: str = "") -> Rule:
    """`field`: path below the object that carries the rule, such as `.backend.type`."""
    found: Rule = {"rule": expression, "message": message}
    return found | {"fieldPath": field} if field else found


def rules(*wanted: Rule) -> dict[str, JsonValue]:
    """For a model's or a field's `json_schema_extra`."""
    return {"x-kubernetes-validations": list(wanted)}


class FieldError(ValueError):
    """What a rule's twin raises when a field below the validated model is at fault."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def member_rules(members: Iterable[str], needed: Iterable[str]) -> list[Rule]:
    """Of a union: no member but the one named by `type`; `needed` members have no default that code could give."""
    found = [
        rule(
            f"self.type == '{member}' || !has(self.{member})",
            f"{member} does not belong to this type; remove it, or set type: {member}",
            f".{member}",
        )
        for member in members
    ]
    found += [
        rule(
            f"self.type != '{member}' || has(self.{member})",
            f"type {member} needs its member {member}; say there where the data is",
            f".{member}",
        )
        for member in needed
    ]
    return found


def immutable(field: str, message: str) -> Rule:
    """An optional string of the object that carries the rule: what it is at first, it stays."""
    return rule(f"{_or('self', field, '')} == {_or('oldSelf', field, '')}", message, f".{field}")


def volume_rules(member: str, default_size: str, same: str) -> list[Rule]:
    """A volume grows and never changes its class. `member`: path of what holds `storage`; `same`: when it counts."""
    size, name = f"{member}.storage.size", f"{member}.storage.storageClassName"
    old, new = (f"quantity(string({_or(root, size, default_size)}))" for root in ("oldSelf", "self"))
    return [
        rule(
            f"!{same} || {new}.compareTo({old}) >= 0",
            VOLUME_SHRINKS.format(default_size),
            f".{size}",
        ),
        rule(
            f"!{same} || {_or('self', name, '')} == {_or('oldSelf', name, '')}",
            VOLUME_CLASS_CHANGES,
            f".{name}",
        ),
    ]


def _or(root: str, path: str, default: str) -> str:
    """The string at a path whose parts are all optional. Not `.?` and orValue: their cost is estimated as unbounded."""
    parts = path.split(".")
    present = " && ".join(f"has({root}.{'.'.join(parts[: n + 1])})" for n in range(len(parts)))
    return f"({present} ? {root}.{path} : '{default}')"
