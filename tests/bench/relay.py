"""A SIP call through a bad network: signalling passes, media goes through ways that lose it.

Callers call the relay in place of the server. Addresses in SDP and in Contact are rewritten, both
ways, so that everything of the call passes here; keys, codecs and packets stay as they are.
"""

import asyncio
import contextlib
import hashlib
import heapq
import itertools
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.bench.network import Way

Address = tuple[str, int]

_MEDIA = re.compile(rb"^(m=audio )(\d+)", re.MULTILINE)
_HOST = re.compile(rb"^(c=IN IP4 )(\S+)", re.MULTILINE)
_RTCP = re.compile(rb"^a=rtcp:[^\r\n]*\r?\n", re.MULTILINE)
_LENGTH = re.compile(rb"^((?:Content-Length|l)[ \t]*:[ \t]*)\d+", re.MULTILINE | re.IGNORECASE)
_CONTACT = re.compile(
    rb"^((?:Contact|m)[ \t]*:[^\r\n]*?sips?:(?:[^@>;\r\n]*@)?)([^;>\s]+)",
    re.MULTILINE | re.IGNORECASE,
)
_TARGET = re.compile(rb"^([A-Z]+ sips?:(?:[^@ ;]*@)?)([^; ]+)")
_VIA = re.compile(rb"^(?:Via|v)[ \t]*:[^\r\n]*\r\n", re.MULTILINE | re.IGNORECASE)
_CALL_ID = re.compile(rb"^(?:Call-ID|i)[ \t]*:[ \t]*(\S+)", re.MULTILINE | re.IGNORECASE)


class _Port:
    """A UDP socket of the loop. Raises OSError if the address is taken."""

    def __init__(self, at: Address, receive: Callable[[bytes, Address], None]) -> None:
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind(at)
        except OSError:
            self._socket.close()
            raise
        self.address: Address = self._socket.getsockname()
        self._loop.add_reader(self._socket, self._read)

    def _read(self) -> None:
        while True:
            try:
                data, addr = self._socket.recvfrom(65536)
            except ConnectionRefusedError:
                continue  # Nobody listens there any more: calls end.
            except BlockingIOError:
                return
            self._receive(data, addr)

    def send(self, data: bytes, to: Address) -> None:
        if self._socket.fileno() >= 0:
            with contextlib.suppress(ConnectionRefusedError, BlockingIOError):
                self._socket.sendto(data, to)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()


@dataclass(eq=False, slots=True)
class _Media:
    """What one side sees of the other: two ports, and where its own are."""

    rtp: _Port
    rtcp: _Port
    peer: Address | None = None


@dataclass(eq=False, slots=True)
class _Call:
    caller: Address
    sip: _Port
    caller_contact: bytes = b""
    server_contact: bytes = b""
    near: _Media | None = None
    far: _Media | None = None
    up: Way | None = None
    down: Way | None = None


