"""A small SIP phone that shares no code with the server: one INVITE, PCMU, RFC 4733 keys.

It keeps every packet it gets with its time of arrival, and speaks what it is given, 20 ms at a
time. A transfer it is asked for goes well at once. Enough to measure; it retransmits nothing and
forgives little.
"""

import asyncio
import random
import re
import struct
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]

FRAME = 160
SILENCE = b"\xff" * FRAME


def _ulaw_table() -> NDArray[np.int16]:
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)
    return np.where(code & 0x80, 0x84 - magnitude, magnitude - 0x84).astype(np.int16)


ULAW = _ulaw_table()
_ORDER = np.argsort(ULAW, kind="stable")
_SORTED = ULAW[_ORDER].astype(np.int32)


def encode(samples: Samples) -> bytes:
    """Nearest µ-law code of each sample."""
    wanted = samples.astype(np.int32)
    right = np.clip(np.searchsorted(_SORTED, wanted), 1, 255)
    nearer_left = wanted - _SORTED[right - 1] < _SORTED[right] - wanted
    return bytes(_ORDER[np.where(nearer_left, right - 1, right)].astype(np.uint8))


def decode(payload: bytes) -> Samples:
    return ULAW[np.frombuffer(payload, np.uint8)]


@dataclass(frozen=True, slots=True)
class Packet:
    arrived_at: float
    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes

    @property
    def peak(self) -> int:
        return int(np.abs(decode(self.payload).astype(np.int32)).max(initial=0))


