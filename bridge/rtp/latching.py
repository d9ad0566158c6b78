"""Whose packets a call listens to, and where it sends: the address in the SDP, or behind a NAT the
one source that proves itself.

Anyone can send to an open port. Following the first packet hands the call's audio to whoever sprays
the port range, so a stranger must keep up one steady stream while the SDP address stays silent.
"""

from dataclasses import dataclass
from ipaddress import ip_address

from bridge.rtp.packet import HEADER, HEADER_LENGTH, is_rtcp

Endpoint = tuple[str, int]

MIN_RUN = 5
"""Packets in sequence, of one SSRC, before a source other than the SDP address is believed."""

MIN_RUN_S = 0.06
"""A burst proves nothing: five packets of 20 ms speech span 80 ms, and within that time an honest
SDP address has sent too."""

FRESH_S = 1.0
"""How long a source at the SDP's own IP keeps others waiting."""

MAX_CANDIDATES = 8


@dataclass(slots=True)
class _Run:
    ssrc: int
    sequence_number: int
    count: int
    started_at: float
    seen_at: float


class SourceLatch:
    """`source` is where valid packets come from and where ours go; None before `set_remote`."""

    __slots__ = ("_candidates", "_control", "_locked", "_remote", "_remote_control", "source")

    def __init__(self) -> None:
        self.source: Endpoint | None = None
        self._remote: Endpoint | None = None
        self._remote_control: Endpoint | None = None
        self._control: Endpoint | None = None
        self._locked = False
        self._candidates: dict[Endpoint, _Run] = {}

    @property
    def remote(self) -> Endpoint | None:
        return self._remote

    @property
    def latched(self) -> bool:
        """Whether packets go to and come from an address the SDP did not name."""
        return self.source != self._remote

    def set_remote(self, rtp: Endpoint | None, control: Endpoint | None = None) -> None:
        """The addresses of a new or repeated SDP; the RTCP port is the next one unless given.

        An address repeated keeps the source found so far and lets another prove itself.
        Raises ValueError if a host is not an IP address.
        """
        rtp = _usable(rtp)
        if rtp != self._remote:
            self.source = rtp
            self._control = None
        self._remote = rtp
        self._remote_control = _usable(control) or _beside(rtp)
        self._locked = False
        self._candidates.clear()

    @property
    def control(self) -> Endpoint | None:
        """Where RTCP goes: whence it came last, else beside the RTP (RFC 3550 section 11)."""
        if self._control or not self.latched:
            return self._control or self._remote_control
        return _beside(self.source)

    def admits(self, data: bytes, source: Endpoint, now: float) -> bool:
        """Whether this datagram is RTP of the call; may latch on to its source."""
        if len(data) < HEADER_LENGTH or data[0] >> 6 != 2 or is_rtcp(data):
            return False
        if source == self.source:
            if not self._locked:
                self._locked = True
                self._candidates.clear()
            return True
        if self._remote is None or (self._locked and source != self._remote):
            return False
        if not self._proven(data, source, now):
            return False
        self.source = source
        self._control = None
        self._locked = True
        self._candidates.clear()
        return True

    def admits_control(self, source: Endpoint) -> bool:
        """Whether RTCP from this source belongs to the call: the port of RTCP is often remapped,
        so once RTP came the IP suffices."""
        known = self._locked and self.source is not None and source[0] == self.source[0]
        if not known and (source != self._remote_control or self.latched):
            return False
        self._control = source
        return True

    def _proven(self, data: bytes, source: Endpoint, now: float) -> bool:
        _, _, sequence_number, _, ssrc = HEADER.unpack_from(data)
        run = self._candidates.get(source)
        if run is None:
            self._make_room()
            self._candidates[source] = _Run(ssrc, sequence_number, 1, now, now)
            return False
        follows = ssrc == run.ssrc and sequence_number == (run.sequence_number + 1) & 0xFFFF
        run.ssrc = ssrc
        run.sequence_number = sequence_number
        run.seen_at = now
        if not follows:
            run.count = 1
            run.started_at = now
            return False
        run.count += 1
        if run.count < MIN_RUN or now - run.started_at < MIN_RUN_S:
            return False
        return self._at_remote_host(source) or not self._rival(now)

    def _at_remote_host(self, source: Endpoint) -> bool:
        return self._remote is not None and source[0] == self._remote[0]

    def _rival(self, now: float) -> bool:
        """Whether the SDP's own IP is sending from some port."""
        return any(
            self._at_remote_host(source) and now - run.seen_at < FRESH_S
            for source, run in self._candidates.items()
        )

    def _make_room(self) -> None:
        if len(self._candidates) >= MAX_CANDIDATES:
            weakest = min(self._candidates.items(), key=lambda item: item[1].count)
            del self._candidates[weakest[0]]


def _usable(endpoint: Endpoint | None) -> Endpoint | None:
    """None for what cannot be sent to: 0.0.0.0 means hold, and the kernel takes it for loopback."""
    if endpoint is None:
        return None
    host = ip_address(endpoint[0])
    if host.is_unspecified or not 0 < endpoint[1] <= 65535:
        return None
    return str(host), endpoint[1]


def _beside(rtp: Endpoint | None) -> Endpoint | None:
    """The next port: RTCP's, unless the SDP says otherwise."""
    return None if rtp is None or rtp[1] == 65535 else (rtp[0], rtp[1] + 1)
