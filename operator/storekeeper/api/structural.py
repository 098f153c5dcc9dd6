"""From a pydantic model to a structural schema, the part of OpenAPI that the API server takes in a CRD.

References are written out, an optional field is one that may be absent (never null), and no default is left: what a
default would be is told in the description
(https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema).
"""

from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_KEPT = frozenset(
    {
        "type", "format", "description", "enum", "pattern", "required", "minLength", "maxLength", "minimum", "maximum",
        "minItems", "maxItems", "minProperties", "maxProperties",
    }
)  # fmt: skip
"""Keywords that go over as they are, besides x-kubernetes-…"""
_DROPPED = frozenset({"title", "default", "properties", "items", "additionalProperties", "propertyNames", "$defs"})
"""Keywords that the API server does not know (only the operator checks the names of a map's keys), or handled below."""


def structural(model: type[BaseModel]) -> Schema:
    """Raises ValueError for what a structural schema cannot say."""
    schema = model.model_json_schema(by_alias=True)
    return _convert(schema, schema.get("$defs", {}), model.__name__)


def _convert(schema: Schema, definitions: dict[str, Schema], where: str) -> Schema:
    schema = _flat(schema, definitions)
    if unknown := [k for k in schema if k not in _KEPT | _DROPPED and not k.startswith("x-kubernetes-")]:
        raise ValueError(f"{where}: a structural schema has no {unknown[0]}")
    found = {key: value for key, value in schema.items() if key in _KEPT or key.startswith("x-kubernetes-")}
    if "description" in found:
        found["description"] = " ".join(str(found["description"]).split())
    if "properties" in schema:
        found["properties"] = {
            name: _property(value, definitions, f"{where}.{name}") for name, value in schema["properties"].items()
        }
    if "items" in schema:
        found["items"] = _convert(schema["items"], definitions, f"{where}[]")
    if isinstance(extra := schema.get("additionalProperties"), dict):
        found["additionalProperties"] = _convert(extra, definitions, f"{where}{{}}")
    return found


def _property(schema: Schema, definitions: dict[str, Schema], where: str) -> Schema:
    found = _convert(schema, definitions, where)
    told = _default(schema.get("default"))
    if told and "Default:" not in found.get("description", "") and "default" not in found.get("description", ""):
        found["description"] = f"{found.get('description', '')} Default: {told}.".strip()
    return found


def _default(value: Any) -> str:
    """As it would be written; empty for defaults that mean absence, as 0 does of every limit."""
    if value in (0, "PT0S") and not isinstance(value, bool):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return "" if value is None or isinstance(value, dict) else str(value)


def _flat(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """Without references and without null; what stands beside a reference wins over what is behind it."""
    if "$ref" in schema:
        target = definitions[schema["$ref"].removeprefix("#/$defs/")]
        return _flat(target | {key: value for key, value in schema.items() if key != "$ref"}, definitions)
    if "anyOf" in schema:
        forms = [form for form in schema["anyOf"] if form.get("type") != "null"]
        if len(forms) != 1:
            raise ValueError(f"a field has one form in a structural schema, not {len(forms)}: {forms}")
        return _flat(forms[0] | {key: value for key, value in schema.items() if key != "anyOf"}, definitions)
    return schema
