"""A call by hand over real sockets, its peer, and somebody who sends to its ports."""

import random
import select
import socket
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from bridge.audio.frames import Pcm
from bridge.audio.g711 import ulaw_encode
from bridge.audio.tones import sine
from bridge.legs.sip_media import SipMedia, SipMediaSettings
from bridge.media.plane import MediaPlane
from bridge.rtp.packet import RtpPacket
from bridge.rtp.srtp import SrtpSession
from bridge.rtp.transport import PortPool, RtpPoller

HOST = "127.0.0.1"
PROXY = "127.0.0.3"
"""Where calls are signalled from, and where a phone behind NAT shows."""
FOREIGN = "127.0.0.2"
UNREACHABLE = ("127.0.0.77", 4000)
"""What a phone behind NAT writes into its SDP."""

SUITE = "AES_CM_128_HMAC_SHA1_80"
PEER_KEY, OUR_KEY, OTHER_KEY = b"p" * 30, b"o" * 30, b"x" * 30
PEER, INTRUDER = 0x11111111, 0x99999999
FRAME = 0.02
SAID = ulaw_encode((sine(400, 0.02, rate=8000) // 32).astype(np.int16)).tobytes()
NOISE = ulaw_encode(sine(1700, 0.02, rate=8000)).tobytes()
MARK = np.exp(-2j * np.pi * 1700 * np.arange(480) / 24000)


def intruding(frame: Pcm) -> bool:
    """Whether the intruder's tone is in it, 40 dB down at the most."""
    full = abs(np.dot(sine(1700, 0.02), MARK))
    return bool(abs(np.dot(frame, MARK)) > full / 100)


def rtp(number: int, payload: bytes, ssrc: int, *, payload_type: int = 0) -> bytes:
    number &= 0xFFFF
    return bytes(RtpPacket(payload_type, False, number, number * 160, ssrc, payload))


@dataclass
class Party:
    """A socket of somebody who is not us."""

    host: str
    ssrc: int
    payload: bytes
    key: bytes = b""
    number: int = 0
    wire: socket.socket = field(init=False)
    got: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.wire.bind((self.host, 0))
        self.wire.setblocking(False)
        self._srtp: SrtpSession | None = None
        if self.key:
            self.use(self.key)

    def use(self, key: bytes) -> None:
        self._srtp = SrtpSession(key, OUR_KEY, SUITE)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.wire.getsockname()
        return host, port

    def packet(self) -> bytes:
        self.number += 1
        return self.protected(rtp(self.number, self.payload, self.ssrc))

    def protected(self, data: bytes) -> bytes:
        return self._srtp.protect(data) if self._srtp is not None else data

    def read(self) -> None:
        while True:
            try:
                self.got.append(self.wire.recv(4096))
            except BlockingIOError:
                return


class Scene:
    """One call, its peer and an intruder. `step` is 20 ms in which they may send."""

    def __init__(self, pool: PortPool, *, nat: bool = False, keys: bool = False) -> None:
        key = PEER_KEY if keys else b""
        self.peer = Party(PROXY if nat else HOST, PEER, SAID, key)
        self.intruder = self.bystander = Party(FOREIGN, INTRUDER, NOISE)
        # The port next to the peer's for RTCP, as its SDP says.
        self.peer_control = Party(self.peer.host, PEER, b"")
        self.now = 10.0
        self.frames: list[Pcm] = []
        self.digits: list[str] = []
        self.sent_by_peer = 0
        self.plane = MediaPlane()
        self.poller = RtpPoller()
        self.media = self._negotiate(pool, nat=nat, keys=keys)
        self.poller.add(self.media.socket)
        stream = self.media.stream
        assert stream is not None
        self.stream = stream
        stream.on_frame = self.frames.append
        self.media.on_digit = self.digits.append
        self.plane.add(stream)

    def _negotiate(self, pool: PortPool, *, nat: bool, keys: bool) -> SipMedia:
        settings = SipMediaSettings(
            HOST,
            "us@here",
            srtp="required" if keys else "off",
            secure_signalling=True,
            signalling=self.peer.host,
        )
        media = SipMedia(pool.open(), settings, rng=random.Random(1))
        host, port = UNREACHABLE if nat else self.peer.address
        lines = [
            "v=0",
            f"o=- 1 1 IN IP4 {host}",
            "s=-",
            f"c=IN IP4 {host}",
            "t=0 0",
            f"m=audio {port} RTP/{'S' if keys else ''}AVP 0 101",
            "a=rtpmap:101 telephone-event/8000",
        ]
        if not nat:
            lines.append(f"a=rtcp:{self.peer_control.address[1]}")
        if keys:
            lines.append(f"a=crypto:1 {SUITE} inline:{b64encode(PEER_KEY).decode()}")
        answer = media.answer("".join(f"{line}\r\n" for line in lines).encode())
        if keys:
            # Ours is drawn by chance; the peer reads nothing here.
            assert b"a=crypto:1" in answer
        return media

    def step(
        self,
        times: int = 1,
        *,
        peer: bool = True,
        intruder: Callable[[], Iterable[bytes]] | None = None,
        of: Party | None = None,
    ) -> None:
        """`of` is who sends what `intruder` gives, if it is not the intruder itself."""
        for _ in range(times):
            self.now += FRAME
            sent = 0
            if intruder is not None:
                for data in intruder():
                    (of or self.intruder).wire.sendto(data, self.media.socket.address)
                    sent += 1
            if peer:
                self.peer.wire.sendto(self.peer.packet(), self.media.socket.address)
                self.sent_by_peer += 1
                sent += 1
            self._take(sent)
            self.plane.tick(self.now)
        self.peer.read()
        self.intruder.read()

    def _take(self, sent: int) -> None:
        while sent > 0:
            assert select.select([self.poller], [], [], 2.0)[0]
            sent -= self.poller.poll(self.now)

    def control(self, sender: Party, data: bytes) -> None:
        host, port = self.media.socket.address
        sender.wire.sendto(data, (host, port + 1))
        self._take(1)

    def noise(self) -> list[bytes]:
        return [self.intruder.packet()]

    @property
    def injected(self) -> int:
        """Packets of the intruder that the call took: in number, or in what the model heard."""
        taken = self.stream.stats.packets_received - self.sent_by_peer
        return max(taken, sum(map(intruding, self.frames)), len(self.digits))

    @property
    def bled(self) -> int:
        return len(self.intruder.got)

    @property
    def talks(self) -> bool:
        """Both ways, in the last frames."""
        said = np.abs(np.concatenate(self.frames[-5:])).max()
        return bool(said > 200) and len(self.peer.got) > 5

    def close(self) -> None:
        self.plane.remove(self.stream)
        self.media.socket.close()
        self.poller.close()
        self.peer.wire.close()
        self.peer_control.wire.close()
        self.bystander.wire.close()
