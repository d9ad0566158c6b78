"""The sockets and the ICE of one call, which a stranger's packet cannot harm.

aioice hands every datagram that is not STUN to DTLS, whoever sent it: one ClientHello of a stranger
ends a handshake, one empty datagram a call. Here a datagram goes on only if it is well-formed STUN
with the password of this call, or comes from an address with which an ICE check of either side has
succeeded.
"""

import asyncio
import contextlib
import logging
import random
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from aioice import Candidate, Connection, stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import (
    CandidatePair,
    ConnectionClosed,
    StunProtocol,
    get_host_addresses,
    relayed_candidate,
    server_reflexive_candidate,
)

from bridge.errors import OverloadedError
from bridge.ids import random_base62
from bridge.legs import one_way
from bridge.legs.webrtc_socket import PolledSocket
from bridge.rtp.transport import RtpPoller

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"

# An address that the machine gets is told from then on.
ADDRESSES_LAST_S = 5.0

# RFC 7675 section 5.1: every 5 s, give or take a fifth. Chromium checks every 2.5 s, and what is
# left to it at once when it was refused.
SLOWEST_CHECK_S = 6.0
QUIET_S = 1.0

# As many as an offer may name, and as many again that show up by themselves.
MAX_REMOTE_CANDIDATES = 64

# A DTLS flight is six datagrams, SCTP's window here is 1 MiB.
MAX_QUEUED_DATAGRAMS = 1024

STUN_COOKIE = b"\x21\x12\xa4\x42"


@dataclass(frozen=True, slots=True)
class Limits:
    """A check every 2 s and 7 s of patience: a call whose browser vanished ends within 10 s, and
    still three checks of ours and as many of the browser's must be lost for a live one to end.

    `gather_timeout_s` is what ICE servers get: the answer waits for them. A browser that has its
    answer connects within a round trip or two; DTLS repeats a lost flight after 1, 2, 4 and 8 s.
    `close_timeout_s` is how long it may take that the other side learns from us that it is over.
    `unsent_bytes` is about a minute of events for a page that does not
    read: then it is gone, not slow.
    """

    consent_interval_s: float = 2.0
    consent_timeout_s: float = 7.0
    gather_timeout_s: float = 2.0
    connect_timeout_s: float = 20.0
    close_timeout_s: float = 1.5
    unsent_bytes: int = 4 * 1024 * 1024
    unheard_s: float = one_way.AFTER_S


@dataclass(slots=True)
class Dropped:
    """Datagrams refused, by reason; `early` is SRTP before there is a key."""

    empty: int = 0
    malformed_stun: int = 0
    unauthenticated_stun: int = 0
    unexpected_stun: int = 0
    unvalidated: int = 0
    unknown: int = 0
    overflow: int = 0
    early: int = 0
    srtp: int = 0
    sctp: int = 0


class GuardedProtocol(StunProtocol):
    """One UDP socket (or TURN allocation) of a call."""

    def __init__(self, connection: "GuardedConnection") -> None:
        super().__init__(connection)
        self._connection = connection
        self._asking: dict[tuple[str, int], stun.Message] = {}
        self.validated: set[tuple[str, int]] = set()

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        assert isinstance(data, bytes)
        connection = self._connection
        if not data:
            connection.dropped.empty += 1
            return
        peer = (addr[0], addr[1])
        first = data[0]
        # RFC 7983 section 7: 0-3 STUN, 20-63 DTLS, 128-191 RTP and RTCP.
        if first < 4:
            self._stun_received(data, peer)
        elif peer not in self.validated:
            connection.dropped.unvalidated += 1
        elif 127 < first < 192:
            connection.arrived(self, peer)
            connection.on_media(data)
        elif 19 < first < 64:
            connection.arrived(self, peer)
            connection.data_received(data, self.local_candidate.component)
        else:
            connection.dropped.unknown += 1

    def _stun_received(self, data: bytes, peer: tuple[str, int]) -> None:
        connection = self._connection
        try:
            if data[4:8] != STUN_COOKIE:
                raise ValueError("no magic cookie")
            message = stun.parse_message(data)
        except (ValueError, IndexError, struct.error):
            connection.dropped.malformed_stun += 1
            return
        if message.message_class == stun.Class.REQUEST:
            if connection.admits(message, self, peer):
                # Its own choice of a pair may be one whose check we have given up.
                self.validated.add(peer)
                connection.heard()
                connection.checked(message, peer, self)
            else:
                connection.dropped.unauthenticated_stun += 1
        elif message.transaction_id in self.transactions:
            self._asking.pop(peer, None)
            self.transactions[message.transaction_id].response_received(message, peer)
        else:
            connection.dropped.unexpected_stun += 1

    async def request(
        self,
        request: stun.Message,
        addr: tuple[str, int],
        integrity_key: bytes | None = None,
        retransmissions: int | None = None,
    ) -> tuple[stun.Message, tuple[str, int]]:
        self._asking[addr] = request
        try:
            answer = await super().request(request, addr, integrity_key, retransmissions)
        finally:
            self._asking.pop(addr, None)
        self._connection.heard()
        return answer

    def ask_again(self, addr: tuple[str, int]) -> None:
        """At once, if the answer to what was asked there is still due."""
        if (request := self._asking.get(addr)) is not None:
            self.send_stun(request, addr)


