"""Somebody sprays every RTP port of a service while calls go on: what gets in, what gets out.

    python -m tests.bench.spray --seconds 60 --calls 10

Half of the phones are behind NAT: their SDP names an address that nobody reaches. The stranger
sends an unbroken stream to each port, and RTCP BYE beside it, from before the first call on.
"""

import argparse
import asyncio
import os
import random
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from bridge.rtp.packet import RtpPacket
from bridge.rtp.rtcp import Bye, ReceiverReport, serialise_compound
from tests.peers.phone import FRAME, Phone, encode
from tests.peers.service import Service

STRANGER = "127.0.0.2"
TONE = encode((12_000 * np.sin(2 * np.pi * 1700 * np.arange(FRAME) / 8000)).astype(np.int16))
LOUD = 1000


class NatPhone(Phone):
    def sdp(self, direction: str = "sendrecv") -> str:
        return super().sdp(direction).replace("c=IN IP4 127.0.0.1", "c=IN IP4 10.99.0.7")


@dataclass
class Sprayer:
    ports: range
    sent: int = 0
    got: int = 0
    _stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            wire.bind((STRANGER, 0))
            wire.setblocking(False)
            ssrc, number = random.getrandbits(32), random.getrandbits(15)
            bye = serialise_compound((ReceiverReport(ssrc), Bye((ssrc,))))
            due = time.monotonic()
            while not self._stopping.is_set():
                number = (number + 1) & 0xFFFF
                data = bytes(RtpPacket(0, False, number, number * FRAME, ssrc, TONE))
                for port in self.ports:
                    wire.sendto(bye if port % 2 else data, ("127.0.0.1", port))
                self.sent += len(self.ports)
                self._read(wire)
                due += 0.02
                time.sleep(max(0.0, due - time.monotonic()))
            time.sleep(0.2)
            self._read(wire)

    def _read(self, wire: socket.socket) -> None:
        while True:
            try:
                wire.recv(2048)
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # a port that nobody has open
            self.got += 1

    @contextmanager
    def spraying(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join()


async def talk(service: Service, calls: int, seconds: float) -> list[Phone]:
    phones: list[Phone] = []
    for number in range(calls):
        phone = await (NatPhone if number % 2 else Phone)(service.sip).open()
        phones.append(await phone.call())
    await asyncio.sleep(seconds)
    for phone in phones:
        phone.hangup()
        await phone.close()
    return phones


@dataclass(frozen=True, slots=True)
class Outcome:
    sprayed: int
    bled: int
    """Packets of ours that the stranger got."""
    injected: int
    """Packets with its tone that phones, who are silent, got back from an echo."""
    heard: int
    """Packets that phones got."""
    ended: int
    """Calls that did not last."""


def spray(calls: int, seconds: float) -> Outcome:
    with Service(session__backend="echo") as service:
        low, high = (int(service.settings[f"rtp.port_{end}"]) for end in ("min", "max"))
        sprayer = Sprayer(range(low, high + 1))
        with sprayer.spraying():
            phones = asyncio.run(talk(service, calls, seconds))
        live = service.metric("bridge_calls_ended_total") - calls
    packets = [packet for phone in phones for packet in phone.packets]
    return Outcome(
        sprayer.sent,
        sprayer.got,
        sum(packet.peak > LOUD for packet in packets),
        len(packets),
        sum(phone.ended.is_set() for phone in phones) + int(max(0, live)),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="%(default)s")
    parser.add_argument("--calls", type=int, default=10, help="%(default)s")
    options = parser.parse_args(arguments)
    outcome = spray(options.calls, options.seconds)
    print(f"load {os.getloadavg()[0]:.1f}")
    print(
        f"{outcome.sprayed} packets sprayed in {options.seconds:g} s at {options.calls} calls: "
        f"{outcome.bled} of ours went to the stranger, {outcome.injected} of "
        f"{outcome.heard} that phones heard were its own, {outcome.ended} calls ended early"
    )


if __name__ == "__main__":
    main()