@dataclass(slots=True)
class Relay:
    """`new_ways` makes the two directions of a call: caller to server, and back."""

    listen: Address
    server: Address
    new_ways: Callable[[int], tuple[Way, Way]]
    ways: list[tuple[Way, Way]] = field(default_factory=list)
    _front: _Port = field(init=False)
    _calls: dict[bytes, _Call] = field(default_factory=dict)
    _queue: "list[tuple[float, int, _Port, bytes, Address]]" = field(default_factory=list)
    _order: "itertools.count[int]" = field(default_factory=itertools.count)
    _timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Raises OSError if the address is taken."""
        self._front = _Port(self.listen, self._from_caller)
        self.listen = self._front.address

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._front.close()
        for call in self._calls.values():
            call.sip.close()
            for side in filter(None, (call.near, call.far)):
                side.rtp.close()
                side.rtcp.close()

    # Signalling

    def _from_caller(self, data: bytes, addr: Address) -> None:
        call_id = _CALL_ID.search(data)
        if call_id is None:
            return
        call = self._calls.get(call_id[1])
        if call is None:
            call = self._calls[call_id[1]] = self._new_call(call_id[1], addr)
        if call.near is None and data.startswith(b"INVITE"):
            self._give_media(call)
        call.caller = addr
        self._pass_up(call, data)

    def _new_call(self, call_id: bytes, addr: Address) -> _Call:
        there = (self.listen[0], 0)
        sip = _Port(there, lambda data, _: self._pass_down(self._calls[call_id], data))
        return _Call(addr, sip)

    def _give_media(self, call: _Call) -> None:
        call.up, call.down = ways = self.new_ways(len(self.ways))
        self.ways.append(ways)
        call.near = self._media(lambda: call.up, lambda: call.far)
        call.far = self._media(lambda: call.down, lambda: call.near)

    def _pass_up(self, call: _Call, data: bytes) -> None:
        """To the server: it sees the ports that face it, and names itself as it did."""
        contact = _CONTACT.search(data)
        if contact is not None:
            call.caller_contact = contact[2]
        target = call.server_contact or _text(self.server)
        data = _readdressed(data, target=target, contact=call.sip.address)
        call.sip.send(self._media_moved(data, call.near, call.far), self.server)

    def _pass_down(self, call: _Call, data: bytes) -> None:
        contact = _CONTACT.search(data)
        if contact is not None:
            call.server_contact = contact[2]
        data = _readdressed(data, target=call.caller_contact, contact=self.listen)
        self._front.send(self._media_moved(data, call.far, call.near), call.caller)

    def _media_moved(self, data: bytes, sender: _Media | None, shown: _Media | None) -> bytes:
        """SDP of the side that `sender` faces, as the other one is to see it."""
        head, blank, body = data.partition(b"\r\n\r\n")
        port, host = _MEDIA.search(body), _HOST.search(body)
        if port is None or host is None or sender is None or shown is None:
            return data
        if int(port[2]):
            sender.peer = (host[2].decode(), int(port[2]))
            here, media = shown.rtp.address
            body = _MEDIA.sub(lambda found: found[1] + b"%d" % media, body, count=1)
            body = _HOST.sub(lambda found: found[1] + here.encode(), body)
            body = _RTCP.sub(b"", body)
        head = _LENGTH.sub(lambda found: found[1] + b"%d" % len(body), head)
        return head + blank + body

    # Media

    def _media(self, way: Callable[[], Way | None], other: Callable[[], _Media | None]) -> _Media:
        """Ports that face one side; what comes there goes on from the ports of the other."""

        def rtp(data: bytes, _: Address) -> None:
            through, to = way(), other()
            if through is None or to is None or to.peer is None:
                return
            for at in through.send(self._now()):
                self._later(at, to.rtp, data, to.peer)

        def rtcp(data: bytes, _: Address) -> None:
            to = other()
            if to is not None and to.peer is not None:
                to.rtcp.send(data, (to.peer[0], to.peer[1] + 1))

        return _Media(*self._pair(rtp, rtcp))

    def _pair(
        self,
        rtp: Callable[[bytes, Address], None],
        rtcp: Callable[[bytes, Address], None],
    ) -> tuple[_Port, _Port]:
        """Of an even port and the next."""
        here = self.listen[0]
        for _ in range(200):
            first = _Port((here, 0), rtp)
            if first.address[1] % 2 == 0:
                with contextlib.suppress(OSError):
                    return first, _Port((here, first.address[1] + 1), rtcp)
            first.close()
        raise OSError("no two ports in a row")

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _later(self, at: float, port: _Port, data: bytes, to: Address) -> None:
        if at <= self._now() and not self._queue:
            port.send(data, to)
            return
        heapq.heappush(self._queue, (at, next(self._order), port, data, to))
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(self._queue[0][0], self._flush)

    def _flush(self) -> None:
        self._timer = None
        # The loop may wake a clock's grain early.
        now = self._now() + 0.0005
        while self._queue and self._queue[0][0] <= now:
            _, _, port, data, to = heapq.heappop(self._queue)
            port.send(data, to)
        if self._queue:
            self._arm()


def _text(address: Address) -> bytes:
    return f"{address[0]}:{address[1]}".encode()


def _readdressed(data: bytes, *, target: bytes, contact: Address) -> bytes:
    """A request gets our Via, so that its answer comes here too; an answer loses it again."""
    head, blank, body = data.partition(b"\r\n\r\n")
    if head.startswith(b"SIP/2.0"):
        head = _VIA.sub(b"", head, count=1)
    else:
        if target:
            head = _TARGET.sub(lambda found: found[1] + target, head, count=1)
        top = _VIA.search(head)
        # One branch for an INVITE, its CANCEL and its ACK, as theirs is.
        branch = hashlib.sha1(top[0] if top else b"").hexdigest()[:20].encode()
        via = b"Via: SIP/2.0/UDP %s;branch=z9hG4bK%s;rport\r\n" % (_text(contact), branch)
        line, end, rest = head.partition(b"\r\n")
        head = line + end + via + rest
    return _CONTACT.sub(lambda found: found[1] + _text(contact), head) + blank + body
