"""What the API server takes the models take, and what it refuses they refuse: the same cases, without a cluster."""

from typing import Any

import pytest

from storekeeper.api.changes import check_change
from storekeeper.api.group import API_VERSION
from storekeeper.api.parse import InvalidSpec, parse
from storekeeper.api.resource import Resource
from tests.operator.crd_cases import BAD_FORM, BAD_RULE, GOOD, REFUSED_CHANGES, TAKEN_CHANGES


def resource(kind: str, spec: dict[str, Any]) -> Resource:
    return parse({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "gateway", "uid": "u"}, "spec": spec})


@pytest.mark.parametrize(("kind", "spec"), GOOD)
def test_good_resources_are_taken(kind: str, spec: dict[str, Any]) -> None:
    assert resource(kind, spec).kind == kind


@pytest.mark.parametrize(("kind", "spec", "words"), BAD_RULE)
def test_what_a_rule_refuses_is_refused_in_the_same_words(kind: str, spec: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSpec, match=words):
        resource(kind, spec)


@pytest.mark.parametrize(("kind", "spec"), [case[:2] for case in BAD_FORM])
def test_what_the_schema_refuses_is_refused(kind: str, spec: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec):
        resource(kind, spec)


@pytest.mark.parametrize(("kind", "before", "after", "words"), REFUSED_CHANGES)
def test_a_change_that_could_not_be_obeyed_is_refused(
    kind: str, before: dict[str, Any], after: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidSpec, match=words):
        check_change(resource(kind, before), resource(kind, after))


@pytest.mark.parametrize(("kind", "before", "after"), TAKEN_CHANGES)
def test_a_change_that_can_be_obeyed_is_taken(kind: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    check_change(resource(kind, before), resource(kind, after))


@pytest.mark.parametrize(("kind", "spec"), GOOD)
def test_no_change_can_always_be_obeyed(kind: str, spec: dict[str, Any]) -> None:
    check_change(resource(kind, spec), resource(kind, spec))
