"""The lease by a manual clock, on an API that keeps one object and its resourceVersion."""

from typing import Any

import pytest

from storekeeper.adapters.cluster import ClusterError
from storekeeper.adapters.kubernetes_api import Answer, Patience
from storekeeper.handlers.lease import (
    DURATION_SECONDS,
    RENEW_DEADLINE_SECONDS,
    RETRY_SECONDS,
    Election,
    Lease,
    Turns,
)


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class LeaseApi:
    """The part of the API that a lease needs: one object, with optimistic updates."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.down = False
        self.writes = 0
        self.reads = 0

    def get(self, kind: str, namespace: str | None, name: str, *, patience: Patience) -> dict[str, Any] | None:
        self.patience = patience
        assert (kind, namespace, name) == ("Lease", "ops", "storekeeper")
        self._answer()
        self.reads += 1
        return self.lease

    def request(self, method: str, kind: str, where: str, *, body: dict[str, Any], patience: Patience) -> Answer:
        self.patience = patience
        self._answer()
        if method == "POST" and self.lease is not None:
            raise ClusterError("there is one", status=409, code="AlreadyExists")
        if method == "PUT":
            if self.lease is None:
                raise ClusterError("there is none", status=404, code="NotFound")
            held = self.lease["metadata"]["resourceVersion"]
            if body["metadata"].get("resourceVersion") != held:
                raise ClusterError("changed meanwhile", status=409, code="Conflict")
        self.version += 1
        self.writes += 1
        self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        return Answer(201 if method == "POST" else 200, self.lease)

    def _answer(self) -> None:
        if self.down:
            raise ClusterError("no answer", status=0)


def candidate(api: LeaseApi, identity: str, clock: Clock) -> Lease:
    return Lease(api, "ops", "storekeeper", identity, now=clock)  # type: ignore[arg-type]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def api() -> LeaseApi:
    return LeaseApi()


def spec(api: LeaseApi) -> dict[str, Any]:
    assert api.lease is not None
    return dict(api.lease["spec"])


def test_the_first_takes_it_and_the_second_waits(api: LeaseApi, clock: Clock) -> None:
    one, two = candidate(api, "one", clock), candidate(api, "two", clock)
    assert one.hold()
    assert not two.hold()
    assert spec(api)["holderIdentity"] == "one"
    assert spec(api)["leaseDurationSeconds"] == DURATION_SECONDS


def test_an_empty_lease_made_by_the_chart_is_taken_by_an_update(api: LeaseApi, clock: Clock) -> None:
    api.lease = {"metadata": {"name": "storekeeper", "namespace": "ops", "resourceVersion": "0"}}
    assert candidate(api, "one", clock).hold()
    assert spec(api)["leaseTransitions"] == 0


def test_a_renewed_lease_is_never_taken_over(api: LeaseApi, clock: Clock) -> None:
    one, two = candidate(api, "one", clock), candidate(api, "two", clock)
    for _ in range(20):
        assert one.hold()
        assert not two.hold()
        clock.seconds += DURATION_SECONDS - 1


def test_a_dead_leader_is_replaced_only_after_the_lease_was_seen_unchanged_for_its_duration(
    api: LeaseApi, clock: Clock
) -> None:
    assert candidate(api, "one", clock).hold()
    clock.seconds += 3600  # however old it is: the clocks of others are not believed
    two = candidate(api, "two", clock)
    assert not two.hold()
    clock.seconds += DURATION_SECONDS
    assert not two.hold()
    clock.seconds += 0.1
    assert two.hold()
    assert spec(api)["holderIdentity"] == "two"
    assert spec(api)["leaseTransitions"] == 1


def test_of_two_that_reach_for_it_at_once_one_wins(api: LeaseApi, clock: Clock) -> None:
    one, two = candidate(api, "one", clock), candidate(api, "two", clock)
    assert one.hold()
    one.release()
    stale = api.get("Lease", "ops", "storekeeper", patience=(1, 1))
    assert two.hold()
    api_get = api.get
    api.get = lambda *_, **__: stale  # type: ignore[method-assign]  # what `one` had read just before
    assert not one.hold()
    api.get = api_get  # type: ignore[method-assign]
    assert spec(api)["holderIdentity"] == "two"


def test_renewing_costs_one_call(api: LeaseApi, clock: Clock) -> None:
    one = candidate(api, "one", clock)
    assert one.hold()
    reads = api.reads
    for _ in range(3):
        assert one.hold()
    assert api.reads == reads


def test_a_lease_that_was_deleted_is_made_anew(api: LeaseApi, clock: Clock) -> None:
    one = candidate(api, "one", clock)
    assert one.hold()
    api.lease = None
    assert one.hold()


def test_a_released_lease_is_free_at_once(api: LeaseApi, clock: Clock) -> None:
    one, two = candidate(api, "one", clock), candidate(api, "two", clock)
    assert one.hold()
    one.release()
    assert two.hold()


def test_releasing_what_is_anothers_does_nothing(api: LeaseApi, clock: Clock) -> None:
    one, two = candidate(api, "one", clock), candidate(api, "two", clock)
    assert one.hold()
    writes = api.writes
    two.release()
    assert api.writes == writes


def test_seizing_takes_it_from_a_living_leader(api: LeaseApi, clock: Clock) -> None:
    one, two = candidate(api, "one", clock), candidate(api, "uninstall", clock)
    assert one.hold()
    assert two.hold(seize=True)
    assert not one.hold()


class Told:
    def __init__(self) -> None:
        self.words: list[str] = []

    def turns(self) -> Turns:
        return Turns(lambda: self.words.append("elected"), lambda why: self.words.append(f"lost: {why}"))


def test_an_election_tells_once_that_it_was_won(api: LeaseApi, clock: Clock) -> None:
    told = Told()
    election = Election(candidate(api, "one", clock), told.turns(), now=clock)
    assert not election.leads
    for _ in range(3):
        election.attempt()
        clock.seconds += RETRY_SECONDS
    assert told.words == ["elected"]
    assert election.leads


def test_a_leader_that_cannot_renew_stops_before_another_can_begin(api: LeaseApi, clock: Clock) -> None:
    told = Told()
    election = Election(candidate(api, "one", clock), told.turns(), now=clock)
    election.attempt()
    lost_after = 0.0
    api.down = True
    while len(told.words) < 2:
        clock.seconds += RETRY_SECONDS
        lost_after += RETRY_SECONDS
        election.attempt()
    assert told.words[1].startswith("lost: not renewed")
    assert RENEW_DEADLINE_SECONDS < lost_after < DURATION_SECONDS


def test_an_api_that_hangs_costs_the_lease_before_another_can_begin(api: LeaseApi, clock: Clock) -> None:
    told = Told()
    election = Election(candidate(api, "one", clock), told.turns(), now=clock)
    election.attempt()
    start, get, request = clock.seconds, api.get, api.request

    def hang(*_: Any, patience: Patience, **__: Any) -> Any:
        clock.seconds += sum(patience)  # a connection at the last moment, and then no answer
        raise ClusterError("no answer", status=0)

    api.get = api.request = hang  # type: ignore[method-assign]
    while len(told.words) < 2:
        clock.seconds += RETRY_SECONDS
        election.attempt()
    api.get, api.request = get, request  # type: ignore[method-assign]
    assert told.words[1].startswith("lost: not renewed")
    assert clock.seconds - start < DURATION_SECONDS


def test_a_short_outage_of_the_api_costs_nothing(api: LeaseApi, clock: Clock) -> None:
    told = Told()
    election = Election(candidate(api, "one", clock), told.turns(), now=clock)
    election.attempt()
    api.down = True
    clock.seconds += RETRY_SECONDS
    election.attempt()
    api.down = False
    clock.seconds += RETRY_SECONDS
    election.attempt()
    assert told.words == ["elected"]
    assert election.leads


def test_a_process_that_was_paused_knows_that_it_may_not_write(api: LeaseApi, clock: Clock) -> None:
    election = Election(candidate(api, "one", clock), Told().turns(), now=clock)
    election.attempt()
    clock.seconds += DURATION_SECONDS
    assert not election.leads


def test_a_leader_whose_lease_was_taken_is_told(api: LeaseApi, clock: Clock) -> None:
    told = Told()
    election = Election(candidate(api, "one", clock), told.turns(), now=clock)
    election.attempt()
    assert candidate(api, "uninstall", clock).hold(seize=True)
    election.attempt()
    assert told.words == ["elected", "lost: another replica holds it"]


def test_a_clean_stop_gives_it_back(api: LeaseApi, clock: Clock) -> None:
    election = Election(candidate(api, "one", clock), Told().turns(), now=clock, wait=lambda _: True)
    election.start()
    election.join(10.0)
    election.stop(release=True)
    assert spec(api)["holderIdentity"] == ""
    assert not election.leads
