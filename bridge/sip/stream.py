"""One stream connection, TCP or TLS, plain SIP or WebSocket: deadlines, turns and write caps."""

import asyncio
import itertools
import logging
import socket
from collections import deque
from collections.abc import Collection
from typing import Protocol, cast

from bridge.sip.connections import alias_port
from bridge.sip.events import Flow
from bridge.sip.framing import Framing, KeepAlive
from bridge.sip.limits import Limits, TransportStats
from bridge.sip.tls import TlsError, TlsLayer
from bridge.sip.udp import address_of

log = logging.getLogger(__name__)

_MAX_FLOWS = 64

_keys = itertools.count(1)


class Owner(Protocol):
    limits: Limits
    stats: TransportStats

    def admit(self, connection: "StreamConnection") -> bool: ...
    def alias(self, connection: "StreamConnection", port: int) -> None: ...
    def forget(self, connection: "StreamConnection") -> None: ...
    def deliver(self, data: bytes, flow: Flow) -> None: ...
    def flow_in_use(self, flow: Flow) -> bool: ...
    def kick(self) -> None: ...


class StreamConnection(asyncio.Protocol):
    """Incoming, or outgoing when there is a `towards`: the flow it was opened for."""

    def __init__(
        self,
        owner: Owner,
        transport: str,
        framing: Framing,
        *,
        tls: TlsLayer | None = None,
        towards: Flow | None = None,
    ) -> None:
        self._owner = owner
        self._name = transport
        self._framing = framing
        self._tls = tls
        self._towards = towards
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[bytes] = deque()
        self._turn: asyncio.Handle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._heard_at: float | None = None
        self._pinged_at = 0.0
        self._answers_pings = False
        self._flows: dict[Flow, None] = {}
        self.incoming = towards is None
        self.peer_names: Collection[str] = ()
        self.ready: asyncio.Future[bool] = self._loop.create_future()
        """True once messages can be written, false when that is never to be."""
        self.closed: asyncio.Future[None] = self._loop.create_future()

    @property
    def flows(self) -> list[Flow]:
        """Every flow that was served by this connection; its own is the first."""
        return [self.flow, *self._flows]

    @property
    def is_ready(self) -> bool:
        return self.ready.done() and self.ready.result()

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.flow = Flow(
            self._name,
            address_of(transport.get_extra_info("sockname")),
            address_of(transport.get_extra_info("peername") or ("", 0)),
            next(_keys),
            self._towards.server_name if self._towards is not None else "",
        )
        if not self._owner.admit(self):
            self._owner.stats.connections_refused += 1
            self._transport.abort()
            return
        self._owner.stats.connections_opened += 1
        limits = self._owner.limits
        self._notice_dead_peers(limits.unacknowledged_s)
        seconds = limits.first_message_s if self.incoming else limits.connect_s
        self._deadline = self._loop.call_later(seconds, self._deadline_due)
        if self._tls is None:
            self._established()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        for handle in (self._deadline, self._turn):
            if handle is not None:
                handle.cancel()
        self._owner.forget(self)
        if not self.ready.done():
            self.ready.set_result(False)
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        if self._tls is not None:
            data = self._decrypt(self._tls, data)
        if not self.incoming and self._heard_at is not None and data:
            # A pong is told from half a ping by what follows, which may take long.
            self._answers_pings |= data.startswith(KeepAlive.PONG.value)
            self._heard_at = self._loop.time()
        for frame in self._framing.receive(data):
            self._take_frame(frame)
        if self._framing.broken:
            self._owner.stats.broken_streams += 1
        self._flush()
        if (self._waiting or self._is_over) and self._turn is None:
            self._take_turn()

    def _take_frame(self, frame: bytes | KeepAlive) -> None:
        if isinstance(frame, bytes):
            self._waiting.append(frame)
            self._heard_at = self._loop.time()
        elif self._heard_at is not None:
            # Pings alone do not make a peer of somebody who never sent a message.
            self._heard_at = self._loop.time()
        self._answers_pings |= frame is KeepAlive.PONG

    # Turns

    def _take_turn(self) -> None:
        self._turn = None
        try:
            for _ in range(min(len(self._waiting), self._owner.limits.messages_per_turn)):
                message = self._waiting.popleft()
                if self.incoming and self.peer_names:
                    self._learn_alias(message)
                self._owner.deliver(message, self.flow)
        finally:
            self._after_turn()

    def _after_turn(self) -> None:
        if self._transport.is_closing():
            return
        if self._waiting:
            self._transport.pause_reading()
            self._turn = self._loop.call_soon(self._take_turn)
        elif self._is_over:
            # The refusal must be written before the end of the stream.
            self._owner.kick()
            self.close()
        elif not self._transport.is_reading():
            self._transport.resume_reading()

    @property
    def _is_over(self) -> bool:
        done = self._framing.broken or self._framing.finished
        return done or (self._tls is not None and self._tls.finished)

    def _learn_alias(self, message: bytes) -> None:
        """RFC 5923 allows it to those only who have proven who they are."""
        port = alias_port(message, self._name)
        if port is not None:
            self._owner.alias(self, port)

    # TLS

    def _decrypt(self, tls: TlsLayer, data: bytes) -> bytes:
        try:
            plain = tls.receive(data)
        except TlsError as error:
            self._owner.stats.tls_failures += 1
            log.info("TLS failed", extra={"why": error.message, "peer": self.flow.remote[0]})
            self._flush()
            self._transport.close()
            return b""
        if tls.established and not self.ready.done():
            self.peer_names = tls.peer_names
            if self._towards is not None:
                self.peer_names = {self._towards.server_name.lower(), *self.peer_names}
            self._established()
        return plain

    def _established(self) -> None:
        if not self.incoming:
            self._heard_at = self._loop.time()
            self._set_deadline(self._heard_at + self._owner.limits.ping_s)
        self.ready.set_result(True)

    # Deadlines

    def _notice_dead_peers(self, seconds: float) -> None:
        sock = self._transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))

    def _deadline_due(self) -> None:
        due = self._next_deadline(self._loop.time())
        if due is not None:
            self._set_deadline(due)
        else:
            self._owner.stats.timed_out += 1
            self.abort()

    def _set_deadline(self, due: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._loop.call_at(due, self._deadline_due)

    def _next_deadline(self, now: float) -> float | None:
        """None: time is up."""
        limits = self._owner.limits
        if self._heard_at is None:
            return None
        pong_at = self._pinged_at + limits.pong_s
        must_answer = self._answers_pings and self._pinged_at > self._heard_at
        if must_answer and pong_at <= now:
            return None
        idle_at = self._heard_at + limits.idle_s
        if idle_at <= now:
            if not self._in_use:
                return None
            idle_at = now + limits.idle_s
        if self.incoming and not self._framing.keeps_open:
            return idle_at
        if must_answer:
            return min(idle_at, pong_at)
        ping_at = max(self._heard_at, self._pinged_at) + limits.ping_s
        if ping_at <= now:
            ping_at = now + limits.ping_s
            if self._framing.keeps_open or self._in_use:
                self._pinged_at = now
                self._framing.ping()
                self._flush()
                if self._answers_pings:
                    ping_at = now + limits.pong_s
        return min(idle_at, ping_at)

    @property
    def _in_use(self) -> bool:
        return any(map(self._owner.flow_in_use, self.flows))

    # Writing

    def send(self, data: bytes, flow: Flow) -> None:
        if flow != self.flow and len(self._flows) < _MAX_FLOWS:
            self._flows[flow] = None
        self._owner.stats.sent += 1
        self._framing.send(data)
        self._flush()

    def _flush(self) -> None:
        data = self._framing.data_to_send()
        if self._tls is not None:
            try:
                self._tls.send(data)
            except TlsError:
                self._owner.stats.tls_failures += 1
                self.abort()
                return
            data = self._tls.data_to_send()
        if data:
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        unread = self._transport.get_write_buffer_size()
        if unread and unread + len(data) > self._owner.limits.write_buffer:
            self._owner.stats.slow_readers += 1
            self.abort()
        else:
            self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        """Say goodbye, flush, then close."""
        if self._transport.is_closing():
            return
        self._framing.close()
        self._flush()
        if self._tls is not None:
            self._tls.close()
            self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()
