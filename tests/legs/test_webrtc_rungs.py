import asyncio
import json
import subprocess
import sys

import pytest

from bridge.legs.webrtc_rungs import PRIVATE_NAMES, Rung, choose, missing


def chosen(**options: object) -> Rung:
    return asyncio.run(choose(**options))  # type: ignore[arg-type]


def test_the_installed_libraries_are_the_tested_ones(caplog: pytest.LogCaptureFixture) -> None:
    assert chosen() is Rung.DIRECT
    assert caplog.records == []


@pytest.mark.parametrize("name", ["aiortc", "aioice"])
def test_another_release_has_to_show_that_it_works(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert chosen(releases={name: "9.9"}) is Rung.DIRECT
    assert [record.message for record in caplog.records] == ["WebRTC by an untested aiortc"]


@pytest.mark.parametrize("rung", [Rung.DTLS, Rung.PUBLIC])
def test_a_missing_name_costs_the_ways_that_need_it(
    rung: Rung, caplog: pytest.LogCaptureFixture
) -> None:
    lacking = {"RTCDtlsTransport": ("_set_role", "_gone")}
    names = dict(PRIVATE_NAMES)
    for each in names:
        if each is not rung:
            names[each] = lacking
    assert chosen(private_names=names) is rung
    told = [vars(record).get("because") for record in caplog.records]
    assert told[0] == "there is no RTCDtlsTransport._gone"


def test_what_is_missing_is_named() -> None:
    async def main() -> list[str]:
        return missing({"Connection": ("_queue", "_gone"), "RTCCertificate": ("_away",)})

    assert asyncio.run(main()) == ["Connection._gone", "RTCCertificate._away"]


@pytest.mark.parametrize(
    ("renamed", "rung"), [("_rx_srtp", Rung.DTLS), ("_connection", Rung.PUBLIC)]
)
def test_a_call_by_an_aiortc_whose_private_parts_are_others(renamed: str, rung: Rung) -> None:
    command = [sys.executable, "-m", "tests.legs.other_aiortc", "9.9.0", renamed, "_another"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["rung"], told["ended"], told["left"]) == (rung, "local_hangup", [])
    assert told["messages"] == ["read?", "and back"]
    assert told["browser_hears_hz"] == pytest.approx(1000, abs=5)
    assert told["we_hear_hz"] == pytest.approx(500, abs=5)
