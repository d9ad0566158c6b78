import os
from pathlib import Path

import pytest

from tests.bench.cps import Outcome, response_times_ms, run
from tests.bench.subjects import Bridge


def outcome(*setup_ms: float) -> Outcome:
    return Outcome(100, 1, setup_ms, cpu_ms=3.0, live=0.0, late_ms=1.0, load=0.5)


def test_response_times_of_sipp(tmp_path: Path) -> None:
    text = "Date_ms;response_time_ms;rtd_no\n1795275654865.519;4.000000;1\n1795.1;28.0;1\n"
    (tmp_path / "call_17_rtt.csv").write_text(text)
    assert response_times_ms(tmp_path) == (4.0, 28.0)


def test_a_line_of_it() -> None:
    line = str(outcome(*map(float, range(101))))
    assert line.startswith("100 calls, 1 failed, 0 left over; set-up p50 50.0 p95 95.0 p99 99.0")


@pytest.mark.interop("sipp")
def test_calls_at_a_rate(tmp_path: Path) -> None:
    with Bridge(cores=os.sched_getaffinity(0), limits__media_timeout_s=60) as service:
        done = run(service, rate=50, seconds=1, talk_s=0.5, folder=tmp_path)
    assert (done.calls, done.failed, done.live) == (50, 0, 0)
    assert len(done.setup_ms) == 50
    assert 0 < done.cpu_ms < 100
