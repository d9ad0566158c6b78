import json

import pytest

from bridge.backends.upstream.events import parse
from bridge.errors import PeerError

KNOWN = frozenset(("error", "response.output_audio.delta"))


def test_what_is_known_comes_by_todays_name() -> None:
    event = parse(json.dumps({"delta": "AAAA", "type": "response.audio.delta"}), KNOWN)
    assert event is not None
    assert (event.type, event.delta) == ("response.output_audio.delta", "AAAA")


@pytest.mark.parametrize("text", ['{"type":"new"}', b'{"type":"new","delta":{"x":1},"item":7}'])
def test_what_is_not_known_may_look_as_it_likes(text: str | bytes) -> None:
    assert parse(text, KNOWN) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "{}",
        "[" * 5_000,
        '{"type":7}',
        '{"type":"error","error":"text"}',
        '{"type":"response.audio.delta","delta":7}',
        b'{"type":"error","delta":"\xff"}',
        b'{"type":"new"',
    ],
)
def test_what_is_no_event_is_told(text: str | bytes) -> None:
    with pytest.raises(PeerError, match="no Realtime event"):
        parse(text, KNOWN)
