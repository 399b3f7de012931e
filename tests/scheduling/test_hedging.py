"""Who is woken, and what is never asked twice."""

from __future__ import annotations

from torrentfs.metainfo.geometry import Geometry
from torrentfs.scheduling.hedging import hedge, next_wakeup, to_wake
from torrentfs.scheduling.picker import Level, Picker, Request, SourceKind, Want

MIB = 1024 * 1024


def make() -> Picker:
    picker = Picker(Geometry(MIB, [8 * MIB]))
    for name in (1, 2):
        picker.add_source(name, SourceKind.PEER, 0.0, max_queue=250)
        picker.on_have_all(name)
        picker.on_unchoke(name, 0.0)
    return picker


def test_no_block_is_asked_twice_of_one_source_or_beyond_the_budget() -> None:
    for duplicates, expected in ((0, True), (10 * MIB, False)):
        picker = make()
        picker.set_agenda([Want(0, Level.URGENT, 9.0)], 0.0)
        picker.pick(1, 0.0)
        picker.duplicates = duplicates
        asked = hedge(picker, picker.ledger.sources[2], 50, 2.0)
        assert bool(asked) is expected
        again = hedge(picker, picker.ledger.sources[2], 50, 2.0)
        assert not set(asked) & set(again)
        assert hedge(picker, picker.ledger.sources[1], 50, 2.0) == []


def test_who_sends_what_nobody_asked_for_does_not_end_the_hedging() -> None:
    """It would be cheap: a peer sends blocks without end, and late ones are asked of nobody."""
    picker = make()
    picker.set_agenda([Want(0, Level.URGENT, 9.0)], 0.0)
    picker.pick(1, 0.0)
    for number in range(1000):
        picker.on_block(2, number % 8, 63 * 16384, 16384, 0.0)
    assert picker.wasted == 1000 * 16384
    assert hedge(picker, picker.ledger.sources[2], 50, 2.0)


def test_who_falls_silent_and_answers_probes_does_not_end_the_hedging() -> None:
    """Fifty who do so bring 200 KB/s that nobody waits for; the budget is for what reads await."""
    picker = make()
    now, probes = 0.0, 0
    for number in range(8):
        picker.set_agenda([Want(number, Level.URGENT, 9.0)], now)
        picker.ledger.sources[2].snubbed = True
        asked = picker.pick(1, now)
        (probe,) = picker.pick(2, now)
        now += 40.0
        for piece, begin, length in asked:
            picker.on_block(1, piece, begin, length, now)
        if number % 2:
            picker.on_stored(number)
        picker.on_block(2, *probe, now)
        probes += not picker.ledger.sources[2].snubbed
    assert probes == 8
    assert picker.wasted == 8 * 16384
    assert picker.duplicates == 0


def test_read_ahead_is_never_hedged() -> None:
    picker = make()
    picker.set_agenda([Want(0, Level.WINDOW, 9.0)], 0.0)
    picker.pick(1, 0.0)
    assert hedge(picker, picker.ledger.sources[2], 50, 1.0) == []


def test_it_wakes_for_late_blocks_while_a_read_waits() -> None:
    picker = make()
    assert to_wake(picker, 0.0) == []
    picker.set_agenda([Want(0, Level.URGENT, 9.0)], 0.0)
    assert sorted(to_wake(picker, 0.0)) == [1, 2]
    picker.pick(1, 0.0)
    to_wake(picker, 0.1)
    wake = next_wakeup(picker, 0.1)
    assert wake is not None
    assert 0.1 <= wake <= 0.121


def test_a_silent_source_does_not_hold_what_a_web_seed_could_bring() -> None:
    """A tab was closed, which nobody tells for half a minute. A web seed hedges nothing: it takes
    what is free; so the silent one may not take it again and again."""
    size, step, rate = 2 * MIB, 0.02, 2_000_000
    picker = Picker(Geometry(128 * 1024, [size]))
    picker.add_source(1, SourceKind.PEER, 0.0, max_queue=250)
    picker.add_source(2, SourceKind.WEB_SEED, 0.0, max_queue=2)
    for name in (1, 2):
        picker.on_have_all(name)
        picker.on_unchoke(name, 0.0)
    now, here, owed = 0.0, 0, 0.0
    span: tuple[int, int] | None = None
    asked: tuple[int, int] | None = None
    queue: list[Request] = []
    while here < size and now < 30:
        # the reader wants the first piece that is missing, and what is behind it ahead of time
        missing = [n for n in range(16) if n not in picker.ledger.stored]
        wants = [Want(missing[0], Level.URGENT, now + 10)]
        wants += [Want(n, Level.WINDOW, now + 10) for n in missing[1:]]
        picker.set_agenda(wants, now)
        for name in to_wake(picker, now):
            if name == 1:
                queue += picker.pick(1, now)
            elif span is None:
                span = asked = picker.pick_span(2, now)
        blocks: list[tuple[int, Request]] = []
        if now < 0.3:  # the peer is fast, then its tab is closed
            blocks += [(1, request) for request in queue[:4]]
            del queue[:4]
        if span is not None:
            start, length = span
            owed += rate * step
            while owed >= 16384 and length:
                piece, begin = divmod(start, 128 * 1024)
                blocks.append((2, Request(piece, begin, 16384)))
                start, length, owed = start + 16384, length - 16384, owed - 16384
            span = start, length
        for name, request in blocks:
            verdict = picker.on_block(name, *request, now)
            here += 16384 * verdict.wanted
            if verdict.piece_complete:
                picker.on_stored(request.piece)
        if span is not None and not span[1] and asked is not None:
            picker.on_span_done(2, *asked, now)
            span = None
        now += step
    assert now < 6


def test_a_waiting_read_is_looked_after_though_nothing_is_in_flight() -> None:
    """What a source asks for when it is woken is told to nobody."""
    picker = make()
    picker.set_agenda([Want(0, Level.URGENT, 9.0)], 0.0)
    to_wake(picker, 0.0)
    assert next_wakeup(picker, 0.0) is not None
    picker.set_agenda([], 0.1)
    to_wake(picker, 0.1)
    assert next_wakeup(picker, 0.1) is None
