"""The media of many calls, in a thread of C: wire.c, compiled when it is first wanted."""

import contextlib
import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

SOURCE = Path(__file__).with_name("wire.c")
SPACING_BINS, LATENCY_BINS, LATE_BINS = 10_000, 30_000, 10_000
COUNTS = (
    "sent",
    "received",
    "lost",
    "duplicated",
    "reordered",
    "rejected",
    "spurts_sent",
    "spurts_heard",
    "marked",
)
BIN_MS = 0.1


class NoCompilerError(Exception):
    """No cc here, or it did not take the source; the message says what it said."""


class Totals(ctypes.Structure):
    """totals_t of wire.c."""

    _fields_: ClassVar[Any] = [
        *((name, ctypes.c_uint64) for name in COUNTS),
        ("cpu_ns", ctypes.c_uint64),
        ("spacing", ctypes.c_uint32 * SPACING_BINS),
        ("latency", ctypes.c_uint32 * LATENCY_BINS),
        ("late", ctypes.c_uint32 * LATE_BINS),
    ]


def percentile(bins: NDArray[np.uint32], fraction: float) -> float | None:
    """In ms: the upper edge of the bin. None if nothing was counted."""
    total = int(bins.sum())
    if not total:
        return None
    place = int(np.searchsorted(np.cumsum(bins), fraction * total))
    return round((place + 1) * BIN_MS, 1)


@dataclass(slots=True)
class Counted:
    """Of a span of time. Histograms in bins of 0.1 ms."""

    counts: dict[str, int]
    spacing: NDArray[np.uint32]
    latency: NDArray[np.uint32]
    late: NDArray[np.uint32]

    def summary(self) -> dict[str, Any]:
        def of(bins: NDArray[np.uint32], *fractions: float) -> dict[str, float | None]:
            return {f"p{100 * f:g}": percentile(bins, f) for f in fractions}

        return {
            **self.counts,
            "spacing_ms": of(self.spacing, 0.5, 0.99, 0.999),
            "latency_ms": of(self.latency, 0.5, 0.99),
            "own_late_ms": of(self.late, 0.99, 0.999),
        }


@dataclass(frozen=True, slots=True)
class Script:
    """What is said over and over, 20 ms a payload: sound in the first `loud`, then silence.

    `step` is what the timestamp moves by; `opus` tells how loudness is seen in what comes back.
    """

    payloads: tuple[bytes, ...]
    loud: int
    step: int
    opus: bool


def compiled() -> Path:
    """The library, made once for each state of its source.

    Raises:
        NoCompilerError: there is no cc.
    """
    source = SOURCE.read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bridge-bench"
    library = cache / f"wire-{hashlib.sha256(source).hexdigest()[:16]}.so"
    if library.exists():
        return library
    compiler = shutil.which("cc")
    if compiler is None:
        raise NoCompilerError("no cc")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as directory:
        made = Path(directory) / "wire.so"
        flags = ["-O2", "-shared", "-fPIC", "-o", str(made), str(SOURCE), "-lm", "-lpthread"]
        done = subprocess.run([compiler, *flags], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoCompilerError(done.stderr)
        made.rename(library)
    return library


@dataclass(slots=True)
class Wire:
    """`slow_fd` gets what is neither RTP nor RTCP, four bytes of the stream's number before it."""

    capacity: int
    slow_fd: int = -1
    _library: Any = field(init=False)
    _wire: ctypes.c_void_p = field(init=False)
    _thread: threading.Thread | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        library = self._library = ctypes.CDLL(str(compiled()))
        library.wire_new.restype = ctypes.c_void_p
        library.wire_heard.restype = library.wire_remove.restype = ctypes.c_uint32
        self._wire = ctypes.c_void_p(library.wire_new(self.capacity, self.slow_fd))

    def script(self, script: Script) -> int:
        sizes = [len(payload) for payload in script.payloads]
        return int(
            self._library.wire_script(
                self._wire,
                b"".join(script.payloads),
                (ctypes.c_uint32 * len(sizes))(*sizes),
                len(sizes),
                script.loud,
                script.step,
                int(script.opus),
            )
        )

    def add(
        self,
        fd: int,
        remote: tuple[str, int],
        *,
        script: int,
        payload_type: int,
        phase: float,
        ssrc: int = 0,
        keys: tuple[bytes, bytes] | None = None,
        counted: bool = True,
    ) -> int:
        """A stream that speaks from now on. `keys` are ours and theirs, AES_CM_128_HMAC_SHA1_80."""
        number = self._library.wire_add(
            self._wire,
            fd,
            remote[0].encode(),
            remote[1],
            script,
            payload_type,
            int(counted),
            ctypes.c_double(phase),
            ctypes.c_uint32(ssrc),
            *(keys or (None, None)),
        )
        if number < 0:
            raise RuntimeError("more streams than the wire was made for")
        return int(number)

    def remove(self, number: int) -> int:
        """How many packets it got. Its socket stays open."""
        return int(self._library.wire_remove(self._wire, number))

    def heard(self, number: int) -> int:
        return int(self._library.wire_heard(self._wire, number))

    def take(self) -> Counted:
        """What was counted since the last time."""
        totals = Totals()
        self._library.wire_take(self._wire, ctypes.byref(totals))
        return Counted(
            {name: getattr(totals, name) for name in COUNTS},
            np.array(totals.spacing, np.uint32),
            np.array(totals.latency, np.uint32),
            np.array(totals.late, np.uint32),
        )

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="wire", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        if hasattr(os, "sched_setscheduler"):
            with contextlib.suppress(PermissionError):
                # Only this thread: signalling beside it must not make it late.
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
        self._library.wire_run(self._wire)

    def stop(self) -> None:
        self._library.wire_stop(self._wire)
        if self._thread is not None:
            self._thread.join(2)
