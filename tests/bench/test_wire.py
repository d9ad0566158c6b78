"""The load generator tells the truth: its SRTP is libsrtp's, its counts and times are right."""

import select
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pylibsrtp
import pytest

from tests.bench import sounds
from tests.bench.wire import Counted, Script, Wire, percentile

KEYS = (bytes(range(30)), bytes(range(100, 130)))
# A spurt of three packets, then a pause of seven: 200 ms a round.
SHORT = Script((b"\x00" * 160,) * 3 + (b"\xff" * 160,) * 7, 3, 160, opus=False)
needs_cc = pytest.mark.interop("cc")


def udp() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.settimeout(2)
    return made


@contextmanager
def line(
    script: Script, keys: tuple[bytes, bytes] | None = None
) -> Iterator[tuple[Wire, socket.socket, socket.socket]]:
    """A wire with one stream, its socket and the far end's."""
    ours, theirs = udp(), udp()
    with ours, theirs:
        wire = Wire(2)
        wire.add(
            ours.fileno(),
            theirs.getsockname(),
            script=wire.script(script),
            payload_type=0,
            phase=0.0,
            keys=keys,
        )
        wire.start()
        yield wire, ours, theirs
        wire.stop()


def srtp(key: bytes, *, inbound: bool) -> pylibsrtp.Session:
    kind = pylibsrtp.Policy.SSRC_ANY_INBOUND if inbound else pylibsrtp.Policy.SSRC_ANY_OUTBOUND
    policy = pylibsrtp.Policy(key=key, ssrc_type=kind)
    return pylibsrtp.Session(policy)


def settled(wire: Wire, received: int) -> Counted:
    """What was counted once that many came."""
    total: Counted | None = None
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        taken = wire.take()
        if total is None:
            total = taken
        else:
            total.counts = {k: v + taken.counts[k] for k, v in total.counts.items()}
            total.spacing += taken.spacing
            total.latency += taken.latency
        if total.counts["received"] + total.counts["rejected"] >= received:
            return total
        select.select([], [], [], 0.01)
    raise AssertionError(total)


@needs_cc
def test_libsrtp_reads_what_the_wire_writes() -> None:
    with line(SHORT, KEYS) as (_, _, theirs):
        session = srtp(KEYS[0], inbound=True)
        for _ in range(12):
            packet = session.unprotect(theirs.recv(2000))
            assert packet[12:] in SHORT.payloads


@needs_cc
def test_the_wire_reads_what_libsrtp_writes_over_a_wrap_and_refuses_the_rest() -> None:
    with line(SHORT, KEYS) as (wire, ours, theirs):
        session = srtp(KEYS[1], inbound=False)
        for at in range(10):
            header = (
                bytes([0x80, 0]) + ((65531 + at) % 65536).to_bytes(2, "big") + bytes(7) + b"\x01"
            )
            theirs.sendto(session.protect(header + b"\xff" * 160), ours.getsockname())
        theirs.sendto(b"\x80\x00" + bytes(180), ours.getsockname())
        counts = settled(wire, 11).counts
    assert (counts["received"], counts["rejected"], counts["lost"]) == (10, 1, 0)


@needs_cc
def test_losses_doubles_and_strays_are_counted() -> None:
    with line(SHORT) as (wire, ours, theirs):
        for sequence in (1, 2, 2, 5, 4, 6):
            header = b"\x80\x00" + sequence.to_bytes(2, "big") + bytes(8)
            theirs.sendto(header + b"\xff" * 160, ours.getsockname())
        counts = settled(wire, 6).counts
    assert {k: counts[k] for k in ("received", "duplicated", "reordered", "lost")} == {
        "received": 6,
        "duplicated": 1,
        "reordered": 1,
        "lost": 1,
    }


@needs_cc
def test_an_echo_that_is_held_back_is_seen_to_be_late() -> None:
    """40 ms, each from when it came."""
    with line(SHORT) as (wire, ours, theirs):
        kept: deque[tuple[float, bytes]] = deque()
        sent = 0
        while sent < 43:
            rest_s = kept[0][0] - time.monotonic() if kept else 1.0
            if rest_s <= 0:
                theirs.sendto(kept.popleft()[1], ours.getsockname())
                sent += 1
            elif select.select([theirs], [], [], rest_s)[0]:
                kept.append((time.monotonic() + 0.04, theirs.recv(2000)))
        taken = wire.take()
    assert taken.counts["spurts_heard"] >= 3
    usual = percentile(taken.latency, 0.5)
    assert usual is not None
    assert 39 <= usual <= 50
    spacing = percentile(taken.spacing, 0.5)
    assert spacing is not None
    assert 18 <= spacing <= 22


@needs_cc
def test_what_is_no_media_is_handed_over() -> None:
    slow, to_slow = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with slow, to_slow, udp() as ours, udp() as theirs:
        wire = Wire(1, to_slow.fileno())
        script = wire.script(SHORT)
        number = wire.add(
            ours.fileno(), theirs.getsockname(), script=script, payload_type=0, phase=0.0
        )
        wire.start()
        theirs.sendto(b"\x00\x01STUN", ours.getsockname())
        slow.settimeout(2)
        assert slow.recv(100) == number.to_bytes(4, "little") + b"\x00\x01STUN"
        wire.stop()


def test_percentiles_are_upper_edges_of_bins() -> None:
    bins = np.zeros(100, np.uint32)
    bins[[19, 49]] = 98, 2
    assert percentile(bins, 0.5) == 2.0
    assert percentile(bins, 0.99) == 5.0
    assert percentile(np.zeros(3, np.uint32), 0.5) is None


def test_what_the_callers_say_is_loud_and_then_still() -> None:
    for script in (sounds.pcmu(), sounds.opus()):
        loud, still = script.payloads[: script.loud], script.payloads[script.loud :]
        assert loud
        assert len(set(still)) == 1
        if script.opus:
            assert min(map(len, loud)) > 50
            assert len(still[0]) < 10
        else:
            assert all(
                min(payload) < 0x30 or min(b | 0x80 for b in payload) < 0xB0 for payload in loud
            )


def test_the_library_is_not_in_the_tree() -> None:
    assert not list(Path(__file__).parent.glob("*.so"))
