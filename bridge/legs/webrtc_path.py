"""The path of one call's media: ICE, DTLS and SRTP from the first socket to the farewell, whoever
signals for it."""

import asyncio
import dataclasses
import ipaddress
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal, Self

from aiortc import (
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCIceCandidate,
    RTCIceParameters,
    RTCIceServer,
)
from aiortc.rtcicetransport import candidate_to_aioice

from bridge.errors import ConfigError
from bridge.legs.webrtc_guard import PeerTransport
from bridge.legs.webrtc_ice import Limits
from bridge.legs.webrtc_media import DtlsWire, PathWire, SrtpWire
from bridge.legs.webrtc_sdp import as_candidate, as_rtc_candidate
from bridge.legs.webrtc_servers import IceServer
from bridge.sdp.dtls import Fingerprint, LocalPath, RemotePath

log = logging.getLogger(__name__)

Lost = Literal["remote_hangup", "connection_lost"]


@dataclass(frozen=True, slots=True)
class Remote:
    """Where the other end is and how it is known; `setup` is our part in DTLS, `controlling` in
    ICE."""

    ice: RTCIceParameters
    fingerprints: tuple[RTCDtlsFingerprint, ...]
    candidates: tuple[RTCIceCandidate, ...]
    setup: Literal["active", "passive"]
    controlling: bool = False

    @classmethod
    def of(cls, path: RemotePath, *, controlling: bool) -> Self:
        return cls(
            RTCIceParameters(path.username, path.password, path.lite),
            tuple(RTCDtlsFingerprint(each.algorithm, each.value) for each in path.fingerprints),
            tuple(map(as_rtc_candidate, path.candidates)),
            path.setup,
            controlling,
        )


class MediaPath:
    """Made by `Paths`, with all its candidates. `wire` drops packets until it is connected."""

    def __init__(
        self, peer: PeerTransport, limits: Limits, advertised: str | None, *, direct: bool = True
    ) -> None:
        """`direct`: by aiortc's own SRTP sessions."""
        self.peer = peer
        wire = SrtpWire if direct else DtlsWire
        self.wire: PathWire = wire(peer.connection, peer.dtls)
        self.on_lost: Callable[[Lost], None] | None = None
        """Called for each thing that ends it, `close` among them: only the first says why."""
        self._limits = limits
        self._advertised = advertised
        self._connecting: asyncio.Task[object] | None = None
        peer.dtls.on("statechange", self._dtls_changed)
        peer.ice.on("statechange", self._ice_changed)

    @property
    def ice(self) -> RTCIceParameters:
        return self.peer.gatherer.getLocalParameters()

    @property
    def fingerprint(self) -> RTCDtlsFingerprint:
        return self.peer.dtls.getLocalParameters().fingerprints[0]

    @property
    def candidates(self) -> tuple[RTCIceCandidate, ...]:
        """As they are told; the first is the default."""
        found = self.peer.gatherer.getLocalCandidates()
        return tuple(as_advertised(each, self._advertised) for each in found)

    @property
    def local(self) -> LocalPath:
        """All of it, for a description that is not written here."""
        ice, fingerprint = self.ice, self.fingerprint
        return LocalPath(
            ice.usernameFragment or "",
            ice.password or "",
            Fingerprint(fingerprint.algorithm, fingerprint.value),
            tuple(filter(None, map(as_candidate, self.candidates))),
        )

    @property
    def connected(self) -> bool:
        """Whether there are keys, and a pair to send to."""
        return self.peer.dtls.state == "connected"

    async def connect(self, remote: Remote) -> bool:
        """Whether it did in time; not after `close`."""
        self._connecting = asyncio.current_task()
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                await self._handshake(remote)
        except TimeoutError:
            log.info("no media path in time")
        finally:
            self._connecting = None
        if self.connected:
            self.peer.connection.heard()
        return self.connected

    def restart(self) -> None:
        """ICE begins again, under new names; DTLS and its keys stay. `reconnect` comes next."""
        if self._connecting is not None:
            self._connecting.cancel()
        self.peer.connection.restart()

    async def reconnect(self, remote: Remote) -> bool:
        """Whether it did in time. Media has gone the former way until then."""
        connection = self.peer.connection
        connection.remote_is_lite = remote.ice.iceLite
        connection.remote_username = remote.ice.usernameFragment
        connection.remote_password = remote.ice.password
        self._connecting = asyncio.current_task()
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                for candidate in remote.candidates:
                    await connection.add_remote_candidate(candidate_to_aioice(candidate))
                await connection.connect()
        except (TimeoutError, ConnectionError):
            return False
        finally:
            self._connecting = None
        connection.heard()
        return self.connected

    async def _handshake(self, remote: Remote) -> None:
        peer = self.peer
        connection = peer.connection
        connection.ice_controlling = remote.controlling or remote.ice.iceLite
        peer.dtls._set_role("server" if remote.setup == "passive" else "client")
        for candidate in remote.candidates:
            await connection.add_remote_candidate(candidate_to_aioice(candidate))
        # The end of the candidates is never told: a page that posts its offer before it gathered
        # has none, and is found by its own checks.
        await peer.ice.start(remote.ice)
        if peer.ice.state == "completed":
            role = "client" if remote.setup == "active" else "server"
            await peer.dtls.start(RTCDtlsParameters(list(remote.fingerprints), role))

    async def close(self) -> None:
        """Tell the other side and free the sockets."""
        try:
            async with asyncio.timeout(self._limits.close_timeout_s):
                if self._connecting is not None:
                    self._connecting.cancel()
                await self.peer.close()
        except TimeoutError:
            log.warning("media path did not close in time")
        finally:
            self.abort()

    async def leave(self) -> None:
        """Tell the other side; `linger` is next.

        Chromium does not count close_notify as an end, and agents-realtime not that its data
        channel closes: they notice when ICE fails, which takes 11 s unless checks are refused.
        """
        self.wire.stop()
        self.peer.connection.revoke()
        try:
            async with asyncio.timeout(self._limits.close_timeout_s):
                await self.peer.farewell()
        except TimeoutError:
            log.warning("no farewell in time")

    async def linger(self) -> None:
        """Until the other side has seen that it is over; then the sockets are freed."""
        try:
            await self.peer.connection.heeded()
        finally:
            await self.close()

    def abort(self) -> None:
        """As `close`, without a word."""
        self.wire.stop()
        self.peer.abort()
        self.on_lost = None

    def _dtls_changed(self) -> None:
        state = self.peer.dtls.state
        if state in ("closed", "failed"):
            lost = self.peer.connection.closed or state == "failed"
            self._tell("connection_lost" if lost else "remote_hangup")

    def _ice_changed(self) -> None:
        if self.peer.ice.state in ("closed", "failed"):
            self._tell("connection_lost")

    def _tell(self, why: Lost) -> None:
        if self.on_lost is not None:
            self.on_lost(why)


