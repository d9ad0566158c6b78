"""Who sends to a call's ports without being its peer: nothing of theirs reaches the model, nothing
of ours reaches them. Real sockets, time by hand. The table:
pytest -o log_cli=true --log-cli-level=INFO tests/legs/test_intruders.py
"""

import logging
import os
import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import pytest

from bridge.audio.tones import sine
from bridge.rtp.dtmf import TelephoneEvent
from bridge.rtp.rtcp import Bye, ReceiverReport, SenderReport, serialise_compound
from bridge.rtp.transport import QUARANTINE_S, PortPool
from tests.legs.intrusion import (
    FOREIGN,
    HOST,
    INTRUDER,
    NOISE,
    OTHER_KEY,
    PEER,
    SAID,
    Party,
    Scene,
    intruding,
    rtp,
)
from tests.ports import media_ports

log = logging.getLogger(__name__)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


NewScene = Callable[[bool, bool], Scene]


@pytest.fixture
def new_scene() -> Iterator[NewScene]:
    ports = media_ports(40)
    pool = PortPool(HOST, ports[0], ports[-1], clock=CLOCK, rng=random.Random(4))
    scenes: list[Scene] = []

    def make(nat: bool, keys: bool) -> Scene:
        scenes.append(Scene(pool, nat=nat, keys=keys))
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.close()


def show(way: str, case: str, scene: Scene) -> None:
    """Packets of the intruder that reached the model, and of ours that reached the intruder."""
    log.info("| %-10s | %-48s | %3d | %3d |", way, case, scene.injected, scene.bled)


def packets(of: Party, count: int = 1) -> list[bytes]:
    return [of.packet() for _ in range(count)]


def other_ssrc(scene: Scene) -> None:
    scene.step(10)
    scene.step(50, intruder=scene.noise)


def same_ssrc_next_numbers(scene: Scene) -> None:
    scene.step(10)
    scene.intruder.ssrc = PEER
    scene.intruder.number = scene.peer.number + 5
    scene.step(50, intruder=scene.noise)


def burst_before_the_first_packet(scene: Scene) -> None:
    scene.step(peer=False, intruder=partial(packets, scene.intruder, 30))
    scene.step(50, intruder=scene.noise)


def four_in_sequence_before_the_first_packet(scene: Scene) -> None:
    scene.step(4, peer=False, intruder=scene.noise)
    scene.step(50, intruder=scene.noise)


def sweep_before_and_during(scene: Scene) -> None:
    """One packet to every port, again and again: what rtpbleed does."""

    def sweep() -> Iterable[bytes]:
        return [rtp(random.getrandbits(16), NOISE, INTRUDER)]

    scene.step(20, peer=False, intruder=sweep)
    scene.step(60, intruder=sweep)


def sweep_from_many_ports(scene: Scene) -> None:
    scene.step(5)
    for _ in range(30):
        other = Party(FOREIGN, INTRUDER, NOISE)
        scene.step(intruder=partial(packets, other), of=other)
        other.read()
        scene.intruder.got += other.got
        other.wire.close()


def pause_of_the_peer(scene: Scene) -> None:
    """Once heard, silence of the peer hands the call to nobody."""
    scene.step(10)
    scene.step(100, peer=False, intruder=scene.noise)
    scene.step(20)


def replay_from_elsewhere(scene: Scene) -> None:
    seen: list[bytes] = []

    def capture() -> Iterable[bytes]:
        seen.append(rtp(scene.peer.number, SAID, PEER))
        return seen[-3:]

    scene.step(60, intruder=capture)


def wrong_ssrc_from_the_peers_address(scene: Scene) -> None:
    """A spoofed address; the numbers run on, so that it looks like a new source."""
    scene.step(10)
    scene.step(50, intruder=scene.noise, of=scene.peer)
    scene.sent_by_peer += 50  # counted as received; the model must not hear them


