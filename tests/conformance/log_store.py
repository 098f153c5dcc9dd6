"""The contract of a LogStore as a suite that every backend runs.

A backend's test module gives a `harness` fixture: a provisioned and migrated database. Statistics, pages and retention
are compared with what a list of the same request logs says.
"""

import base64
import json
import math
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from store_runtime.clock import ManualClock, now
from store_runtime.config.backends import LogBackend
from store_runtime.config.retention import LogRetention
from store_runtime.config.runtime import LogStoreConfig
from store_runtime.config.wire import RetainResult, Role
from store_runtime.errors import Conflict, Fenced, InvalidInput, NotFound, OwnedByAnother, StoreError, TooLarge
from store_runtime.logstore import opening
from store_runtime.logstore.model import (
    BATCH_MAX,
    COUNT_MAX,
    PAGE_MAX,
    TIME_MAX,
    TIME_MIN,
    Filters,
    Order,
    Page,
    RequestLog,
    RequestLogChange,
    Stats,
    Status,
)
from store_runtime.logstore.store import LogStore
from tests.runtime.serving import PUBLIC_PEM

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MEBIBYTE = 2**20
TEXTS = (
    "plain",
    " spaces \t\n\r ",
    "a/b?c#d%2F&e=f",
    "ümläut ß ſ İ",
    "漢字かな",
    "😀👩‍👩‍👧‍👦",
    "e\u0301 \u00e9",
    "\u200f\u202eright to left",
    "\ufeff\ufffe\uffff\U0010ffff",
    "'; DROP TABLE request_log; --",
    "%s %(id)s :id ? $1 {0} \\ \" ' `",
    "\x01\x1f\x7f\x80",
)
INJECTIONS = (
    "' OR '1'='1",
    "x'); DELETE FROM request_log; --",
    "%",
    "_",
    "\\",
    "a%' OR 1=1 --",
    ":id",
    "NULL",
    '" OR ""="',
)
WAIT_SECONDS = 120


class Harness(ABC):
    """One database, and stores opened on it."""

    def __init__(self) -> None:
        self.clock = ManualClock(START)

    @abstractmethod
    def backend(self) -> LogBackend:
        """Where the data is."""

    def config(self, *, id_: str = "store-1", owner: str = "owner-1", epoch: int = 1) -> LogStoreConfig:
        return LogStoreConfig.model_validate(
            {
                "store": {"namespace": "team", "name": "store", "id": id_, "owner": owner},
                "epoch": epoch,
                "auth": {"audience": "LogStore/team/store", "publicKeys": [PUBLIC_PEM]},
                "backend": self.backend(),
            }
        )

    def prepare(self) -> None:
        """As the operator's jobs do."""
        opening.provision(self.config())
        opening.migrate(self.config())

    def open(self, epoch: int = 1) -> LogStore:
        return opening.open_store(self.config(epoch=epoch), self.clock)


