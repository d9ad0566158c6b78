"""The rows as people read them, and as tests/bench/RESULTS.md keeps them."""

import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

from bridge import __version__
from tests.bench.measure import Row

HEADINGS = (
    "server",
    "calls",
    "up",
    "CPU % of a core per call",
    "spacing p50 / p99 / p99.9 ms",
    "full loop p50 / p99 ms",
    "KiB per call",
    "threads",
    "tick late p99 ms",
    "lost",
    "generator cores (late p99 ms)",
    "load before",
)

KINDS = {"sip": "SIP", "srtp": "SIP, SRTP", "dtls": "SIP, DTLS", "webrtc": "WebRTC"}


def cells(row: Row) -> tuple[str, ...]:
    spacing = row.media.get("spacing_ms", {})
    latency = row.media.get("latency_ms", {})
    own = row.media.get("own_late_ms", {})
    kind = KINDS.get(row.kind, row.kind)
    name = row.subject
    if row.subject == "bridge":
        name += f", {kind}" + ", echo" * (not row.model)
    if row.churn:
        name += f", {row.churn:g} set-ups/s"
    share = f"{row.generator_cores:.2f} ({_ms(own.get('p99'))})"
    if row.model_cores is not None:
        share += f", model {row.model_cores:.2f}"
    return (
        name,
        str(row.calls),
        str(row.up),
        f"{row.cpu_percent:.3g}",
        " / ".join(_ms(spacing.get(p)) for p in ("p50", "p99", "p99.9")),
        " / ".join(_ms(latency.get(p)) for p in ("p50", "p99")),
        f"{row.memory_kib:.0f}",
        str(row.threads),
        _ms(row.late_ms),
        str(row.media.get("lost", "-")),
        share,
        f"{row.load:.1f}",
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def markdown(rows: Sequence[Row]) -> str:
    lines = [HEADINGS, tuple("-" * max(3, len(heading)) for heading in HEADINGS)]
    lines += [cells(row) for row in rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEADINGS))]
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )


def compared(rows: Sequence[Row]) -> list[tuple[Row, Row, Row]]:
    """Each peer, and of ours of its kind the one with calls nearest to its, and the cheapest."""
    found = []
    for peer in rows:
        if peer.subject == "bridge" or not peer.up:
            continue
        kind = "sip" if "telephony" in peer.subject else "webrtc"
        ours = [row for row in rows if row.subject == "bridge" and row.kind == kind and row.up]
        # A peer echoes.
        ours = [row for row in ours if not row.churn and not row.model]
        if not ours:
            continue
        near = min(ours, key=lambda row: abs(row.calls - peer.calls))
        found.append((peer, near, min(ours, key=lambda row: row.cpu_percent)))
    return found


def ratios(rows: Sequence[Row]) -> list[str]:
    """How much more CPU each peer takes for a call than we do for one of its kind."""
    return [
        f"{peer.subject} at {peer.calls} calls takes "
        f"{peer.cpu_percent / near.cpu_percent:.1f} times the CPU of ours at {near.calls}, "
        f"{peer.cpu_percent / best.cpu_percent:.1f} times that of ours at {best.calls}"
        for peer, near, best in compared(rows)
    ]


def machine() -> str:
    """Processor, cores, memory, kernel, Python."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in info if "model name" in line), "?")
    memory = Path("/proc/meminfo").read_text(encoding="utf-8").split()[1]
    return (
        f"{model}, {os.cpu_count()} cores, {int(memory) / 2**20:.0f} GiB, "
        f"Linux {platform.release()}, Python {platform.python_version()}"
    )


def results(
    rows: Sequence[Row],
    *,
    command: str,
    date: str,
    commit: str,
    delta_ms: int,
    notes: Iterable[str] = (),
) -> str:
    """The whole of RESULTS.md."""
    parts = [
        "# Measured",
        f"By `{command}` on {date}: version {__version__}, commit {commit}, on one machine "
        f"({machine()}), loopback only. The server had one core, all that loads it the other. "
        "Written by `scripts/bench --results`; do not edit.",
        "Every call talks 2.4 s and is silent 0.6 s, over and over. A Realtime server over TLS "
        "hears it, by a WebSocket for each call, and answers each spurt with as much sound, in "
        f"deltas of {delta_ms} ms that come four times as fast as they are heard; of *echo*, as "
        "the peers have it, the server itself says it back. *Spacing* is between two packets "
        "that follow each other in a call, by kernel timestamps, those with a marker left out: a "
        "talk spurt may begin in another phase. "
        "*Full loop* is from sending the first packet of a spurt to the arrival of the first "
        "packet of the answer. *KiB per call* is over what the server had after its first calls; "
        "for calls with a client, as those of browsers here, up to 10 s of what the model said are "
        "kept, 48 KB each.",
        markdown(rows),
    ]
    extra = [*ratios(rows), *notes]
    if extra:
        parts.append("\n".join(f"- {line}" for line in extra))
    return "\n\n".join(parts) + "\n"