def flood_from_the_peers_address(scene: Scene) -> None:
    """The same, and twenty for each of the peer's."""
    scene.step(10)
    scene.step(50, intruder=partial(packets, scene.intruder, 20), of=scene.peer)
    scene.sent_by_peer += 1000


def digits_from_the_peers_address(scene: Scene) -> None:
    scene.step(10)

    def press() -> Iterable[bytes]:
        scene.intruder.number += 1
        event = bytes(TelephoneEvent(5, True, 10, 800))
        return [rtp(scene.intruder.number, event, INTRUDER, payload_type=101)]

    scene.step(20, intruder=press, of=scene.peer)
    scene.sent_by_peer += 20


def rtcp_from_elsewhere(scene: Scene) -> None:
    scene.step(10)
    bye = serialise_compound((ReceiverReport(PEER), Bye((PEER,))))
    report = bytes(SenderReport(PEER, 1, 1, 1, 1))
    for data in (bye, report, b"\x80\xc8", bytes(8), bytes(Bye((PEER,)))):
        scene.control(scene.intruder, data)
    scene.step(600)


def rtcp_from_another_port_of_the_peer(scene: Scene) -> None:
    scene.step(10)
    other = Party(scene.peer.host, INTRUDER, NOISE)
    for _ in range(5):
        scene.control(other, bytes(SenderReport(INTRUDER, 1, 1, 1, 1)))
    scene.step(600)
    other.read()
    scene.intruder.got += other.got
    other.wire.close()


def rtcp_bye_of_the_peer(scene: Scene) -> None:
    scene.step(10)
    bye = serialise_compound((ReceiverReport(PEER), Bye((PEER,), "gone")))
    for _ in range(5):
        scene.control(scene.peer_control, bye)
    scene.step(30)
    assert scene.media.socket.stats.received_rtcp == 5


def intruder_beside_the_phone_behind_nat(scene: Scene) -> None:
    """Both from the start, neither from the SDP's address."""
    scene.step(60, intruder=scene.noise)


def wrong_key_from_elsewhere(scene: Scene) -> None:
    scene.intruder.use(OTHER_KEY)
    scene.step(50, peer=False, intruder=scene.noise)
    scene.step(50, intruder=scene.noise)


def no_key_from_elsewhere(scene: Scene) -> None:
    scene.step(50, peer=False, intruder=scene.noise)
    scene.step(50, intruder=scene.noise)


def wrong_key_from_the_peers_address(scene: Scene) -> None:
    scene.step(10)
    forger = Party(FOREIGN, PEER, NOISE, OTHER_KEY)
    forger.number = scene.peer.number
    scene.step(50, intruder=partial(packets, forger), of=scene.peer)
    forger.wire.close()


def two_thousand_bad_packets(scene: Scene) -> None:
    scene.step(10)
    scene.step(50, intruder=lambda: [os.urandom(172) for _ in range(20)], of=scene.peer)
    forger = Party(FOREIGN, PEER, NOISE, OTHER_KEY)
    scene.step(50, intruder=partial(packets, forger, 20), of=scene.peer)
    forger.wire.close()
    stats = scene.media.socket.stats
    # Random octets are mostly no RTP: the socket counts those, the wire the rest.
    assert scene.media.rejected_packets + stats.malformed == 2000
    assert scene.media.rejected_packets >= 1000
    assert scene.stream.stats.packets_lost == scene.stream.stats.concealed == 0


def srtp_replay(scene: Scene) -> None:
    """Each packet again, from the peer's address and from elsewhere."""
    seen: list[bytes] = []
    true_packet = scene.peer.packet

    def noted() -> bytes:
        seen.append(true_packet())
        return seen[-1]

    scene.peer.packet = noted  # type: ignore[method-assign]
    scene.step(10)
    scene.step(50, intruder=lambda: seen[-5:], of=scene.peer)
    scene.step(50, intruder=lambda: seen[-5:])
    assert scene.media.rejected_packets == 250


