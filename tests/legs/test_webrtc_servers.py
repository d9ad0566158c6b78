from datetime import UTC, datetime

import pytest

from bridge.errors import ConfigError
from bridge.legs.webrtc_servers import IceServer


def test_ice_servers_may_carry_credentials() -> None:
    server = IceServer.parse("turn:user:secret@turn.example.com:3478?transport=tcp").for_a_call()
    assert (server.urls, server.username, server.credential) == (
        "turn:turn.example.com:3478?transport=tcp",
        "user",
        "secret",
    )


def test_a_stun_server_needs_none() -> None:
    server = IceServer.parse("stun:stun.example.com").for_a_call()
    assert (server.urls, server.username, server.credential) == (
        "stun:stun.example.com",
        None,
        None,
    )


@pytest.mark.parametrize(("name", "username"), [("", "1800086400"), ("me", "1800086400:me")])
def test_credentials_are_made_of_a_secret(name: str, username: str) -> None:
    """As `openssl dgst -sha1 -hmac north -binary | base64` makes them."""
    server = IceServer("turn:turn.example.com", username=name, secret="north")
    made = server.for_a_call(datetime.fromtimestamp(1_800_000_000, UTC))
    proofs = {"": "/sfTIxP6tenIPleGUPBCfSCF4iI=", "me": "La0rMhsuEIW4KagcY95teHlpzv8="}
    assert (made.username, made.credential) == (username, proofs[name])
    assert "north" not in repr(server)


@pytest.mark.parametrize(
    ("url", "proof"),
    [
        ("http://a", {}),
        ("turn:", {}),
        ("turn:turn.example.com", {"credential": "a", "secret": "b"}),
    ],
)
def test_what_cannot_work_is_a_config_error(url: str, proof: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="ice_servers"):
        IceServer(url, **proof)
