"""SRTP between a pair of ports and a stream, which see plain packets on one side only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bridge.errors import RtpError
from bridge.rtp.srtp import SrtpSession

Received = Callable[[bytes, float], None]


class Datagrams(Protocol):
    """What RtpSocket is to a wire."""

    on_rtp: Received | None
    on_rtcp: Received | None

    def demand_proof(self, rtp: Callable[[bytes], bool], rtcp: Callable[[bytes], bool]) -> None: ...

    def send(self, data: bytes) -> None: ...

    def send_rtcp(self, data: bytes) -> None: ...


@dataclass(slots=True)
class SecureWireStats:
    """Packets. `rejected` came from the peer's address under no key of this call, or again."""

    rejected: int = 0
    rejected_rtcp: int = 0
    unsent: int = 0


class SecureWire:
    """A `Wire` of the media plane. Takes over what `socket` receives; bad packets are counted,
    however many come."""

    def __init__(
        self,
        socket: Datagrams,
        session: SrtpSession,
        *,
        on_rtp: Received,
        on_rtcp: Received,
    ) -> None:
        self.session = session
        self.stats = SecureWireStats()
        self._socket = socket
        self._on_rtp = on_rtp
        self._on_rtcp = on_rtcp
        socket.on_rtp = self._receive
        socket.on_rtcp = self._receive_rtcp
        socket.demand_proof(self._proves, self._proves_rtcp)
        # A packet can be decrypted once: the second time is a replay.
        self._proof: tuple[bytes, bytes] | None = None

    def send(self, data: bytes, /) -> None:
        try:
            protected = self.session.protect(data)
        except RtpError:
            self.stats.unsent += 1
        else:
            self._socket.send(protected)

    def send_rtcp(self, data: bytes, /) -> None:
        try:
            protected = self.session.protect_rtcp(data)
        except RtpError:
            self.stats.unsent += 1
        else:
            self._socket.send_rtcp(protected)

    def _receive(self, data: bytes, now: float) -> None:
        plain = self._proven(data)
        if plain is None:
            try:
                plain = self.session.unprotect(data)
            except RtpError:
                self.stats.rejected += 1
                return
        self._on_rtp(plain, now)

    def _receive_rtcp(self, data: bytes, now: float) -> None:
        plain = self._proven(data)
        if plain is None:
            try:
                plain = self.session.unprotect_rtcp(data)
            except RtpError:
                self.stats.rejected_rtcp += 1
                return
        self._on_rtcp(plain, now)

    def _proven(self, data: bytes) -> bytes | None:
        """The plain text of what has just been found genuine."""
        proof, self._proof = self._proof, None
        return proof[1] if proof is not None and proof[0] is data else None

    def _proves(self, data: bytes) -> bool:
        return self._decrypts(self.session.unprotect, data)

    def _proves_rtcp(self, data: bytes) -> bool:
        return self._decrypts(self.session.unprotect_rtcp, data)

    def _decrypts(self, unprotect: Callable[[bytes], bytes], data: bytes) -> bool:
        try:
            self._proof = data, unprotect(data)
        except RtpError:
            self._proof = None
            return False
        return True
