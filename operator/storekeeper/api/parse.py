"""From an object as Kubernetes holds it to a typed resource, or to one sentence that says what is wrong with it."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from storekeeper.api.cel import FieldError
from storekeeper.api.group import API_VERSION
from storekeeper.api.logstore import LogStore
from storekeeper.api.resource import NAME_CHARS_MAX, NAME_PATTERN, Resource, StoreResource
from storekeeper.api.runtimestore import RuntimeStore
from storekeeper.api.stream import Stream

KINDS: tuple[type[LogStore] | type[RuntimeStore] | type[Stream], ...] = (LogStore, RuntimeStore, Stream)

NAME_RULE = (
    f"a store's name has at most {NAME_CHARS_MAX} characters: lower-case letters, digits and -, beginning with a letter"
)


class InvalidSpec(Exception):
    """A resource that cannot be obeyed. `field` is its path (`spec.windows[1]`), `message` says how to mend it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


def parse(body: Mapping[str, Any]) -> LogStore | RuntimeStore | Stream:
    """Raises InvalidSpec that names the first field that is wrong."""
    model = _model(body)
    try:
        resource = model.model_validate({"spec": {}, **{k: v for k, v in body.items() if v is not None}})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=True)[0]
        raise InvalidSpec(_path(_location(first)), _sentence(first)) from None
    _check_name(resource)
    return resource


def _model(body: Mapping[str, Any]) -> type[LogStore] | type[RuntimeStore] | type[Stream]:
    if body.get("apiVersion") != API_VERSION:
        raise InvalidSpec("apiVersion", f"{body.get('apiVersion')!r} is not served here; write {API_VERSION}")
    for model in KINDS:
        if model.kind == body.get("kind"):
            return model
    known = ", ".join(model.kind for model in KINDS)
    raise InvalidSpec("kind", f"{body.get('kind')!r} is not a kind of {API_VERSION}; there are {known}")


def _check_name(resource: Resource) -> None:
    """The twin of the CRD's rule: the names of a store's children are made from its own."""
    name = resource.metadata.name
    if isinstance(resource, StoreResource) and not (len(name) <= NAME_CHARS_MAX and re.fullmatch(NAME_PATTERN, name)):
        raise InvalidSpec("metadata.name", NAME_RULE)


def _location(error: ErrorDetails) -> tuple[int | str, ...]:
    cause = error.get("ctx", {}).get("error")
    return (*error["loc"], cause.field) if isinstance(cause, FieldError) else error["loc"]


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")


def _sentence(error: ErrorDetails) -> str:
    """In words that name the fix. The value is quoted only where our own validators do: it might be a password."""
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return "there is no such field; remove it, or check how it is spelled"
        case "missing":
            return "is required; add it"
        case "enum":
            return f"must be one of {context['expected']}"
        case "int_parsing" | "int_type" | "int_from_float":
            return "must be a whole number"
        case "string_pattern_mismatch":
            return f"does not have the right form; it must match {context['pattern']}"
        case _:
            return error["msg"].removeprefix("Value error, ")