class LogStoreContract:
    """Subclass it with a `harness` fixture."""

    @pytest.fixture
    def store(self, harness: Harness) -> Iterator[LogStore]:
        with closing(harness.open()) as opened:
            yield opened

    # -- create and get -------------------------------------------------------------------------------------------

    def test_what_is_created_comes_back_as_it_was(self, harness, store):
        log = full_log("a")
        store.create(log)
        found = store.get("a")
        assert fields_of(found) == fields_of(log) | {"created_at": now(harness.clock)}
        assert found.status is Status.SUCCESS
        assert store.get("a", payload=False) == found.model_copy(update={"payload": None})

    def test_what_is_not_given_is_none_and_totals_are_added_up(self, store):
        store.create(new_log("bare"))
        bare = store.get("bare")
        given = {name for name, value in fields_of(bare).items() if value is not None}
        assert given == {"id", "timestamp", "created_at", "status"}
        assert bare.status is Status.PROCESSING
        store.create(new_log("both", prompt_tokens=3, completion_tokens=4))
        store.create(new_log("prompt", prompt_tokens=3))
        store.create(new_log("own", prompt_tokens=3, completion_tokens=4, total_tokens=9))
        assert [store.get(id_).total_tokens for id_ in ("both", "prompt", "own")] == [7, 3, 9]

    def test_an_id_is_created_once(self, store):
        store.create(new_log("a", model="first"))
        with pytest.raises(Conflict) as error:
            store.create(new_log("a", model="second"))
        assert (error.value.specific_code, error.value.field) == ("AlreadyExists", "id")
        assert store.create_if_absent(new_log("a", model="third", payload={"x": 1})) is False
        assert store.create_if_absent(new_log("b")) is True
        assert (store.get("a").model, store.get("a").payload) == ("first", None)

    def test_what_is_not_there_is_not_found(self, store):
        for id_ in ("no", "x" * 256, "nul\0", "\ud800", *TEXTS):
            with pytest.raises(NotFound):
                store.get(id_)
            with pytest.raises(NotFound):
                store.update(id_, RequestLogChange(model="m"))
            assert store.delete([id_]) == 0

    @pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
    def test_any_text_is_kept_as_it_is(self, store, text):
        log = new_log(
            text, model=text, provider=text, error_message=text, payload={text: text}, metadata={text: [text]}
        )
        store.create(log)
        found = store.get(text)
        assert (found.id, found.model, found.provider, found.error_message) == (text, text, text, text)
        assert (found.payload, found.metadata) == ({text: text}, {text: [text]})
        page = store.search(Filters(ids=(text,), models=(text,), providers=(text,)))
        assert [log.id for log in page.logs] == [text]
        assert store.search(Filters(models=(text + " ",))).logs == ()
        assert store.delete([text]) == 1

    def test_ids_have_up_to_255_characters_of_any_width(self, store):
        ids = ["x" * 255, "ü" * 255, "😀" * 255]
        for id_ in ids:
            store.create(new_log(id_, payload={"of": id_}))
        assert [store.get(id_).payload for id_ in ids] == [{"of": id_} for id_ in ids]
        assert all_ids(store, limit=1) == sorted(ids, reverse=True)

    def test_ids_differ_by_case_form_and_trailing_space(self, store):
        ids = ["a", "A", "a ", "ä", "a\u0308", "ａ"]
        assert store.create_many([new_log(id_) for id_ in ids]).created == len(ids)
        assert store.delete(["a"]) == 1
        assert set(all_ids(store)) == set(ids) - {"a"}

    def test_nul_is_refused_in_columns_and_kept_in_json(self, store):
        for field in ("id", "model", "provider", "error_message", "session_id"):
            result = store.create_many([document("x") | {field: "a\0b"}])
            (rejected,) = result.rejected
            assert (rejected.code, result.created) == ("InvalidInput", 0)
            assert rejected.message.startswith(f"{field}:")
        store.create(new_log("a", payload={"in\0put": "a\0b\\u0000"}, metadata={"k\0": "\0"}))
        found = store.get("a")
        assert (found.payload, found.metadata) == ({"in\0put": "a\0b\\u0000"}, {"k\0": "\0"})

    def test_lone_surrogates_are_refused_in_columns_and_kept_in_json(self, store):
        result = store.create_many([document("x") | {"model": "\ud800"}, document("\udfff")])
        assert [rejected.message.split(":")[0] for rejected in result.rejected] == ["model", "id"]
        cut = {"output": "half an emoji \ud83d", "ü": ["\udc00\ud800", "whole 😀"]}
        store.create(new_log("a", payload=cut, metadata=cut))
        assert (store.get("a").payload, store.get("a").metadata) == (cut, cut)

    def test_json_comes_back_with_its_types(self, store):
        payload = {"n": None, "t": True, "i": 2**70, "f": 1e-300, "e": {}, "l": [[], [1, [2.5]]], "": "", "1": 1}
        store.create(new_log("a", payload=payload, metadata=payload))
        assert repr(store.get("a").payload) == repr(payload)
        assert repr(store.get("a").metadata) == repr(payload)
        store.create(new_log("empty", payload={}, metadata={}))
        assert (store.get("empty").payload, store.get("empty").metadata) == ({}, {})

    @pytest.mark.parametrize("bad", [math.nan, math.inf, datetime(2026, 1, 1, tzinfo=UTC), {1, 2}, b"x"], ids=repr)
    def test_what_json_cannot_say_is_refused(self, store, bad):
        with pytest.raises(InvalidInput) as error:
            store.create(new_log("a", payload={"x": [bad]}))
        assert error.value.field == "payload"
        result = store.create_many([document("b") | {"metadata": {"x": bad}}, document("c")])
        assert (result.created, result.rejected[0].message.split(":")[0]) == (1, "metadata")
        assert all_ids(store) == ["c"]

    def test_a_payload_of_five_megabytes(self, store):
        image = random.Random(5).randbytes(5 * MEBIBYTE * 3 // 4)
        payload = {"input": base64.b64encode(image).decode(), "output": "ü" * 1000}
        store.create(new_log("a", payload=payload))
        assert store.get("a").payload == payload
        store.update("a", RequestLogChange(payload={"output": "short"}))
        assert store.get("a").payload == payload | {"output": "short"}
        assert store.search().logs[0].payload is None

    def test_a_payload_has_a_limit(self, store):
        with pytest.raises(TooLarge) as error:
            store.create(new_log("a", payload={"x": "ü" * (8 * MEBIBYTE)}))
        assert error.value.field == "payload"
        store.create(new_log("b", payload={"x": "x" * (9 * MEBIBYTE)}))
        with pytest.raises(TooLarge):
            store.update("b", RequestLogChange(payload={"y": "y" * (9 * MEBIBYTE)}, model="m"))
        assert (store.get("b").model, set(store.get("b").payload)) == (None, {"x"})
        assert all_ids(store) == ["b"]

    def test_times_of_all_ages_are_kept_to_the_microsecond(self, store):
        times = [TIME_MIN, datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), START + MICROSECOND, TIME_MAX]
        for number, time in enumerate(times):
            store.create(new_log(f"t{number}", time, created_at=time))
        assert [store.get(f"t{number}").timestamp for number in range(4)] == times
        assert [store.get(f"t{number}").created_at for number in range(4)] == times
        assert [log.timestamp for log in store.search(order=Order.OLDEST).logs] == times
        elsewhere = START.astimezone(timezone(timedelta(hours=5, minutes=45)))
        store.create(new_log("elsewhere", elsewhere))
        assert store.get("elsewhere").timestamp.isoformat() == START.isoformat()

    def test_numbers_at_their_limits(self, store):
        store.create(new_log("a", prompt_tokens=COUNT_MAX, completion_tokens=COUNT_MAX, cost=1e12, latency_ms=1e-9))
        found = store.get("a")
        assert (found.prompt_tokens, found.total_tokens) == (COUNT_MAX, 2 * COUNT_MAX)
        assert (found.cost, found.latency_ms) == (1e12, 1e-9)

    # -- batches --------------------------------------------------------------------------------------------------

    def test_a_batch_stores_what_is_good_and_says_what_is_not(self, store):
        store.create(new_log("known", model="old"))
        items: list[Any] = [
            document("good", payload={"input": "hi"}),
            document("known", model="new"),
            {"id": "no time"},
            document("twice", model="first"),
            document("twice", model="second"),
            document("odd", colour="red"),
            document("naive") | {"timestamp": "2026-01-01T00:00:00"},
            document(""),
            document("minus", prompt_tokens=-1),
            document("huge", cost=1e13),
            document("status", status="done"),
            "text",
            None,
            new_log("model"),
            document("long" * 100),
            document("nan", payload={"x": math.nan}),
        ]
        result = store.create_many(items)
        assert (result.created, result.existing) == (3, 2)
        named = [(rejected.index, rejected.id, rejected.message.split(":")[0]) for rejected in result.rejected]
        assert named == [
            (2, "no time", "timestamp"),
            (5, "odd", "colour"),
            (6, "naive", "timestamp"),
            (7, "", "id"),
            (8, "minus", "prompt_tokens"),
            (9, "huge", "cost"),
            (10, "status", "status"),
            (11, None, "a request log is a JSON object"),
            (12, None, "a request log is a JSON object"),
            (14, "long" * 100, "id"),
            (15, "nan", named[-1][2]),
        ]
        assert "payload" in result.rejected[-1].message
        assert {rejected.code for rejected in result.rejected} == {"InvalidInput"}
        assert set(all_ids(store)) == {"good", "known", "twice", "model"}
        assert (store.get("twice").model, store.get("known").model) == ("first", "old")
        assert store.get("good").payload == {"input": "hi"}

    def test_a_batch_again_changes_nothing(self, store):
        items = [document(f"r{number}", payload={"n": number}) for number in range(50)]
        assert (store.create_many(items).created, store.create_many(items).existing) == (50, 50)
        more = store.create_many([document(f"r{number}") for number in range(25, 75)])
        assert (more.created, more.existing) == (25, 25)
        assert store.stats().total_requests == 75
        assert store.get("r30").payload == {"n": 30}

    def test_a_batch_with_nothing_good_stores_nothing(self, store):
        result = store.create_many([{"id": "x"}, {}])
        assert (result.created, result.existing, len(result.rejected)) == (0, 0, 2)
        assert store.create_many([]).created == 0
        assert all_ids(store) == []

    def test_without_an_id_one_is_made(self, store):
        item = document("x")
        del item["id"]
        assert store.create_many([item, item]).created == 2
        assert len(set(all_ids(store))) == 2

    def test_a_batch_of_ten_thousand_and_not_one_more(self, store):
        items = [document(f"{number:05}", provider="p", prompt_tokens=1) for number in range(BATCH_MAX)]
        with pytest.raises(TooLarge):
            store.create_many([*items, document("one more")])
        assert all_ids(store) == []
        assert store.create_many(items).created == BATCH_MAX
        again = store.create_many(items)
        assert (again.created, again.existing) == (0, BATCH_MAX)
        assert (store.stats().total_requests, store.stats().total_tokens) == (BATCH_MAX, BATCH_MAX)
        assert all_ids(store, limit=PAGE_MAX) == sorted((item["id"] for item in items), reverse=True)

    # -- update and delete ----------------------------------------------------------------------------------------

    def test_an_update_changes_what_is_given_and_nothing_else(self, store):
        log = full_log("a")
        store.create(log)
        before = fields_of(store.get("a"))
        change = {
            "status": "error",
            "error_message": "no",
            "completion_tokens": 50,
            "metadata": {"new": 1},
            "cost": None,
        }
        store.update("a", RequestLogChange.model_validate(change))
        after = fields_of(store.get("a"))
        assert {name for name in after if after[name] != before[name]} <= {*change, "total_tokens"}
        assert {name: after[name] for name in change} == change

    def test_an_update_replaces_parts_of_a_payload_by_name(self, store):
        store.create(new_log("a"))
        store.update("a", RequestLogChange(payload={"input": [1], "output": "x"}))
        assert store.get("a").payload == {"input": [1], "output": "x"}
        store.update("a", RequestLogChange(payload={"output": "y", "tools": {}}, status=Status.SUCCESS))
        assert store.get("a").payload == {"input": [1], "output": "y", "tools": {}}
        store.update("a", RequestLogChange(model="m"))
        assert store.get("a").payload == {"input": [1], "output": "y", "tools": {}}

    def test_an_update_keeps_a_total_that_was_added_up(self, store):
        store.create(new_log("a", prompt_tokens=10))
        store.update("a", RequestLogChange(completion_tokens=5))
        assert store.get("a").total_tokens == 15
        store.create(new_log("own", prompt_tokens=10, total_tokens=99))
        store.update("own", RequestLogChange(completion_tokens=5))
        assert store.get("own").total_tokens == 99

    def test_an_update_of_nothing_or_to_nothing_is_refused(self, store):
        store.create(new_log("a"))
        with pytest.raises(InvalidInput):
            store.update("a", RequestLogChange())
        with pytest.raises(NotFound):
            store.update("b", RequestLogChange(model="m"))
        for field in ("status", "payload"):
            with pytest.raises(ValidationError, match=field):
                RequestLogChange.model_validate({field: None})
        with pytest.raises(InvalidInput):
            store.update("a", RequestLogChange(payload={"x": math.nan}, model="m"))
        assert store.get("a").model is None

    def test_updates_at_once_lose_no_part(self, store):
        store.create(new_log("a"))
        calls = [
            lambda number=number: store.update("a", RequestLogChange(payload={f"part{number}": number}))
            for number in range(16)
        ]
        at_once(calls)
        assert store.get("a").payload == {f"part{number}": number for number in range(16)}

    def test_delete_says_how_many_there_were(self, store):
        store.create_many([document(id_, payload={"x": 1}) for id_ in "abc"])
        assert store.delete(["a", "b", "b", "no"]) == 2
        assert store.delete(["a", "b"]) == 0
        assert all_ids(store) == ["c"]
        store.create(new_log("a"))
        assert store.get("a").payload is None

    def test_delete_takes_between_one_and_a_page_of_ids(self, store):
        for ids in ([], ["x"] * (PAGE_MAX + 1)):
            with pytest.raises(InvalidInput) as error:
                store.delete(ids)
            assert error.value.field == "ids"

    # -- search ---------------------------------------------------------------------------------------------------

    def test_a_window_is_from_its_start_to_before_its_end(self, store):
        moments = [START + MICROSECOND * number for number in (-1, 0, 1, 2, 3)]
        for number, time in enumerate(moments):
            store.create(new_log(str(number), time))
        assert ids_of(store.search(Filters(start_time=moments[1], end_time=moments[3]))) == ["2", "1"]
        assert ids_of(store.search(Filters(start_time=moments[3]))) == ["4", "3"]
        assert ids_of(store.search(Filters(end_time=moments[1]))) == ["0"]
        assert ids_of(store.search(Filters(start_time=moments[1], end_time=moments[1]))) == []
        with pytest.raises(InvalidInput) as error:
            store.search(Filters(start_time=moments[2], end_time=moments[1]))
        assert error.value.field == "start_time"

    def test_every_filter_and_their_combinations_are_those_of_a_list(self, store):
        logs = varied_logs(300)
        assert store.create_many(logs).created == len(logs)
        for filters in varied_filters(logs):
            expected = [log.id for log in in_order(matching(logs, filters))]
            assert all_ids(store, filters, limit=7) == expected
            assert all_ids(store, filters, limit=1000, order=Order.OLDEST) == expected[::-1]

    def test_a_page_ends_where_the_next_begins(self, store):
        store.create_many([new_log(f"r{number}") for number in range(10)])
        first = store.search(limit=4, order=Order.OLDEST)
        assert (ids_of(first), first.cursor is None) == (["r0", "r1", "r2", "r3"], False)
        last = store.search(limit=6, order=Order.OLDEST, cursor=first.cursor)
        assert ids_of(last) == ["r4", "r5", "r6", "r7", "r8", "r9"]
        assert last.cursor is None
        assert store.search(Filters(models=("no",))) == Page(logs=(), cursor=None)
        for bad in (0, -1, PAGE_MAX + 1):
            with pytest.raises(InvalidInput) as error:
                store.search(limit=bad)
            assert error.value.field == "limit"

    @pytest.mark.parametrize("order", Order)
    def test_pages_stay_true_while_rows_come_and_go(self, store, order):
        """What was there all the time is seen once, in order; the row that the cursor names may go, too."""
        times = [START + timedelta(seconds=number // 3) for number in range(60)]
        store.create_many([new_log(f"stay{number:02}", time) for number, time in enumerate(times)])
        store.create_many([new_log(f"go{number:02}", time) for number, time in enumerate(times)])
        seen: list[str] = []
        cursor, fresh = None, 0
        while True:
            page = store.search(order=order, limit=5, cursor=cursor)
            seen += ids_of(page)
            if (cursor := page.cursor) is None:
                break
            store.delete([id_ for id_ in seen if id_.startswith("go")][-5:] or ["none"])
            store.create_many([new_log(f"new{fresh + n}", times[(fresh + n) * 7 % 60]) for n in range(3)])
            fresh += 3
        assert len(seen) == len(set(seen))
        stayed = [f"stay{number:02}" for number in range(60)]
        found = [id_ for id_ in seen if id_.startswith("stay")]
        assert sorted(found) == stayed
        keys = [(times[int(id_[4:])], id_) for id_ in found]
        assert keys == sorted(keys, reverse=order is Order.NEWEST)

    def test_a_cursor_is_ours_and_of_this_order(self, store):
        store.create_many([new_log(f"r{number}") for number in range(5)])
        cursor = store.search(limit=2).cursor
        with pytest.raises(InvalidInput) as error:
            store.search(order=Order.OLDEST, cursor=cursor)
        assert error.value.field == "cursor"
        for bad in strange_cursors():
            with pytest.raises(InvalidInput) as error:
                store.search(cursor=bad)
            assert error.value.field == "cursor", bad
        assert ids_of(store.search(limit=3, cursor=cursor)) == ["r2", "r1", "r0"]

    @pytest.mark.parametrize("text", INJECTIONS)
    def test_no_text_is_ever_a_statement(self, store, text):
        store.create_many([new_log("a", model="m", provider="p"), new_log("b", model="m")])
        for filters in (Filters(ids=(text,)), Filters(models=(text,)), Filters(providers=(text,))):
            assert store.search(filters).logs == ()
            assert store.stats(filters).total_requests == 0
        forged = json.dumps([1, "desc", 0, text]).encode()
        assert store.search(cursor=base64.urlsafe_b64encode(forged).decode().rstrip("=")).logs == ()
        with pytest.raises(InvalidInput):
            store.search(cursor=text)
        with pytest.raises(NotFound):
            store.get(text)
        assert store.delete([text]) == 0
        assert store.create_if_absent(new_log(text, model=text, metadata={text: text}, payload={text: text}))
        store.update(text, RequestLogChange(model="m2", payload={text: 1}))
        assert (store.get(text).model, store.get(text).payload) == ("m2", {text: 1})
        assert set(all_ids(store)) == {"a", "b", text}

    # -- statistics -----------------------------------------------------------------------------------------------

    def test_statistics_of_nothing(self, store):
        nothing = Stats(
            total_requests=0, success_rate=None, average_latency_ms=None, prompt_tokens=0, completion_tokens=0,
            total_tokens=0, total_cost=0.0,
        )  # fmt: skip
        assert store.stats() == nothing
        store.create(new_log("a"))
        assert store.stats() == nothing.model_copy(update={"total_requests": 1})

    def test_statistics_are_those_of_a_list(self, store):
        logs = varied_logs(300)
        store.create_many(logs)
        for filters in varied_filters(logs):
            found, expected = store.stats(filters), plain_stats(matching(logs, filters))
            assert_same(found, expected)

    def test_statistics_follow_updates_and_deletions(self, store):
        logs = varied_logs(40)
        store.create_many(logs)
        store.update("r007", RequestLogChange(status=Status.ERROR, prompt_tokens=1_000_000, cost=5.0))
        store.delete(["r003", "r004"])
        left = [log for log in all_logs(store) if log.id not in ("r003", "r004")]
        assert_same(store.stats(), plain_stats(left))
        assert store.stats().prompt_tokens > 1_000_000

    def test_sums_of_the_largest_numbers_are_exact(self, store):
        store.create_many([new_log(f"r{number}", prompt_tokens=COUNT_MAX, cost=1e12) for number in range(500)])
        assert store.stats().prompt_tokens == 500 * COUNT_MAX
        assert store.stats().total_cost == 500e12

    # -- retention ------------------------------------------------------------------------------------------------

    def test_without_limits_nothing_goes(self, store):
        store.create(new_log("a", TIME_MIN, payload={"x": 1}))
        assert retained(store, LogRetention()) == RetainResult()
        assert store.get("a").payload == {"x": 1}

    def test_by_age_what_is_older_goes_to_the_microsecond(self, harness, store):
        ages = [timedelta(hours=1) + MICROSECOND * number for number in (-1, 0, 1)] + [timedelta(days=3000)]
        store.create_many([new_log(f"r{number}", START - age, payload={"x": 1}) for number, age in enumerate(ages)])
        assert retained(store, LogRetention(max_age=timedelta(hours=1))) == RetainResult(expired=2)
        assert all_ids(store) == ["r0", "r1"]
        harness.clock.advance(MICROSECOND)
        assert retained(store, LogRetention(max_age=timedelta(hours=1))) == RetainResult(expired=1)
        assert retained(store, LogRetention(max_age=timedelta(hours=1))) == RetainResult()

    def test_by_age_of_payloads_only_they_go(self, store):
        for hours in range(6):
            payload = None if hours == 5 else {"x": "x" * 100}
            store.create(new_log(f"r{hours}", START - timedelta(hours=hours), payload=payload, model="m"))
        assert retained(store, LogRetention(payload_max_age=timedelta(hours=2))) == RetainResult(payloads=2)
        assert [store.get(f"r{hours}").payload is None for hours in range(6)] == [False, False, False, True, True, True]
        assert store.stats().total_requests == 6
        assert retained(store, LogRetention(payload_max_age=timedelta(hours=2))) == RetainResult()

    def test_by_size_the_oldest_go_until_the_rest_fits(self, store):
        logs = [
            new_log(f"r{number:03}", START + timedelta(seconds=number), payload={"x": "ü" * 5_000})
            for number in range(60)
        ]
        store.create_many(logs)
        result = retained(store, LogRetention(max_size=300_000))
        kept = 60 - result.evicted
        assert all_ids(store) == [log.id for log in reversed(logs[-kept:])]
        assert kept * 10_000 <= 300_000 < (kept + 2) * 10_000 + kept * 500
        assert retained(store, LogRetention(max_size=300_000)) == RetainResult()
        assert retained(store, LogRetention(max_size=1)).evicted == kept
        assert all_ids(store) == []

    def test_a_size_counts_bytes_after_updates_and_lost_payloads(self, store):
        """Rows whose payload grew, shrank or went count as what they are now."""
        for number in range(10):
            store.create(new_log(f"r{number}", START - timedelta(hours=number), payload={"x": "x" * 1000}))
        store.update("r0", RequestLogChange(payload={"x": "x" * 100_000}))
        assert retained(store, LogRetention(max_size=100_000)).evicted == 10
        for number in range(10):
            store.create(new_log(f"r{number}", START - timedelta(hours=number), payload={"x": "x" * 100_000}))
        store.update("r0", RequestLogChange(payload={"x": "x" * 1000}))
        assert retained(store, LogRetention(payload_max_age=timedelta(minutes=1))).payloads == 9
        assert retained(store, LogRetention(max_size=20_000)) == RetainResult()

    @pytest.mark.parametrize("seed", range(6))
    def test_a_dry_run_tells_what_a_run_does(self, store, seed):
        choice = random.Random(seed)
        store.create_many(varied_logs(200, seed=seed))
        for _ in range(4):
            retained(
                store,
                LogRetention(
                    max_age=choice.choice([timedelta(), timedelta(minutes=choice.randrange(1, 400))]),
                    max_size=choice.choice([0, choice.randrange(1, 200_000)]),
                    payload_max_age=choice.choice([timedelta(), timedelta(minutes=choice.randrange(1, 400))]),
                ),
            )

    def test_what_goes_is_told_in_steps(self, store):
        store.create_many([new_log(f"r{number}", START - timedelta(days=2)) for number in range(2500)])
        told: list[int] = []
        result = store.retain(LogRetention(max_age=timedelta(days=1)), told=told.append)
        assert result.expired == 2500
        assert told == sorted(told)
        assert (len(told) > 1, told[-1]) == (True, 2500)

    def test_retention_by_two_at_once_takes_no_more_than_by_one(self, harness, store):
        store.create_many(
            [
                new_log(f"r{number:04}", START + timedelta(seconds=number), payload={"x": "x" * 100})
                for number in range(3000)
            ]
        )
        wanted = store.retain(LogRetention(max_size=200_000), dry_run=True)
        results: list[RetainResult] = []
        with closing(harness.open()) as other:
            at_once([lambda s=s: results.append(s.retain(LogRetention(max_size=200_000))) for s in (store, other)])
        assert sum(result.evicted for result in results) == wanted.evicted
        assert store.stats().total_requests == 3000 - wanted.evicted

    # -- durability, owners, fences -------------------------------------------------------------------------------

    def test_what_was_acknowledged_is_there_after_reopening(self, harness):
        with closing(harness.open()) as store:
            store.create_many(varied_logs(50))
            store.update("r001", RequestLogChange(payload={"late": 1}))
            store.delete(["r002"])
            before = [(log, store.get(log.id).payload) for log in all_logs(store)]
        with closing(harness.open()) as again:
            assert [(log, again.get(log.id).payload) for log in all_logs(again)] == before
            assert again.schema_version == store_version(harness)
            again.check_backend()

    def test_what_was_written_by_one_store_another_sees(self, harness, store):
        with closing(harness.open()) as other:
            store.create(new_log("a"))
            assert other.get("a") == store.get("a")
            assert other.create_if_absent(new_log("a")) is False
            other.update("a", RequestLogChange(model="m"))
            assert store.get("a").model == "m"

    @pytest.mark.parametrize("role", [role for role in Role if role is not Role.ACTIVE])
    def test_a_store_that_is_not_active_reads_and_takes_no_write(self, store, role):
        store.create(new_log("a", START - timedelta(days=9), payload={"x": 1}))
        with changed_meta(store, role=role):
            for write in writes(store):
                with pytest.raises(Fenced):
                    write()
            assert store.get("a").payload == {"x": 1}
            assert (ids_of(store.search()), store.stats().total_requests) == (["a"], 1)
        for write in writes(store):
            write()

    def test_an_epoch_that_moved_on_takes_no_write_and_opens_for_its_own(self, harness, store):
        with changed_meta(store, epoch=2):
            for write in writes(store):
                with pytest.raises(Fenced):
                    write()
            with pytest.raises(Fenced):
                harness.open(epoch=1)
            with closing(harness.open(epoch=2)) as next_one:
                next_one.create(new_log("a"))
        assert store.get("a").id == "a"

    def test_another_store_or_owner_is_refused(self, harness, store):
        for config in (harness.config(id_="store-2"), harness.config(owner="owner-2")):
            for call in (opening.provision, opening.migrate, lambda c: opening.open_store(c, harness.clock)):
                with pytest.raises(OwnedByAnother):
                    call(config)
        store.create(new_log("a"))
        with changed_meta(store, owner="owner-2"), pytest.raises(OwnedByAnother):
            store.create(new_log("b"))
        with changed_meta(store, store_id="store-2"):
            with pytest.raises(OwnedByAnother):
                store.check_backend()
            opening.destroy(harness.config())
        assert all_ids(store) == ["a"]

    def test_a_released_store_is_adopted_with_its_data(self, harness):
        with closing(harness.open()) as store:
            store.create(new_log("a"))
        for _ in range(2):
            opening.release(harness.config())
        with pytest.raises(Conflict) as error:
            harness.open()
        assert error.value.specific_code == "Released"
        adopter = harness.config(owner="owner-2")
        opening.provision(adopter)
        opening.migrate(adopter)
        with closing(opening.open_store(adopter, harness.clock)) as adopted:
            assert all_ids(adopted) == ["a"]
            adopted.create(new_log("b"))

    def test_jobs_can_be_repeated_and_a_destroyed_store_is_gone(self, harness, store):
        store.create(new_log("a"))
        assert opening.provision(harness.config()) == store.meta()
        assert opening.migrate(harness.config()) == store.schema_version
        assert all_ids(store) == ["a"]
        store.close()
        for _ in range(2):
            opening.destroy(harness.config())
        with pytest.raises(NotFound):
            harness.open()
        with pytest.raises(NotFound):
            opening.migrate(harness.config())
        opening.provision(harness.config())
        with pytest.raises(NotFound, match="migrate"):
            harness.open()
        opening.migrate(harness.config())
        with closing(harness.open()) as fresh:
            assert all_ids(fresh) == []

    def test_provisioning_by_several_at_once(self, harness):
        opening.destroy(harness.config())
        errors = at_once([lambda: opening.provision(harness.config()) for _ in range(6)], allowed=(Conflict,))
        assert len(errors) < 6
        opening.migrate(harness.config())
        with closing(harness.open()) as store:
            store.create(new_log("a"))

    # -- many at once ---------------------------------------------------------------------------------------------

    def test_writers_and_readers_at_once_lose_and_double_nothing(self, store):
        """16 writers that share ids, updates and deletions among them, and 8 readers."""
        stop = threading.Event()
        batches, size = 6, 40

        def write(number: int) -> None:
            for batch in range(batches):
                ids = [f"{batch}-{number // 2}-{item}" for item in range(size)]
                random.Random(number).shuffle(ids)
                store.create_many([document(id_, prompt_tokens=1, payload={"of": id_}) for id_ in ids])
                store.update(ids[0], RequestLogChange(payload={f"w{number}": batch}, model=f"w{number}"))
                store.delete([f"{batch}-{number // 2}-gone", ids[1] + "x"])

        def read() -> None:
            while not stop.is_set():
                assert len(ids := all_ids(store, limit=200)) == len(set(ids))
                stats = store.stats()
                assert stats.prompt_tokens == stats.total_requests

        readers = [threading.Thread(target=collecting(read, errors := [])) for _ in range(8)]
        for reader in readers:
            reader.start()
        try:
            at_once([lambda number=number: write(number) for number in range(16)])
        finally:
            stop.set()
            for reader in readers:
                reader.join(WAIT_SECONDS)
        assert errors == []
        expected = {f"{batch}-{pair}-{item}" for batch in range(batches) for pair in range(8) for item in range(size)}
        assert sorted(all_ids(store, limit=PAGE_MAX)) == sorted(expected)
        assert store.get("3-4-7").payload["of"] == "3-4-7"

    def test_updates_and_deletions_of_the_same_rows_do_not_lock_each_other_out(self, harness, store):
        ids = [f"r{number}" for number in range(20)]
        with closing(harness.open()) as other:

            def churn(number: int) -> None:
                through = (store, other)[number % 2]
                choice = random.Random(number)
                for _ in range(12):
                    shuffled = choice.sample(ids, len(ids))
                    through.create_many([document(id_, payload={"x": 1}) for id_ in shuffled])
                    with suppress(NotFound):
                        through.update(shuffled[0], RequestLogChange(payload={"y": 2}))
                    through.delete(shuffled[::-1])
                    through.retain(LogRetention(payload_max_age=timedelta(minutes=1), max_age=timedelta(hours=3)))

            at_once([lambda number=number: churn(number) for number in range(6)])
        assert set(all_ids(store)) <= set(ids)


# -- request logs and what a list of them says --------------------------------------------------------------------


def new_log(id_: str, time: datetime = START, **fields: Any) -> RequestLog:
    return RequestLog(id=id_, timestamp=time, **fields)


def document(id_: str, **fields: Any) -> dict[str, Any]:
    """A request log as JSON has it."""
    return {"id": id_, "timestamp": START.isoformat(), **fields}


def full_log(id_: str) -> RequestLog:
    """Every field set, each to another value."""
    texts = [name for name, field in RequestLog.model_fields.items() if "str" in str(field.annotation) and name != "id"]
    texts = [name for name in texts if name not in ("metadata", "payload", "status")]
    log = new_log(
        id_, stream=True, latency_ms=12.5, prompt_tokens=10, completion_tokens=20, total_tokens=31,
        cached_read_tokens=4, cost=0.1 + 0.2, number_of_retries=2, fallback_index=1,
        metadata={"a": [1, None]}, payload={"input": "hi"},
        status=Status.SUCCESS, created_at=None, **{name: f"the {name}" for name in texts},
    )  # fmt: skip
    missing = [name for name, value in fields_of(log).items() if value is None and name != "created_at"]
    assert missing == []
    return log


def fields_of(log: RequestLog) -> dict[str, Any]:
    return {name: getattr(log, name) for name in RequestLog.model_fields}


def varied_logs(count: int, seed: int = 1) -> list[RequestLog]:
    """Several a microsecond, over six hours until START; some fields missing, payloads of many sizes."""
    choice = random.Random(seed)

    def maybe(value: Any) -> Any:
        return choice.choice([value, value, None])

    return [
        new_log(
            f"r{number:03}",
            START - timedelta(minutes=choice.randrange(360), microseconds=choice.randrange(2)),
            provider=maybe(choice.choice(["openai", "anthropic", "Öl"])),
            model=maybe(choice.choice(["small", "large"])),
            status=choice.choice(list(Status)),
            latency_ms=maybe(choice.uniform(0, 5000)),
            prompt_tokens=maybe(choice.randrange(10_000)),
            completion_tokens=maybe(choice.randrange(10_000)),
            cost=maybe(choice.uniform(0, 0.5)),
            payload=maybe({"input": "ü" * choice.randrange(1000)}),
        )
        for number in range(count)
    ]


def varied_filters(logs: Sequence[RequestLog]) -> Iterator[Filters]:
    middle = sorted(log.timestamp for log in logs)[len(logs) // 2]
    yield Filters()
    yield Filters(start_time=middle)
    yield Filters(end_time=middle)
    yield Filters(providers=("openai",))
    yield Filters(providers=("openai", "Öl"), models=("large",))
    yield Filters(models=("small", "large", "none"))
    yield Filters(statuses=(Status.ERROR,))
    yield Filters(statuses=(Status.ERROR, Status.SUCCESS), providers=("anthropic",), start_time=middle)
    yield Filters(ids=("r001", "r002", "r002", "no"), end_time=TIME_MAX, start_time=TIME_MIN)
    yield Filters(ids=tuple(log.id for log in logs), models=("small",))
    yield Filters(providers=("none",))


def matching(logs: Sequence[RequestLog], filters: Filters) -> list[RequestLog]:
    def within(log: RequestLog) -> bool:
        after = filters.start_time is None or log.timestamp >= filters.start_time
        return after and (filters.end_time is None or log.timestamp < filters.end_time)

    lists = {"id": filters.ids, "provider": filters.providers, "model": filters.models, "status": filters.statuses}
    return [
        log
        for log in logs
        if within(log) and all(getattr(log, name) in values for name, values in lists.items() if values)
    ]


def in_order(logs: Sequence[RequestLog]) -> list[RequestLog]:
    """Newest first."""
    return sorted(logs, key=lambda log: (log.timestamp, log.id), reverse=True)


def plain_stats(logs: Sequence[RequestLog]) -> Stats:
    successes = sum(log.status == Status.SUCCESS for log in logs)
    answered = successes + sum(log.status == Status.ERROR for log in logs)
    latencies = [log.latency_ms for log in logs if log.latency_ms is not None]
    return Stats(
        total_requests=len(logs),
        success_rate=100 * successes / answered if answered else None,
        average_latency_ms=sum(latencies) / len(latencies) if latencies else None,
        prompt_tokens=sum(log.prompt_tokens or 0 for log in logs),
        completion_tokens=sum(log.completion_tokens or 0 for log in logs),
        total_tokens=sum(
            log.total_tokens
            if log.total_tokens is not None
            else (log.prompt_tokens or 0) + (log.completion_tokens or 0)
            for log in logs
        ),
        total_cost=math.fsum(log.cost or 0 for log in logs),
    )


def assert_same(found: Stats, expected: Stats) -> None:
    """Up to the rounding of sums of floats."""
    for name, value in expected.model_dump().items():
        assert getattr(found, name) == (None if value is None else pytest.approx(value, rel=1e-9)), name


# -- what the cases are made of -----------------------------------------------------------------------------------


def ids_of(page: Page) -> list[str]:
    return [log.id for log in page.logs]


def all_logs(
    store: LogStore, filters: Filters | None = None, *, limit: int = 100, order: Order = Order.NEWEST
) -> list[RequestLog]:
    """Page after page."""
    logs: list[RequestLog] = []
    cursor = None
    while True:
        page = store.search(filters, order=order, limit=limit, cursor=cursor)
        assert len(page.logs) <= limit
        logs += page.logs
        if (cursor := page.cursor) is None:
            return logs


def all_ids(
    store: LogStore, filters: Filters | None = None, *, limit: int = 100, order: Order = Order.NEWEST
) -> list[str]:
    return [log.id for log in all_logs(store, filters, limit=limit, order=order)]


def strange_cursors() -> Iterator[str]:
    """What is no cursor, and what looks like one."""
    yield from ("", "x", "a" * 100, "ü", "\0", "=", "!!!!", "null", "A" * 100_000)
    bodies: list[Any] = [
        None, [], {}, "x", 5, [1], [1, "desc"], [2, "desc", 0, "a"], ["1", "desc", 0, "a"], [1, "desc", "0", "a"],
        [1, "desc", 0.5, "a"], [1, "desc", True, "a"], [1, "desc", 0, 5], [1, "desc", 0, None], [1, "desc", 0, "a", 1],
        [1, "desc", 10**30, "a"], [1, "desc", -(10**30), "a"], [1, "desc", 2**63, "a"], [1, "desc", 0, "nul\0"],
        [1, "desc", 0, "\ud800"], [1, "desc", 0, "x" * 5000], [1, None, 0, "a"], [1, [], 0, "a"],
        {"a": 1, "b": 2, "c": 3, "d": 4},
    ]  # fmt: skip
    for body in bodies:
        yield base64.urlsafe_b64encode(json.dumps(body).encode()).decode().rstrip("=")
    yield base64.urlsafe_b64encode(b"[" * 4000).decode().rstrip("=")
    yield base64.urlsafe_b64encode(b"\xff\xfe").decode().rstrip("=")
    yield base64.urlsafe_b64encode(b'[1, "desc", NaN, "a"]').decode().rstrip("=")


def retained(store: LogStore, retention: LogRetention) -> RetainResult:
    """What retention did, which is what a dry run told and what can be counted."""
    told = store.retain(retention, dry_run=True)
    assert store.retain(retention, dry_run=True) == told
    before, payloads_before = store.stats().total_requests, payload_count(store)
    result = store.retain(retention)
    assert result == told
    assert before - store.stats().total_requests == result.expired + result.evicted
    assert payloads_before - payload_count(store) >= result.payloads
    assert store.retain(retention) == RetainResult()
    return result


def payload_count(store: LogStore) -> int:
    return sum(item.state["payload"] is not None for item in store.driver.export(None, 10_000).items if item.state)


def store_version(harness: Harness) -> str:
    return opening.migrate(harness.config())


def writes(store: LogStore) -> Iterator[Callable[[], object]]:
    """One of each kind of write, in an order in which each changes something."""
    yield lambda: store.create(new_log("w", START - timedelta(days=2), payload={"x": 1}))
    yield lambda: store.create_if_absent(new_log("w2", START - timedelta(days=2)))
    yield lambda: store.create_many([document("w3")])
    yield lambda: store.update("w", RequestLogChange(payload={"y": 1}))
    yield lambda: store.retain(LogRetention(payload_max_age=timedelta(days=1)))
    yield lambda: store.retain(LogRetention(max_age=timedelta(days=1)))
    yield lambda: store.delete(["w3"])


@contextmanager
def changed_meta(store: LogStore, **changes: object) -> Iterator[None]:
    meta = store.meta()
    assert store.driver.change_meta(meta, meta.changed(**changes))
    yield
    assert store.driver.change_meta(meta.changed(**changes), meta)


def collecting(call: Callable[[], object], errors: list[BaseException]) -> Callable[[], None]:
    def run() -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    return run


def at_once(calls: Sequence[Callable[[], object]], allowed: tuple[type[StoreError], ...] = ()) -> list[BaseException]:
    """Run each in a thread; the errors, all of which must be of a kind that is allowed."""
    errors: list[BaseException] = []
    threads = [threading.Thread(target=collecting(call, errors)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert not any(thread.is_alive() for thread in threads), "they wait for each other"
    strange = [error for error in errors if not isinstance(error, allowed)]
    if strange:
        raise strange[0]
    return errors
