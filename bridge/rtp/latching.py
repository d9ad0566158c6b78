"""Whose packets a call listens to, and where it sends: the address in the SDP, or behind a NAT the
one source that proves itself.

Anyone can send to an open port. Following the first packet hands the call's audio to whoever sprays
the port range, so a stranger must keep up one steady stream while the SDP address stays silent, and
waits for whoever sends from where the SDP or the signalling came from. Where there are keys, no
source is believed without a packet under them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from bridge.rtp.packet import HEADER, HEADER_LENGTH, is_rtcp

Endpoint = tuple[str, int]
Proof = Callable[[bytes], bool]

MIN_RUN = 5
"""Packets in sequence, of one SSRC, before a source other than the SDP address is believed."""

MIN_RUN_S = 0.06
"""A burst proves nothing: five packets of 20 ms speech span 80 ms, and within that time an honest
SDP address has sent too."""

MIN_FAR_RUN_S = 0.25
"""The same for a host that neither the SDP nor the signalling came from, when both are known."""

FRESH_S = 1.0
"""How long a source that is near keeps others waiting."""

MAX_CANDIDATES = 8


@dataclass(slots=True)
class _Run:
    ssrc: int
    sequence_number: int
    count: int
    started_at: float
    seen_at: float


class SourceLatch:
    """`source` is where valid packets come from and where ours go; None before `set_remote`.

    `genuine` and `genuine_control` tell whether a datagram is under the call's keys, if it has any:
    asked only of datagrams that would change where ours go. `stale` is the SSRC, as octets, of who
    had the port before, and may be sending still.
    """

    __slots__ = (
        "_candidates",
        "_control",
        "_last",
        "_locked",
        "_near",
        "_remote",
        "_remote_control",
        "_stale",
        "genuine",
        "genuine_control",
        "source",
    )

    def __init__(self, *, stale: bytes = b"") -> None:
        self.source: Endpoint | None = None
        self.genuine: Proof | None = None
        self.genuine_control: Proof | None = None
        self._near = ""
        self._last = b""  # RTP that was admitted
        self._stale = stale
        self._remote: Endpoint | None = None
        self._remote_control: Endpoint | None = None
        self._control: Endpoint | None = None
        self._locked = False
        self._candidates: dict[Endpoint, _Run] = {}

    @property
    def remote(self) -> Endpoint | None:
        return self._remote

    @property
    def ssrc(self) -> bytes:
        """Of what was admitted last; empty before."""
        return self._last[8:12]

    @property
    def latched(self) -> bool:
        """Whether packets go to and come from an address the SDP did not name."""
        return self.source != self._remote

    def set_remote(
        self, rtp: Endpoint | None, control: Endpoint | None = None, *, near: str = ""
    ) -> None:
        """The addresses of a new or repeated SDP; the RTCP port is the next one unless given.
        `near` is the host that the signalling comes from: behind a NAT, media mostly does too.

        An address repeated keeps the source found so far and lets another prove itself.
        Raises ValueError if a host is not an IP address.
        """
        near = str(ip_address(near)) if near else ""
        rtp = _usable(rtp)
        if rtp != self._remote:
            self.source = rtp
            self._control = None
        self._remote = rtp
        self._near = near
        self._remote_control = _usable(control) or _beside(rtp)
        self._locked = False
        self._candidates.clear()

    @property
    def control(self) -> Endpoint | None:
        """Where RTCP goes: whence it came last, else beside the RTP (RFC 3550 section 11)."""
        if self._control or not self.latched:
            return self._control or self._remote_control
        return _beside(self.source)

    def goes_on(self, data: bytes, source: Endpoint) -> bool:
        """As `admits`, of what nearly all is: from a source that is believed already. False: it may
        still be admitted."""
        if len(data) < HEADER_LENGTH or not self._locked or source != self.source:
            return False
        if data[0] >> 6 != 2 or is_rtcp(data):
            return False
        self._last = data
        return True

    def admits(self, data: bytes, source: Endpoint, now: float) -> bool:
        """Whether this datagram is RTP of the call; may latch on to its source."""
        if len(data) < HEADER_LENGTH or data[0] >> 6 != 2 or is_rtcp(data):
            return False
        if source == self.source:
            if not self._locked:
                self._locked = True
                self._candidates.clear()
            self._last = data
            return True
        if self._remote is None or (self._locked and not self._wins_back(source)):
            return False
        if not self._proven(data, source, now):
            return False
        self.source = source
        self._control = None
        self._locked = True
        self._last = data
        self._candidates.clear()
        return True

    def admits_control(self, data: bytes, source: Endpoint) -> bool:
        """Whether this RTCP belongs to the call. It comes from where the SDP says; but its port is
        often remapped, so a packet of the SSRC we hear suffices, from the host we hear."""
        if source == self._control:
            return True
        if source == self._remote_control and not self.latched:
            self._control = source
            return True
        if not self._remapped(data, source):
            return False
        if self.genuine_control is not None and not self.genuine_control(data):
            return False
        self._control = source
        return True

    def _remapped(self, data: bytes, source: Endpoint) -> bool:
        if not self._locked or self.source is None or source[0] != self.source[0]:
            return False
        if self._control is not None and self._control == self._remote_control:
            return False
        return data[4:8] == self.ssrc

    def _wins_back(self, source: Endpoint) -> bool:
        """Whether a source may take the call from the one that has it."""
        if source == self._remote:
            return True
        held_by = self.source
        return held_by is not None and self._is_near(source) and not self._is_near(held_by)

    def _proven(self, data: bytes, source: Endpoint, now: float) -> bool:
        if data[8:12] == self._stale:
            return False
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
        near = self._is_near(source)
        lasts = MIN_RUN_S if near or not self._near else MIN_FAR_RUN_S
        if run.count < MIN_RUN or now - run.started_at < lasts:
            return False
        if not near and self._rival(now):
            return False
        if self.genuine is not None and not self.genuine(data):
            run.count = 0
            return False
        return True

    def _is_near(self, source: Endpoint) -> bool:
        """At the SDP's own IP, or the signalling's."""
        remote = self._remote
        return source[0] == self._near or (remote is not None and source[0] == remote[0])

    def _rival(self, now: float) -> bool:
        """Whether somebody near is sending from some port."""
        return any(
            self._is_near(source) and now - run.seen_at < FRESH_S
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