def as_advertised(candidate: RTCIceCandidate, advertised: str | None) -> RTCIceCandidate:
    """As it is told."""
    if advertised is None:
        return candidate
    if candidate.type == "host":
        return dataclasses.replace(candidate, ip=advertised)
    return dataclasses.replace(candidate, relatedAddress=advertised)


class Paths:
    """Makes them. `ice_servers` may be text as for `IceServer.parse`. `advertised_address` is told
    in place of our own; `loopback` offers 127.0.0.1 as well; `direct` is as for `MediaPath`. Raises
    ConfigError."""

    def __init__(
        self,
        *,
        ice_servers: Sequence[IceServer | str] = (),
        advertised_address: str | None = None,
        loopback: bool = False,
        limits: Limits | None = None,
        direct: bool = True,
    ) -> None:
        # At INFO aioice tells every address it tries.
        logging.getLogger("aioice").setLevel(logging.WARNING)
        self.limits = limits or Limits()
        self._direct = direct
        self._ice_servers = [
            IceServer.parse(each) if isinstance(each, str) else each for each in ice_servers
        ]
        self._wildcard = _wildcard(advertised_address)
        self.advertised_address = advertised_address
        self._loopback = loopback

    def ice_servers(self) -> list[RTCIceServer]:
        """For a call that begins now."""
        return [each.for_a_call() for each in self._ice_servers]

    async def open(self) -> MediaPath:
        """Raises OverloadedError."""
        peer = PeerTransport(
            ice_servers=self.ice_servers(),
            loopback=self._loopback,
            wildcard=self._wildcard,
            limits=self.limits,
        )
        with ExitStack() as undo:
            undo.callback(peer.connection.abort)
            await peer.gatherer.gather()
            undo.pop_all()
        return MediaPath(peer, self.limits, self.advertised_address, direct=self._direct)


def _wildcard(advertised: str | None) -> str | None:
    """Where to listen: on each address of the machine (None), or behind an advertised one."""
    if advertised is None:
        return None
    try:
        return "::" if ipaddress.ip_address(advertised).version == 6 else "0.0.0.0"
    except ValueError as error:
        raise ConfigError(
            "webrtc.advertised_address takes an IP address, such as 203.0.113.7",
            param="webrtc.advertised_address",
        ) from error