@dataclass
class Message:
    start: str
    headers: list[tuple[str, str]]
    body: str

    @classmethod
    def parse(cls, data: bytes) -> "Message":
        head, _, body = data.decode("utf-8", "replace").partition("\r\n\r\n")
        start, *lines = head.split("\r\n")
        pairs = [line.partition(":") for line in lines]
        return cls(start, [(n.strip().lower(), v.strip()) for n, _, v in pairs], body)

    def get(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def status(self) -> int:
        return int(self.start.split()[1]) if self.start.startswith("SIP/") else 0


class _Socket(asyncio.DatagramProtocol):
    def __init__(self, receive: "asyncio.Queue[bytes] | None", phone: "Phone") -> None:
        self.queue = receive
        self.phone = phone

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.queue is not None:
            self.phone.sip_received(data, addr)
        else:
            self.phone.rtp_received(data)


@dataclass
class Phone:
    """`server` is the SIP address called."""

    server: tuple[str, int]
    headers: tuple[tuple[str, str], ...] = ()
    packets: list[Packet] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    referred_to: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.sip_call_id = f"{random.getrandbits(64):x}"
        self.tag = f"{random.getrandbits(32):x}"
        self.branch = f"z9hG4bK{random.getrandbits(64):x}"
        self.answered = asyncio.Event()
        self.ended = asyncio.Event()
        self.final = asyncio.Event()
        self.answered_at = 0.0
        self.ended_at = 0.0
        self.to = ""
        self.target = ""
        self.remote_rtp: tuple[str, int] | None = None
        self.mouth: deque[bytes] = deque()
        self.spoke_at: float | None = None
        self.sent_to_agent: list[tuple[float, bytes]] = []
        self._cseq = 1
        self._sequence = random.getrandbits(15)
        self._timestamp = random.getrandbits(31)
        self._ssrc = random.getrandbits(32)
        self._talking: asyncio.Task[None] | None = None

    async def open(self) -> "Phone":
        self._sip, _ = await self.loop.create_datagram_endpoint(
            lambda: _Socket(asyncio.Queue(), self), local_addr=("127.0.0.1", 0)
        )
        self._rtp, _ = await self.loop.create_datagram_endpoint(
            lambda: _Socket(None, self), local_addr=("127.0.0.1", 0)
        )
        self.sip_port = self._sip.get_extra_info("sockname")[1]
        self.rtp_port = self._rtp.get_extra_info("sockname")[1]
        return self

    # SIP

    def sdp(self, direction: str = "sendrecv") -> str:
        return (
            "v=0\r\no=phone 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            f"m=audio {self.rtp_port} RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"
            f"a=fmtp:101 0-15\r\na=ptime:20\r\na={direction}\r\n"
        )

    def _request(
        self,
        method: str,
        cseq: int,
        *,
        branch: str,
        body: str = "",
        headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/sdp"),),
    ) -> bytes:
        """`headers` go with the body."""
        host, port = self.server
        lines = [
            f"{method} {self.target or f'sip:agent@{host}:{port}'} SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:{self.sip_port};branch={branch};rport",
            "Max-Forwards: 70",
            f"From: <sip:phone@127.0.0.1>;tag={self.tag}",
            f"To: {self.to or f'<sip:agent@{host}:{port}>'}",
            f"Call-ID: {self.sip_call_id}",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:phone@127.0.0.1:{self.sip_port}>",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        if body:
            lines += [f"{name}: {value}" for name, value in headers]
        lines += [f"Content-Length: {len(body.encode())}", "", body]
        return "\r\n".join(lines).encode()

    def send(self, data: bytes) -> None:
        self._sip.sendto(data, self.server)

    def invite(self) -> None:
        self.send(self._request("INVITE", 1, branch=self.branch, body=self.sdp()))

    def cancel(self) -> None:
        self.send(self._request("CANCEL", 1, branch=self.branch))

    async def call(self, timeout_s: float = 5.0) -> "Phone":
        self.invite()
        await asyncio.wait_for(self.answered.wait(), timeout_s)
        return self

    def hangup(self) -> None:
        self._cseq += 1
        self.send(self._request("BYE", self._cseq, branch=f"z9hG4bK{random.getrandbits(64):x}"))

    def sip_received(self, data: bytes, addr: tuple[str, int]) -> None:
        message = Message.parse(data)
        self.seen.append(message.start)
        if message.status:
            self._response(message)
            return
        referred = message.start.startswith("REFER")
        lines = ["SIP/2.0 202 Accepted" if referred else "SIP/2.0 200 OK"]
        lines += [f"Via: {via}" for via in message.all("via")]
        for name in ("From", "To", "Call-ID", "CSeq"):
            lines.append(f"{name}: {message.get(name.lower())}")
        if referred:
            lines.append(f"Contact: <sip:phone@127.0.0.1:{self.sip_port}>")
        self._sip.sendto("\r\n".join([*lines, "Content-Length: 0", "", ""]).encode(), addr)
        if message.start.startswith("BYE"):
            self._end()
        if referred:
            self.referred_to.append(message.get("refer-to"))
            self._notify("active;expires=60", "100 Trying")
            self._notify("terminated;reason=noresource", "200 OK")

    def _notify(self, state: str, status: str) -> None:
        self._cseq += 1
        headers = (
            ("Event", "refer"),
            ("Subscription-State", state),
            ("Content-Type", "message/sipfrag"),
        )
        branch = f"z9hG4bK{random.getrandbits(64):x}"
        body = f"SIP/2.0 {status}\r\n"
        self.send(self._request("NOTIFY", self._cseq, branch=branch, body=body, headers=headers))

    def _response(self, message: Message) -> None:
        self.statuses.append(message.status)
        method = message.get("cseq").split()[-1]
        if method == "BYE" and message.status >= 200:
            self._end()
        if method != "INVITE" or message.status < 200:
            return
        self.to = message.get("to")
        if message.status < 300:
            contact = re.search(r"<([^>]+)>", message.get("contact"))
            self.target = contact.group(1) if contact else ""
            # What follows goes straight there: a proxy that wants to see it says so.
            if address := re.search(r"@?([0-9.]+):([0-9]+)", self.target):
                self.server = (address[1], int(address[2]))
            self._media(message.body)
            self.send(self._request("ACK", 1, branch=f"z9hG4bK{random.getrandbits(64):x}"))
            if not self.answered.is_set():
                self.answered_at = self.loop.time()
                self.answered.set()
                self._talking = self.loop.create_task(self._talk())
        else:
            self.send(self._request("ACK", 1, branch=self.branch))
        self.final.set()

    def _media(self, sdp: str) -> None:
        host = re.search(r"c=IN IP4 (\S+)", sdp)
        port = re.search(r"m=audio (\d+)", sdp)
        if host and port:
            self.remote_rtp = (host.group(1), int(port.group(1)))

    def _end(self) -> None:
        self.ended_at = self.ended_at or self.loop.time()
        self.ended.set()

    # RTP

    def say(self, samples: Samples) -> None:
        """Queue 8 kHz speech; silence is sent when there is none."""
        padded = np.concatenate([samples, np.zeros(-len(samples) % FRAME, np.int16)])
        data = encode(padded)
        self.mouth.extend(data[i : i + FRAME] for i in range(0, len(data), FRAME))

    async def _talk(self) -> None:
        due = self.loop.time()
        while not self.ended.is_set():
            payload = self.mouth.popleft() if self.mouth else SILENCE
            if payload is not SILENCE and self.spoke_at is None:
                self.spoke_at = self.loop.time()
            self._send_rtp(0, payload, self._timestamp, marker=False)
            self._timestamp = (self._timestamp + FRAME) % 2**32
            due += 0.02
            await asyncio.sleep(max(0.0, due - self.loop.time()))

    def _send_rtp(self, payload_type: int, payload: bytes, timestamp: int, *, marker: bool) -> None:
        self._sequence = (self._sequence + 1) % 65536
        header = struct.pack(
            ">BBHII",
            0x80,
            payload_type | (0x80 if marker else 0),
            self._sequence,
            timestamp,
            self._ssrc,
        )
        if self.remote_rtp is not None:
            self._write(header + payload, self.remote_rtp)

    def _write(self, packet: bytes, to: tuple[str, int]) -> None:
        self._rtp.sendto(packet, to)

    def press(self, digit: str, duration_ms: int = 100) -> None:
        """RFC 4733: five updates and three ends, all at once in time as some gateways do."""
        event, start = "0123456789*#ABCD".index(digit), self._timestamp
        steps = [(160 * (i + 1), False) for i in range(duration_ms // 20)]
        steps += [(duration_ms * 8, True)] * 3
        for number, (duration, end) in enumerate(steps):
            payload = struct.pack(">BBH", event, 10 | (0x80 if end else 0), duration)
            self._send_rtp(101, payload, start, marker=number == 0)

    def rtp_received(self, data: bytes, at: float | None = None) -> None:
        """`at`: when it arrived, on the loop's clock, where that is known better than now."""
        if len(data) < 12:
            return
        first, second, sequence, timestamp, ssrc = struct.unpack(">BBHII", data[:12])
        if first >> 6 == 2:
            self.packets.append(
                Packet(
                    self.loop.time() if at is None else at,
                    second & 0x7F,
                    bool(second & 0x80),
                    sequence,
                    timestamp,
                    ssrc,
                    data[12:],
                )
            )

    def heard(self) -> Samples:
        """All audio got, in order of arrival, 8 kHz."""
        return decode(b"".join(packet.payload for packet in self.packets))

    async def close(self) -> None:
        if self._talking is not None:
            self._talking.cancel()
        self._sip.close()
        self._rtp.close()
