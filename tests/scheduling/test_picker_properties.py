"""The picker as a state machine: whatever the order of facts, its invariants hold."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from torrentfs.metainfo.geometry import BLOCK_LENGTH, Geometry
from torrentfs.scheduling.agenda import ALL
from torrentfs.scheduling.ledger import bits
from torrentfs.scheduling.picker import (
    Level,
    Picker,
    PickerConfig,
    Request,
    SourceKind,
    Want,
)

PIECES = 12

MASKS = st.one_of(st.just(ALL), st.integers(1, 31))


class PickerMachine(RuleBasedStateMachine):
    """Drives a picker with facts; `asked` is what the engine would have outstanding."""

    @initialize(blocks=st.integers(1, 5), tail=st.integers(1, BLOCK_LENGTH))
    def start(self, blocks: int, tail: int) -> None:
        length = blocks * BLOCK_LENGTH
        self.geometry = Geometry(length, [length * (PIECES - 1) + min(tail, length)])
        self.picker = Picker(self.geometry, PickerConfig(max_idle_partials=2, initial_queue=3))
        self.now = 1.0
        self.names = 0
        self.asked: dict[int, set[Request]] = {}
        self.seeds: dict[int, bool] = {}
        self.stored: set[int] = set()
        self.whole: set[int] = set()
        self.wanted: dict[int, int] = {}

    def some(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.asked)))

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.3, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(web=st.booleans(), pieces=st.sets(st.integers(0, PIECES - 1)), reqq=st.integers(1, 20))
    def connect(self, web: bool, pieces: set[int], reqq: int) -> None:
        if len(self.asked) >= 5:
            return
        self.names += 1
        kind = SourceKind.WEB_SEED if web else SourceKind.PEER
        self.picker.add_source(self.names, kind, self.now, max_queue=1 + reqq % 3 if web else reqq)
        for piece in () if web else pieces:
            self.picker.on_have(self.names, piece)
        self.asked[self.names] = set()
        self.seeds[self.names] = web

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        name = self.some(data)
        self.picker.remove_source(name, self.now)
        del self.asked[name], self.seeds[name]

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), what=st.sampled_from(["unchoke", "choke", "choke keeping", "have all"]))
    def talk(self, data: st.DataObject, what: str) -> None:
        name = self.some(data)
        if self.seeds[name]:
            return
        if what == "unchoke":
            self.picker.on_unchoke(name, self.now)
        elif what == "have all":
            self.picker.on_have_all(name)
        else:
            self.picker.on_choke(name, self.now, keeps_requests=what != "choke")
            if what == "choke":
                self.asked[name].clear()

    @precondition(lambda self: self.asked)
    @rule(
        data=st.data(),
        piece=st.integers(0, PIECES - 1),
        what=st.sampled_from(["have", "dont have", "allowed fast"]),
    )
    def tell(self, data: st.DataObject, piece: int, what: str) -> None:
        name = self.some(data)
        if self.seeds[name]:
            return
        if what == "have":
            self.picker.on_have(name, piece)
        elif what == "dont have":
            self.picker.on_dont_have(name, piece)
        else:
            self.picker.on_allowed_fast(name, piece)

    @rule(
        urgent=st.lists(st.tuples(st.integers(0, PIECES - 1), MASKS), max_size=3),
        ahead=st.lists(st.tuples(st.integers(0, PIECES - 1), MASKS), max_size=6),
    )
    def want(self, urgent: list[tuple[int, int]], ahead: list[tuple[int, int]]) -> None:
        urgent = [(piece, self.real(piece, blocks)) for piece, blocks in urgent]
        ahead = [(piece, self.real(piece, blocks)) for piece, blocks in ahead]
        wants = [Want(piece, Level.URGENT, self.now + 1, blocks) for piece, blocks in urgent]
        wants += [Want(piece, Level.WINDOW, self.now + 9, blocks) for piece, blocks in ahead]
        self.picker.set_agenda(wants, self.now)
        self.wanted = {}
        for piece, blocks in [*urgent, *ahead]:
            self.wanted[piece] = self.wanted.get(piece, 0) | blocks
        assert not [
            piece
            for piece in self.picker.ledger.open.values()
            if piece.in_flight & ~self.wanted.get(piece.number, 0)
        ], "withdrawn demand leaves nothing in flight"

    def real(self, piece: int, blocks: int) -> int:
        if blocks == ALL:
            return ALL
        return blocks & ((1 << self.geometry.num_blocks(piece)) - 1) or 1

    def is_wanted(self, piece: int, begin: int) -> bool:
        return bool(self.wanted.get(piece, 0) >> begin // BLOCK_LENGTH & 1)

    @rule(data=st.data())
    def prove_wrong(self, data: st.DataObject) -> None:
        partial = self.picker.partial_pieces()
        if not partial:
            return
        piece = data.draw(st.sampled_from(partial))
        block = data.draw(st.sampled_from(list(bits(self.picker.ledger.open[piece].received))))
        self.whole.discard(piece)
        self.picker.on_wrong_block(piece, block)
        if piece in self.picker.ledger.open:
            assert self.picker.ledger.open[piece].free >> block & 1

    @rule(piece=st.integers(0, PIECES - 1), blocks=MASKS)
    def know(self, piece: int, blocks: int) -> None:
        if self.picker.on_known(piece, self.real(piece, blocks)):
            assert piece not in self.whole
            self.whole.add(piece)

    @rule(piece=st.integers(0, PIECES - 1))
    def use(self, piece: int) -> None:
        self.picker.on_used(piece)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def pick(self, data: st.DataObject) -> None:
        name = self.some(data)
        source = self.picker.ledger.sources[name]
        if self.seeds[name]:
            before = set(source.in_flight)
            span = self.picker.pick_span(name, self.now)
            if span is not None:
                for piece, begin, length in self.geometry.spans(*span):
                    assert piece not in self.stored
                    for n in range(begin, begin + length, BLOCK_LENGTH):
                        block_id = piece * self.picker.ledger.per_piece + n // BLOCK_LENGTH
                        assert self.is_wanted(piece, n)
                        if source.snubbed and block_id not in source.in_flight:
                            assert block_id in source.cancelled, "a copy, to see if it answers"
                        else:
                            assert block_id in source.in_flight
                        assert block_id not in before
                        size = self.geometry.block_length(piece, n)
                        self.asked[name].add(Request(piece, n, size))
            return
        requests = self.picker.pick(name, self.now)
        assert len(set(requests)) == len(requests)
        for request in requests:
            assert source.serves(request.piece), "never ask a source for what it lacks"
            assert self.is_wanted(*request[:2]), "nothing is fetched that nobody asked for"
            assert request.piece not in self.stored
            assert request.length == self.geometry.block_length(request.piece, request.begin)
            self.asked[name].add(request)
        assert len(source.in_flight) <= source.pace.limit, "never more than its queue"

    @precondition(lambda self: any(self.asked.values()))
    @rule(data=st.data(), rejected=st.booleans())
    def answer(self, data: st.DataObject, rejected: bool) -> None:
        name = data.draw(st.sampled_from(sorted(n for n, asked in self.asked.items() if asked)))
        request = data.draw(st.sampled_from(sorted(self.asked[name])))
        self.asked[name].discard(request)
        if rejected and not self.seeds[name]:
            self.picker.on_reject(name, request, self.now)
            return
        if self.picker.on_block(name, *request, self.now).piece_complete:
            assert request.piece not in self.whole
            self.whole.add(request.piece)

    @precondition(lambda self: self.whole)
    @rule(data=st.data(), good=st.booleans())
    def check(self, data: st.DataObject, good: bool) -> None:
        piece = data.draw(st.sampled_from(sorted(self.whole)))
        self.whole.discard(piece)
        if good:
            self.picker.on_stored(piece)
            self.stored.add(piece)
        else:
            self.picker.on_failed(piece)

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def evict(self, data: st.DataObject) -> None:
        piece = data.draw(st.sampled_from(sorted(self.stored)))
        self.stored.discard(piece)
        self.picker.on_lost(piece)

    @precondition(lambda self: any(self.seeds.values()))
    @rule(data=st.data())
    def end_span(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(n for n, web in self.seeds.items() if web)))
        source = self.picker.ledger.sources[name]
        for start, length in list(source.spans):
            self.picker.on_span_done(name, start, length, self.now)
        self.asked[name].clear()
        assert not source.in_flight

    @rule()
    def housekeeping(self) -> None:
        for name, request in self.picker.take_cancels():
            assert request.length > 0
            assert name <= self.names
        for number in self.picker.take_dropped():
            assert number not in self.picker.partial_pieces()
        woken = self.picker.to_wake(self.now)
        assert len(set(woken)) == len(woken)
        wake = self.picker.next_wakeup(self.now)
        assert wake is None or wake >= self.now
        self.picker.statistics()

    @invariant()
    def one_state_per_block(self) -> None:
        if not hasattr(self, "picker"):
            return
        ledger = self.picker.ledger
        owners: dict[int, list[int]] = {}
        for name, source in ledger.sources.items():
            for block_id in source.in_flight:
                owners.setdefault(block_id, []).append(name)
        for number, piece in ledger.open.items():
            assert not piece.free & piece.received
            assert number not in ledger.stored
            for block in range(len(piece.by)):
                block_id = number * ledger.per_piece + block
                bit = 1 << block
                have = owners.pop(block_id, [])
                if piece.free & bit:
                    assert not have
                    assert piece.by[block] is None
                elif piece.received & bit:
                    assert not have
                else:
                    assert have, "a block in flight is in flight somewhere"
                    assert piece.by[block] in have
                    assert sorted(ledger.hedges.get(block_id, have)) == sorted(have)
                    assert (len(have) > 1) == (block_id in ledger.hedges)
        assert not owners, "what is in flight is of an open piece"
        for lane in (ledger.urgent, ledger.ahead):
            for position in bits(lane.free):
                number = lane.pieces[position]
                wanted = lane.wanted(number)
                assert number not in ledger.open or ledger.open[number].free & wanted
            for number, piece in ledger.open.items():
                if piece.free & lane.wanted(number):
                    assert lane.free >> lane.position[number] & 1
        assert self.picker._idle.keys() <= ledger.open.keys()
        assert sum(self.picker._idle.values()) == self.picker._idle_bytes

    @precondition(lambda self: hasattr(self, "picker"))
    @rule()
    def progress(self) -> None:
        """With a live seed alone, everything wanted is asked for in a few rounds and arrives."""
        self.names += 1
        name = self.names
        self.picker.add_source(name, SourceKind.PEER, self.now, max_queue=10)
        self.picker.on_have_all(name)
        self.picker.on_unchoke(name, self.now)
        for other in list(self.asked):
            self.picker.remove_source(other, self.now)
        self.asked = {name: set()}
        self.seeds = {name: False}
        wants = [Want(piece, Level.URGENT, self.now) for piece in sorted(self.wanted)]
        self.wanted = dict.fromkeys(self.wanted, ALL)
        self.picker.set_agenda(wants, self.now)
        for _ in range(100):
            requests = self.picker.pick(name, self.now)
            if not requests:
                break
            self.now += 0.05
            for request in requests:
                if self.picker.on_block(name, *request, self.now).piece_complete:
                    self.whole.add(request.piece)
        assert self.wanted.keys() <= self.stored | self.whole


PickerMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestPicker = PickerMachine.TestCase