@lru_cache(maxsize=1)
def _addresses(_: int) -> tuple[str, ...]:
    """To ask the kernel takes longer than to open a socket."""
    return tuple(get_host_addresses(use_ipv4=True, use_ipv6=True))


class GuardedConnection(Connection):
    """ICE of one call. Media goes to `on_media`, DTLS to whoever awaits `recv`."""

    def __init__(
        self, *, loopback: bool, wildcard: str | None, limits: Limits, **options: Any
    ) -> None:
        """`loopback` adds 127.0.0.1; `wildcard` listens on that one address instead of each."""
        super().__init__(ice_controlling=False, **options)
        self._limits = limits
        self._loopback = loopback
        self._wildcard = wildcard
        self.heard_at = 0.0
        self.closed = False
        self._former: CandidatePair | None = None
        self.dropped = Dropped()
        self.on_media: Callable[[bytes], None] = self._too_early
        self._refusing = False
        self._refused = asyncio.Event()

    def _too_early(self, data: bytes) -> None:
        self.dropped.early += 1

    def heard(self) -> None:
        """The far end has just proved that it is there."""
        self.heard_at = asyncio.get_running_loop().time()

    def checked(self, message: stun.Message, peer: tuple[str, int], via: GuardedProtocol) -> None:
        """By someone who knows the password."""
        if self._refusing:
            self._refused.set()
            self.respond_error(message, peer, via, (403, "Forbidden"))
        else:
            self.request_received(message, peer, via)

    def revoke(self) -> None:
        """We agree to nothing more: whoever checks is told so (RFC 7675 section 5.2)."""
        self._refusing = True
        self._cancel_checks()

    async def heeded(self) -> None:
        """Returns once nobody checks any more, or would have done so by now."""
        patience_s = SLOWEST_CHECK_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SLOWEST_CHECK_S):
                while True:
                    self._refused.clear()
                    async with asyncio.timeout(patience_s):
                        await self._refused.wait()
                    patience_s = QUIET_S

    def poll_by(self, poller: RtpPoller | None) -> None:
        """Who reads the sockets from now on; None: the event loop."""
        for protocol in self._protocols:
            if isinstance(protocol.transport, PolledSocket):
                protocol.transport.poll_by(poller)

    def send_now(self, data: bytes) -> bool:
        """To the nominated pair, without a coroutine. False while there is none."""
        pair = self._nominated.get(1) or self._former
        if pair is None:
            return False
        pair.protocol.transport.sendto(data, pair.remote_addr)
        return True

    def arrived(self, protocol: StunProtocol, peer: tuple[str, int]) -> None:
        """Data. What is sent goes by the same pair: of several that are nominated we would take the
        last, others take the best (RFC 8445 section 8.1.1) and hear no other. That it works both
        ways the far end knows by a check of its own.
        """
        ours = self._nominated.get(1)
        if ours is None or (ours.protocol is protocol and ours.remote_addr == peer):
            return
        for pair in self._check_list:
            if pair.protocol is protocol and pair.remote_addr == peer:
                self._nominated[1] = pair

    async def sendto(self, data: bytes, component: int) -> None:
        if not self.send_now(data):
            raise ConnectionError("no pair to send to")

    async def recvfrom(self) -> tuple[bytes, int]:
        # What aioice would call not connected, while ICE begins again.
        if self._former is None:
            return await super().recvfrom()
        if (received := await self._queue.get()) is None:
            raise ConnectionError("closed")
        return received

    def restart(self) -> None:
        """ICE from the beginning (RFC 8445 section 9), over the sockets there are; `connect` is
        next. Until it has nominated a pair, what is sent goes to the former one."""
        self._former = self._nominated.get(1, self._former)
        self._cancel_checks()
        self._nominated, self._nominating, self._check_list = {}, set(), []
        self._check_list_done = self._early_checks_done = False
        self._check_list_state = asyncio.Queue()
        self._early_checks.clear()
        self._remote_candidates = []
        self._local_username, self._local_password = random_base62(4), random_base62(22)

    def admits(self, message: stun.Message, protocol: GuardedProtocol, peer: object) -> bool:
        """Whether a request is from someone who knows the password. Others get no answer at all,
        so that the port cannot be found by a scan or used as a reflector."""
        attributes = message.attributes
        return (
            message.message_method == stun.Method.BINDING
            and "PRIORITY" in attributes
            and attributes.get("USERNAME", "").partition(":")[0] == self.local_username
            and message.check_message_integrity(self.local_password.encode())
            and (peer in protocol.validated or len(self._remote_candidates) < MAX_REMOTE_CANDIDATES)
        )

    def data_received(self, data: bytes, component: int) -> None:
        if self._queue.qsize() < MAX_QUEUED_DATAGRAMS:
            super().data_received(data, component)
        else:
            self.dropped.overflow += 1

    def check_incoming(
        self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol
    ) -> None:
        super().check_incoming(message, addr, protocol)
        # Ours began when the answer left, and the browser's own network let none of it in before
        # this. aioice would only repeat it when its time comes: at twice the time passed so far.
        if isinstance(protocol, GuardedProtocol):
            protocol.ask_again(addr)

    def check_state(self, pair: CandidatePair, state: CandidatePair.State) -> None:
        super().check_state(pair, state)
        if state == CandidatePair.State.SUCCEEDED and isinstance(pair.protocol, GuardedProtocol):
            pair.protocol.validated.add(pair.remote_addr)

    async def gather_candidates(self) -> None:
        if not self._local_candidates_end:
            now = asyncio.get_running_loop().time()
            addresses = _addresses(int(now / ADDRESSES_LAST_S)) if self._wildcard is None else ()
            self._local_candidates = await self.get_component_candidates(1, list(addresses))
            self._local_candidates_end = True

    async def get_component_candidates(
        self,
        component: int,
        addresses: list[str],
        timeout: int = 5,  # noqa: ASYNC109
    ) -> list[Candidate]:
        if self._wildcard is not None:
            addresses = [self._wildcard]
        elif self._loopback:
            addresses = [*addresses, LOOPBACK]
        protocols = [
            protocol
            for index, address in enumerate(addresses)
            if (protocol := self._listen(address, component, 65535 - index))
        ]
        if not protocols:
            raise OverloadedError("no UDP socket for a call")
        candidates = [protocol.local_candidate for protocol in protocols]
        gathering: list[Awaitable[None]] = []
        if self.stun_server:
            gathering += [
                self._gather(server_reflexive_candidate(protocol, self.stun_server), candidates)
                for protocol in protocols
                if ":" not in (host := protocol.local_candidate.host) and host != LOOPBACK
            ]
        if self.turn_server:
            relayed = relayed_candidate(
                component=component,
                hide_related_address=False,
                protocol_factory=lambda: GuardedProtocol(self),
                turn_server=self.turn_server,
                turn_username=self.turn_username,
                turn_password=self.turn_password,
                turn_ssl=self.turn_ssl,
                turn_transport=self.turn_transport,
            )
            gathering.append(self._gather(relayed, candidates))
        await asyncio.gather(*gathering)
        return candidates

    def _listen(self, address: str, component: int, preference: int) -> GuardedProtocol | None:
        protocol = GuardedProtocol(self)
        try:
            _ = PolledSocket(address, protocol)  # the protocol keeps it
        except OSError as error:
            log.warning("no socket for WebRTC", extra={"address": address, "error": str(error)})
            return None
        host, port = protocol.transport.get_extra_info("sockname")[:2]
        protocol.local_candidate = Candidate(
            foundation=candidate_foundation("host", "udp", host),
            component=component,
            transport="udp",
            priority=candidate_priority(component, "host", preference),
            host=host,
            port=port,
            type="host",
        )
        self._protocols.append(protocol)
        return protocol

    async def _gather(
        self,
        source: Awaitable[tuple[Candidate, StunProtocol | None]],
        candidates: list[Candidate],
    ) -> None:
        try:
            async with asyncio.timeout(self._limits.gather_timeout_s):
                candidate, protocol = await source
        except (TimeoutError, OSError, KeyError, stun.TransactionError) as error:
            log.warning("no candidate from an ICE server", extra={"error": repr(error)})
            return
        candidates.append(candidate)
        if protocol is not None:
            self._protocols.append(protocol)

    async def query_consent(self) -> None:
        """RFC 7675, with authenticated media counting as consent as well."""
        assert self.remote_password is not None
        loop = asyncio.get_running_loop()
        while loop.time() - self.heard_at < self._limits.consent_timeout_s:
            await asyncio.sleep(self._limits.consent_interval_s * random.uniform(0.8, 1.2))
            for pair in list(self._nominated.values()):
                request = self.build_request(pair, nominate=False)
                try:
                    await pair.protocol.request(
                        request,
                        pair.remote_addr,
                        integrity_key=self.remote_password.encode(),
                        retransmissions=0,
                    )
                except stun.TransactionError:
                    log.debug("consent check unanswered")
        # close() would cancel this very task.
        self._query_consent_task = None
        await self.close()

    async def close(self) -> None:
        self.closed = True
        self._former = None
        await super().close()

    def abort(self) -> None:
        """Close the sockets whatever state the rest is in. Whoever waits for something of this
        connection goes on: aiortc's tasks would wait for ever, and be destroyed in the end."""
        self.closed = self._closing = True
        self._former = None
        self._cancel_checks()
        self._nominated.clear()
        self._check_list.clear()
        for protocol in self._protocols:
            protocol.transport.close()
        self._protocols.clear()
        self._queue.put_nowait(None)
        if not self._closed:
            self._closed = True
            self._emit_event(ConnectionClosed())

    def _cancel_checks(self) -> None:
        for task in (self._query_consent_task, *(pair.task for pair in self._check_list)):
            if task is not None:
                task.cancel()
        self._query_consent_task = None
