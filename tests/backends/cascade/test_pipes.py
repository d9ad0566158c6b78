import io

import pytest

from bridge.backends.cascade import pipes


@pytest.mark.parametrize(
    "message",
    [
        pipes.Recognise(1, b"\0\1", ["sales"]),
        pipes.Recognise(2, b"", None),
        pipes.Speak(3, "Grüezi.", "en-us", 165),
        pipes.Stop(3),
    ],
)
def test_requests_round_trip(message: pipes.ToProgram) -> None:
    assert pipes.read_request(io.BytesIO(pipes.frame(message))) == message


@pytest.mark.parametrize(
    "message",
    [
        pipes.Ready(),
        pipes.Recognised(1, "sales", ["xyzzy"]),
        pipes.Sound(3, 22_050, b"\0\1"),
        pipes.Spoken(3),
        pipes.Failed(3, "no such voice"),
    ],
)
def test_replies_round_trip(message: pipes.FromProgram) -> None:
    assert pipes.decode_reply(pipes.frame(message)[pipes.LENGTH.size :]) == message


def test_a_closed_pipe_is_no_request() -> None:
    whole = pipes.frame(pipes.Stop(1))
    for cut in range(len(whole)):
        assert pipes.read_request(io.BytesIO(whole[:cut])) is None
