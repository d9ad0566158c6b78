"""Calls that are over, and for how long they are remembered."""

import pytest

from bridge.calls.call import Call, CallState
from bridge.calls.ended import EndedCalls
from bridge.errors import CallNotFound
from bridge.ids import CallId


def over(name: str) -> Call:
    return Call(
        CallId(name),
        "sip",
        "inbound",
        1000.0,
        headers=(("From", "<sip:caller@example.com>"), ("X-Order", "ü 7")),
        state=CallState.ENDED,
        answered_at=1001.0,
        ended_at=1002.0,
        end_reason="remote_hangup",
        rejected_with=486,
        transfer={"target_uri": "tel:+1555", "status": "failed", "sip_status": 603},
    )


def test_the_record_is_the_call_s_own() -> None:
    ended = EndedCalls()
    call = over("rtc_1")
    ended.add(call)
    assert ended.record(call.call_id) == call.record()
    kept = ended.get(call.call_id)
    assert kept is not None
    assert (kept.rejected_with, kept.reason) == (486, "remote_hangup")


def test_the_oldest_is_forgotten() -> None:
    ended = EndedCalls(kept=2)
    for name in ("rtc_1", "rtc_2", "rtc_3"):
        ended.add(over(name))
    assert ended.get(CallId("rtc_1")) is None
    assert ended.record(CallId("rtc_2"))["id"] == "rtc_2"
    with pytest.raises(CallNotFound):
        ended.record(CallId("rtc_1"))
