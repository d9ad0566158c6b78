"""SipLegs on loopback with a handset to call them, both driven by hand."""

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bridge.calls.policy import CallPolicy, SourcePolicy
from bridge.calls.trunks import Trunk, Trunks
from bridge.legs.sip import SipLegs
from bridge.legs.sip_leg import MediaPatience, SipLeg
from bridge.legs.sip_settings import SipSettings
from bridge.media.plane import MediaPlane
from bridge.rtp.packet import RtpPacket
from bridge.rtp.transport import PortPool, RtpPoller
from bridge.sip.message import Request, Response, make_response, parse_message
from tests import virtual
from tests.ports import HOST, free_port, media_ports
from tests.sip.playbook import caller_request


def sdp(
    port: int, *, formats: str = "0 8 101", direction: str = "sendrecv", version: int = 1
) -> bytes:
    """An offer or an answer; the last format is telephone-event."""
    key = formats.split()[-1]
    return (
        f"v=0\r\no=- 7 {version} IN IP4 {HOST}\r\ns=-\r\nc=IN IP4 {HOST}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP {formats}\r\na=rtpmap:{key} telephone-event/8000\r\n"
        f"a=fmtp:{key} 0-15\r\na={direction}\r\n"
    ).encode()


class Ear:
    """What one leg tells its owner."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.digits = ""
        self.findings: list[str] = []

    def leg_answered(self) -> None:
        self.told.append("answered")

    def leg_ended(self, reason: str) -> None:
        self.told.append(reason)

    def leg_finding(self, kind: str, text: str) -> None:
        self.findings.append(text)

    def leg_digit(self, digit: str) -> None:
        self.digits += digit

    def leg_progress(self, status: int) -> None:
        self.told.append(f"progress {status}")

    def leg_held(self, *, held: bool) -> None:
        self.told.append("held" if held else "resumed")

    def leg_transfer(self, status: int, reason: str, *, final: bool) -> None:
        self.told.append(f"transfer {status} {'final' if final else 'going on'}")

    def leg_transfer_wanted(self, target: str, replaces: str, referred_by: str) -> None:
        self.told.append(f"wanted {target}")

    def leg_message(self, text: str) -> None:
        raise AssertionError(text)


class Handset(asyncio.DatagramProtocol):
    """One call to `server`. What it gets is taken with `response` and `request`, in order."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.server = server
        self.inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self.to_tag: str | None = None
        self.refused = False
        self.rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.rtp.bind((HOST, 0))
        self.rtp.setblocking(False)
        self.rtp_port: int = self.rtp.getsockname()[1]

    async def open(self) -> "Handset":
        loop = asyncio.get_running_loop()
        self.wire, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(HOST, 0))
        self.port: int = self.wire.get_extra_info("sockname")[1]
        return self

    def close(self) -> None:
        self.wire.close()
        self.rtp.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.inbox.put_nowait(data)

    def send(
        self,
        method: str,
        *,
        cseq: int = 1,
        body: bytes = b"",
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        # CANCEL, and the ACK of a refusal, belong to the transaction of their INVITE.
        of_invite = method == "CANCEL" or (method == "ACK" and self.refused)
        request = caller_request(
            method,
            cseq=cseq,
            branch=f"z9hG4bK-{self.port}-{'INVITE' if of_invite else method}-{cseq}",
            to_tag=None if method == "CANCEL" else self.to_tag,
            call_id=f"call-{self.port}",
            contact=f"<sip:alice@{HOST}:{self.port}>",
            via=f"SIP/2.0/UDP {HOST}:{self.port};branch={{branch}};rport",
            headers=headers,
            body=body,
        )
        self.wire.sendto(bytes(request), self.server)

    async def response(self, status: int) -> Response:
        """The next that is not 100."""
        while True:
            message = parse_message(await self.inbox.get())
            assert isinstance(message, Response), message
            if message.status != 100:
                assert message.status == status
                self.to_tag = message.to_tag
                self.refused = status >= 300
                return message

    async def request(self, method: str, status: int = 200) -> Request:
        """The next, answered with `status`; responses before it were repeated."""
        message = parse_message(await self.inbox.get())
        while isinstance(message, Response):
            message = parse_message(await self.inbox.get())
        assert message.method == method
        self.wire.sendto(bytes(make_response(message, status)), self.server)
        return message

    def speak(self, destination: tuple[str, int], packet: RtpPacket) -> None:
        self.rtp.sendto(bytes(packet), destination)


class Exchange:
    def __init__(
        self,
        *,
        pairs: int = 4,
        admits: bool = True,
        media_host: str = HOST,
        trunks: Sequence[Trunk] = (),
        insecure_keys: bool = False,
        transfers: bool = False,
        patience: MediaPatience = MediaPatience(gap_s=30.0),
        owner: Callable[[SipLeg], None] | None = None,
    ) -> None:
        """`owner` takes the legs in place of an Ear each."""
        ports = media_ports(2 * pairs)
        self.ports = PortPool(media_host, ports[0], ports[-1])
        self.plane = MediaPlane()
        self.poller = RtpPoller()
        self.legs: list[SipLeg] = []
        self.ears: list[Ear] = []
        self.handsets: list[Handset] = []
        self._owner = owner
        self.phones = SipLegs(
            SipSettings(
                udp_port=free_port(),
                tcp_port=0,
                patience=patience,
                transfers=transfers,
            ),
            plane=self.plane,
            poller=self.poller,
            ports=self.ports,
            policy=CallPolicy(
                SourcePolicy((), admits_unknown=admits),
                Trunks(trunks),
                now=lambda: 0.0,
                insecure_keys=insecure_keys,
            ),
            on_incoming=self._incoming,
            rng=random.Random(1),
        )

    def _incoming(self, leg: SipLeg) -> None:
        self.legs.append(leg)
        if self._owner is not None:
            self._owner(leg)
            return
        leg.listener = Ear()
        self.ears.append(leg.listener)

    @property
    def leg(self) -> SipLeg:
        (leg,) = self.legs
        return leg

    @property
    def told(self) -> list[str]:
        (ear,) = self.ears
        return ear.told

    async def open(self) -> "Exchange":
        await self.phones.start()
        return self

    async def handset(self) -> Handset:
        handset = await Handset((HOST, self.phones.settings.udp_port)).open()
        self.handsets.append(handset)
        return handset

    async def ringing(self, body: bytes | None = None) -> Handset:
        """A call up to 180; `body` is the offer of the handset unless given."""
        handset = await self.handset()
        handset.send("INVITE", body=sdp(handset.rtp_port) if body is None else body)
        await virtual.settle()
        self.leg.ring()
        await handset.response(180)
        return handset

    async def up(self) -> Handset:
        handset = await self.ringing()
        await self.leg.answer()
        await handset.response(200)
        handset.send("ACK")
        await virtual.settle()
        return handset

    def tick(self) -> None:
        now = self.phones.now()
        self.poller.poll(now)
        self.plane.tick(now)

    async def prove_that_nothing_is_left(self) -> None:
        """Of any call, once the last timer has run out."""
        self.prove_that_media_is_gone()
        await virtual.wait(70)
        counts = self.phones.agent.counts
        assert not any(getattr(counts, name) for name in counts.__slots__), counts

    def prove_that_media_is_gone(self) -> None:
        assert len(self.phones) == 0
        assert (self.ports.in_use, len(self.plane), len(self.poller)) == (0, 0, 0)

    async def close(self) -> None:
        await self.phones.close()
        self.poller.close()
        for handset in self.handsets:
            handset.close()
        await virtual.settle()


def play(scenario: Callable[[Exchange], Awaitable[None]], **exchange: Any) -> None:
    """On the virtual clock, with an `exchange` of these settings, of which nothing stays."""

    async def main() -> None:
        phones = await Exchange(**exchange).open()
        try:
            await scenario(phones)
            await phones.prove_that_nothing_is_left()
        finally:
            await phones.close()

    virtual.run(main(), patience_s=0.002)
