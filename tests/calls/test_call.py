import pytest

from bridge.calls.call import TRANSITIONS, Call, CallState
from bridge.errors import ConflictError
from bridge.ids import CallId


def call(**kwargs: object) -> Call:
    made = Call(CallId("rtc_x_1"), kind="sip", direction="inbound", started_at=1.0)
    for name, value in kwargs.items():
        setattr(made, name, value)
    return made


def test_the_way_of_an_answered_call() -> None:
    answered = call()
    for event, state in (
        ("accept", CallState.ANSWERING),
        ("answered", CallState.ACTIVE),
        ("hangup", CallState.ENDING),
        ("ended", CallState.ENDED),
    ):
        answered.advance(event)
        assert answered.state is state


@pytest.mark.parametrize("state", CallState)
def test_every_other_step_is_refused(state: CallState) -> None:
    for event in ("accept", "answered", "hangup", "ended"):
        one = call(state=state)
        if event in TRANSITIONS[state]:
            one.advance(event)
        else:
            with pytest.raises(ConflictError):
                one.advance(event)
            assert one.state is state


def test_every_state_but_the_last_can_end() -> None:
    assert all("ended" in TRANSITIONS[state] for state in CallState if state is not CallState.ENDED)


def test_the_record() -> None:
    one = call(headers=(("from", "<sip:a@x>;tag=1"), ("To", "<sip:b@y>")), answered_at=2.00049)
    record = one.record()
    assert (record["from"], record["to"]) == ("<sip:a@x>;tag=1", "<sip:b@y>")
    assert (record["state"], record["answered_at"], record["ended_at"]) == ("ringing", 2.0, None)
