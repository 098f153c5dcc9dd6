"""Windows against an exact log: whatever is counted whenever, a window keeps its bounds."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from store_runtime.runtimestore.rings import Level, Ring, levels_for, ring_of, rings_from

SECOND_NS = 1_000_000_000
START_NS = 1_767_225_600 * SECOND_NS
LEVELS = levels_for([timedelta(seconds=7), timedelta(minutes=1), timedelta(hours=1)])

charges = st.integers(1, 1000).map(float)
amounts = st.integers(-1000, 1000).map(float)
steps_ns = st.one_of(st.integers(0, 3 * SECOND_NS), st.integers(0, 90 * SECOND_NS), st.integers(0, 4000 * SECOND_NS))
back_and_forth_ns = st.one_of(steps_ns, steps_ns.map(lambda step: -step))
levels = st.sampled_from(LEVELS)
parts = st.floats(0.001, 1.0)


def counted(level, steps, start_ns=START_NS):
    """A ring and the exact log of (instant, amount) that went into it."""
    ring, log, at_ns = Ring(level), [], start_ns
    for step_ns, amount in steps:
        at_ns += step_ns
        ring.add(amount, at_ns)
        log.append((at_ns, amount))
    return ring, log, at_ns


def total(log, after_ns, up_to_ns, sign=0):
    return sum(a for at, a in log if after_ns < at <= up_to_ns and (not sign or a * sign > 0))


@given(levels, parts, st.lists(st.tuples(steps_ns, charges), max_size=60), steps_ns)
def test_a_window_holds_at_least_what_was_counted_and_at_most_one_bucket_more(level, part, steps, later_ns):
    ring, log, at_ns = counted(level, steps)
    now_ns, window_ns = at_ns + later_ns, max(1, int(level.window_ns * part))
    answer = ring.window(window_ns, now_ns)
    assert total(log, now_ns - window_ns, now_ns) <= answer
    assert answer <= total(log, now_ns - window_ns - level.width_ns, now_ns)


@given(levels, parts, st.lists(st.tuples(steps_ns, amounts), max_size=60), steps_ns)
def test_refunds_never_make_a_window_too_small(level, part, steps, later_ns):
    ring, log, at_ns = counted(level, steps)
    now_ns, window_ns = at_ns + later_ns, max(1, int(level.window_ns * part))
    answer = ring.window(window_ns, now_ns)
    since_ns, width_ns = now_ns - window_ns, level.width_ns
    assert max(0.0, total(log, since_ns, now_ns)) <= answer
    charged = total(log, since_ns - width_ns, now_ns, sign=1)
    refunded = total(log, since_ns + width_ns, now_ns, sign=-1)
    assert answer <= max(0.0, charged + refunded)


def still_owed(level, log, window_ns, now_ns):
    """Charges the window has to hold, less refunds it may take off, by the rule for clocks that go back: a charge is
    owed until the clock was seen a window past it; a step back of more than the ring makes what is owed present."""
    owed, refunds, newest_ns = [], [], 0
    for at_ns, amount in log:
        if at_ns // level.width_ns <= newest_ns // level.width_ns - level.slots:
            owed, refunds, newest_ns = [(at_ns, sum(a for _, a in owed))], [], at_ns
        newest_ns = max(newest_ns, at_ns)
        owed = [(stamp_ns, a) for stamp_ns, a in owed if stamp_ns > at_ns - window_ns]
        (owed if amount > 0 else refunds).append((at_ns, amount))
    return total(owed + refunds, now_ns - window_ns, 2 * START_NS**2)


@given(
    levels,
    parts,
    st.lists(st.tuples(back_and_forth_ns, amounts.filter(bool)), max_size=60),
    back_and_forth_ns,
)
def test_a_charge_counts_until_the_clock_was_seen_a_window_past_it(level, part, steps, later_ns):
    ring, log, at_ns = counted(level, steps, START_NS * 2)
    now_ns, window_ns = at_ns + later_ns, max(1, int(level.window_ns * part))
    assert ring.window(window_ns, now_ns) >= max(0.0, still_owed(level, log, window_ns, now_ns))


def test_a_clock_that_went_back_far_keeps_what_was_counted_for_another_window():
    level = LEVELS[1]
    ring, _, _ = counted(level, [(0, 5.0), (-3600 * SECOND_NS, 1.0)])
    back_ns = START_NS - 3600 * SECOND_NS
    assert ring.window(level.window_ns, back_ns) == 6.0
    assert ring.window(level.window_ns, back_ns + 59 * SECOND_NS) == 6.0
    assert ring.window(level.window_ns, back_ns + 61 * SECOND_NS) == 0.0


def test_a_charge_moved_to_other_windows_is_put_at_the_end_of_its_old_bucket():
    coarse, fine = Level(60 * SECOND_NS, 61), Level(SECOND_NS, 61)
    ring, _, _ = counted(coarse, [(59 * SECOND_NS, 5.0)])
    (moved,) = rings_from([fine], [(coarse, ring.buckets())])
    assert moved.window(SECOND_NS, START_NS + 59 * SECOND_NS) == 5.0
    assert moved.window(60 * SECOND_NS, START_NS + 119 * SECOND_NS) == 5.0
    assert moved.window(60 * SECOND_NS, START_NS + 121 * SECOND_NS) == 0.0


@given(levels, st.lists(st.tuples(steps_ns, amounts), max_size=60))
def test_a_ring_made_again_from_its_buckets_is_the_same_ring(level, steps):
    ring, _, at_ns = counted(level, steps)
    copy = ring_of(level, level, ring.buckets())
    assert copy.buckets() == ring.buckets()
    for seconds in (0, 1, 59, 3600):
        later_ns = at_ns + seconds * SECOND_NS
        assert copy.window(level.window_ns, later_ns) == ring.window(level.window_ns, later_ns)


@given(
    st.lists(st.tuples(steps_ns, amounts), max_size=60),
    st.integers(1, 3600),
    st.lists(st.tuples(steps_ns, charges), max_size=20),
)
def test_other_windows_never_lose_what_the_old_ones_held(steps, seconds, steps_after):
    before = [counted(level, steps) for level in LEVELS]
    _, log, at_ns = before[0]
    (level,) = levels_for([timedelta(seconds=seconds)])
    (ring,) = rings_from([level], [(ring.level, ring.buckets()) for ring, _, _ in before])
    for step_ns, amount in steps_after:
        at_ns += step_ns
        ring.add(amount, at_ns)
        log.append((at_ns, amount))
    assert ring.window(level.window_ns, at_ns) >= max(0.0, total(log, at_ns - level.window_ns, at_ns))


@given(levels, st.lists(st.tuples(back_and_forth_ns, amounts), max_size=200))
def test_memory_is_constant(level, steps):
    ring, _, _ = counted(level, steps, START_NS * 2)
    assert len(ring.charges) == level.slots
    assert ring.refunds is None or len(ring.refunds) == level.slots
    assert len(ring.buckets()) <= level.slots


def test_levels_are_a_sixtieth_of_their_window():
    made = levels_for([timedelta(hours=1), timedelta(seconds=7), timedelta(minutes=1), timedelta(seconds=60)])
    assert made == (
        Level(7 * SECOND_NS // 60 + 1, 61),
        Level(SECOND_NS, 61),
        Level(60 * SECOND_NS, 61),
    )


def test_a_slot_is_empty_when_its_turn_comes_again():
    steps = [(0, 9.0), (0, -3.0), (30 * SECOND_NS, 1.0), (31 * SECOND_NS, 5.0)]
    ring, _, at_ns = counted(LEVELS[1], steps)
    assert ring.window(LEVELS[1].window_ns, at_ns) == 6.0
    assert ring.window(SECOND_NS, at_ns) == 5.0
