"""What a receiver knows of one source: RFC 3550 appendices A.1 (order), A.3 (loss), A.8 (jitter).

Probation (MIN_SEQUENTIAL) is left out: a source is held to more before it is let in, by latching.
"""

from dataclasses import dataclass

from bridge.rtp.rtcp import ReportBlock
from bridge.rtp.sequence import timestamp_delta

MAX_DROPOUT = 3000
MAX_MISORDER = 100


@dataclass(frozen=True, slots=True)
class ReceptionStats:
    """`lost` may be negative: duplicates count as received (RFC 3550 section 6.4.1)."""

    received: int
    expected: int
    lost: int
    restarts: int
    highest_sequence: int
    jitter_ms: float


class Reception:
    """One source. Make a new one when the SSRC changes."""

    def __init__(self, clock_rate: int, *, ssrc: int = 0) -> None:
        self.clock_rate = clock_rate
        self.ssrc = ssrc
        self._received = 0
        self._restarts = 0
        self._base_sequence = 0
        self._max_sequence = 0
        self._cycles = 0
        self._bad_sequence: int | None = None
        self._expected_prior = 0
        self._received_prior = 0
        self._transit: int | None = None
        self._jitter = 0  # 16 times the estimate, as in appendix A.8
        self._last_sr = 0
        self._last_sr_at = 0.0

    def received(self, sequence_number: int, timestamp: int | None, now: float) -> bool:
        """False for a packet whose number jumps beyond dropout and misorder: the second one in a
        row restarts the count. `timestamp` None (telephone events, whose timestamp stands still)
        leaves the jitter alone."""
        if sequence_number == self._max_sequence + 1 and self._received:
            self._max_sequence = sequence_number
        elif not self._advance(sequence_number):
            return False
        self._received += 1
        if timestamp is not None:
            self._measure(timestamp, now)
        return True

    def _advance(self, sequence_number: int) -> bool:
        if self._received == 0:
            self._restart(sequence_number)
            return True
        step = (sequence_number - self._max_sequence) & 0xFFFF
        if step < MAX_DROPOUT:
            if sequence_number < self._max_sequence:
                self._cycles += 1 << 16
            self._max_sequence = sequence_number
        elif step <= (1 << 16) - MAX_MISORDER:
            if sequence_number != self._bad_sequence:
                self._bad_sequence = (sequence_number + 1) & 0xFFFF
                return False
            # Two in a row: the other side restarted without telling us.
            self._restart(sequence_number)
            self._restarts += 1
        return True

    def _restart(self, sequence_number: int) -> None:
        self._base_sequence = sequence_number
        self._max_sequence = sequence_number
        self._bad_sequence = None
        self._cycles = 0
        self._received = 0
        self._received_prior = 0
        self._expected_prior = 0
        self._transit = None

    def _measure(self, timestamp: int, now: float) -> None:
        transit = (int(now * self.clock_rate) - timestamp) & 0xFFFF_FFFF
        if self._transit is not None:
            difference = abs(timestamp_delta(transit, self._transit))
            self._jitter += difference - ((self._jitter + 8) >> 4)
        self._transit = transit

    def steady(self, expected: int) -> tuple[int, int] | None:
        """The transit and the jitter, to go on elsewhere; None if it does not expect this number,
        or that begins a cycle."""
        if not self._received or self._transit is None or self._max_sequence + 1 != expected:
            return None
        return self._transit, self._jitter

    def went_on(self, packets: int, transit: int, jitter: int) -> None:
        """So many were received since it was `steady`, each the next."""
        self._max_sequence += packets
        self._received += packets
        self._transit, self._jitter = transit, jitter

    def sender_report(self, ntp_timestamp: int, now: float) -> None:
        """Remember the source's own report (64-bit NTP time) for LSR and DLSR."""
        self._last_sr = ntp_timestamp >> 16 & 0xFFFF_FFFF
        self._last_sr_at = now

    @property
    def highest_sequence(self) -> int:
        return self._cycles + self._max_sequence

    @property
    def _expected(self) -> int:
        if self._received == 0:
            return 0
        return self.highest_sequence - self._base_sequence + 1

    def report_block(self, now: float) -> ReportBlock:
        """What to tell the source; `fraction_lost` is since the last call."""
        expected = self._expected
        lost = max(-0x80_0000, min(0x7F_FFFF, expected - self._received))
        expected_interval = expected - self._expected_prior
        lost_interval = expected_interval - (self._received - self._received_prior)
        self._expected_prior = expected
        self._received_prior = self._received
        fraction = 0
        if expected_interval > 0 and lost_interval > 0:
            fraction = min(255, (lost_interval << 8) // expected_interval)
        delay = int((now - self._last_sr_at) * 65536) & 0xFFFF_FFFF if self._last_sr else 0
        return ReportBlock(
            ssrc=self.ssrc,
            fraction_lost=fraction,
            packets_lost=lost,
            highest_sequence=self.highest_sequence & 0xFFFF_FFFF,
            jitter=self._jitter >> 4,
            last_sr=self._last_sr,
            delay_since_last_sr=delay,
        )

    @property
    def stats(self) -> ReceptionStats:
        return ReceptionStats(
            received=self._received,
            expected=self._expected,
            lost=self._expected - self._received,
            restarts=self._restarts,
            highest_sequence=self.highest_sequence,
            jitter_ms=(self._jitter >> 4) * 1000 / self.clock_rate,
        )