DIRECT = (
    other_ssrc,
    same_ssrc_next_numbers,
    burst_before_the_first_packet,
    four_in_sequence_before_the_first_packet,
    sweep_before_and_during,
    sweep_from_many_ports,
    pause_of_the_peer,
    replay_from_elsewhere,
    rtcp_from_elsewhere,
)
UNPROTECTED = (
    wrong_ssrc_from_the_peers_address,
    flood_from_the_peers_address,
    digits_from_the_peers_address,
    rtcp_from_another_port_of_the_peer,
    rtcp_bye_of_the_peer,
)
BEHIND_NAT = (
    other_ssrc,
    same_ssrc_next_numbers,
    burst_before_the_first_packet,
    four_in_sequence_before_the_first_packet,
    sweep_before_and_during,
    pause_of_the_peer,
    replay_from_elsewhere,
    rtcp_from_elsewhere,
    intruder_beside_the_phone_behind_nat,
)
SECURE = (
    no_key_from_elsewhere,
    wrong_key_from_elsewhere,
    wrong_key_from_the_peers_address,
    two_thousand_bad_packets,
    srtp_replay,
)
CASES = [
    *((case, "plain", False, False) for case in (*DIRECT, *UNPROTECTED)),
    *((case, "plain, NAT", True, False) for case in BEHIND_NAT),
    *((case, "SDES", False, True) for case in (*DIRECT, *SECURE)),
    *((case, "SDES, NAT", True, True) for case in (*BEHIND_NAT, *SECURE)),
]


@pytest.mark.parametrize(
    ("case", "way", "nat", "keys"),
    CASES,
    ids=[f"{way}-{case.__name__}" for case, way, _, _ in CASES],
)
def test_an_intruder_neither_speaks_nor_hears(
    new_scene: NewScene, case: Callable[[Scene], None], way: str, nat: bool, keys: bool
) -> None:
    scene = new_scene(nat, keys)
    case(scene)
    scene.step(20)
    show(way, case.__name__, scene)
    assert scene.talks
    assert (scene.injected, scene.bled) == (0, 0)


def test_who_was_first_behind_nat_loses_the_call_within_four_packets(new_scene: NewScene) -> None:
    """Nothing tells the phone from a stranger while only the stranger sends, and there is no key.
    From its first packet on the phone has what the stranger had."""
    scene = new_scene(True, False)
    scene.step(50, peer=False, intruder=scene.noise)
    assert scene.bled
    scene.intruder.got.clear()
    scene.frames.clear()
    scene.step(50, intruder=scene.noise)
    show("plain, NAT", "once the phone sends, after 1 s of a stranger", scene)
    assert scene.bled <= 4
    assert sum(map(intruding, scene.frames)) <= 6
    assert scene.talks


def test_the_last_call_of_a_port_does_not_reach_the_next(new_scene: NewScene) -> None:
    """Its BYE was lost: the old peer sends on, for longer than the port rests."""
    old = new_scene(False, False)
    old.step(10)
    address = old.media.socket.address
    old.media.socket.close()
    CLOCK.now += QUARANTINE_S + 1
    while (scene := new_scene(False, False)).media.socket.address != address:
        pass
    scene.intruder, scene.bystander = old.peer, scene.intruder
    scene.intruder.payload = NOISE
    scene.intruder.got.clear()
    scene.step(4, peer=False, intruder=scene.noise)
    scene.step(60, intruder=scene.noise)
    show("plain", "port used again, the old peer sends on", scene)
    assert scene.talks
    assert (scene.injected, scene.bled) == (0, 0)


def test_the_count_of_the_model_is_not_blind() -> None:
    """What the matrix counts as an intruder's tone is one, and what the peer says is none."""
    assert intruding((sine(1700, 0.02) // 50).astype(np.int16))
    assert not intruding((sine(400, 0.02) // 32).astype(np.int16))
