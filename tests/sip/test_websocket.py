from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from bridge.sip.framing import KeepAlive
from bridge.sip.websocket import WebSocketFraming

OFFER = b"INVITE sip:a SIP/2.0\r\n\r\n"


def opened() -> tuple[ClientProtocol, WebSocketFraming]:
    """Both ends after the handshake."""
    client = ClientProtocol(parse_uri("ws://x/"), subprotocols=[Subprotocol("sip")])
    framing = WebSocketFraming()
    client.send_request(client.connect())
    assert framing.receive(b"".join(client.data_to_send())) == []
    client.receive_data(framing.data_to_send())
    client.events_received()
    return client, framing


def heard(client: ClientProtocol, framing: WebSocketFraming) -> Sequence[tuple[Opcode, bytes]]:
    client.receive_data(framing.data_to_send())
    frames = [event for event in client.events_received() if isinstance(event, Frame)]
    return [(frame.opcode, bytes(frame.data)) for frame in frames]


def test_messages_split_at_every_octet() -> None:
    client, _ = opened()
    client.send_text(OFFER[:9], fin=False)
    client.send_ping(b"in between")
    client.send_continuation(OFFER[9:], fin=True)
    client.send_binary(OFFER)
    stream = b"".join(client.data_to_send())
    for cut in range(len(stream)):
        _, framing = opened()
        got = framing.receive(stream[:cut]) + framing.receive(stream[cut:])
        assert got == [KeepAlive.PING, OFFER, OFFER]


def test_goodbyes() -> None:
    client, framing = opened()
    client.send_close(1000)
    assert framing.receive(b"".join(client.data_to_send())) == []
    assert framing.finished
    assert not framing.broken
    framing.send(OFFER)
    framing.ping()
    framing.close()
    assert [opcode for opcode, _ in heard(client, framing)] == [Opcode.CLOSE]


def test_nothing_is_sent_before_the_handshake() -> None:
    framing = WebSocketFraming()
    framing.send(OFFER)
    framing.ping()
    framing.close()
    assert framing.data_to_send() == b""


@given(st.binary(max_size=200), st.booleans(), st.integers(0, 200))
def test_any_octets_do_no_harm(data: bytes, after_handshake: bool, cut: int) -> None:
    framing = opened()[1] if after_handshake else WebSocketFraming()
    for part in (data[:cut], data[cut:]):
        framing.receive(part)
        framing.send(OFFER)
        framing.data_to_send()
    framing.close()
    framing.data_to_send()


@pytest.mark.parametrize("length", [65536, 65537])
def test_the_largest_message(length: int) -> None:
    client, framing = opened()
    client.send_binary(b"x" * length)
    got = framing.receive(b"".join(client.data_to_send()))
    assert bool(got) == (length == 65536)
    assert framing.broken == (length == 65537)
