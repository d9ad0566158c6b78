import contextlib
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, given, settings, strategies as st

from bridge.errors import ConfigError
from bridge.sip.tls import TlsContexts, TlsError, TlsFiles, TlsLayer
from tests.sip.certificates import Authority


@pytest.fixture
def contexts(tmp_path: Path) -> TlsContexts:
    authority = Authority(tmp_path)
    return TlsContexts(authority.files(authority.issue("sip.example")))


def ends(contexts: TlsContexts) -> tuple[TlsLayer, TlsLayer]:
    assert contexts.server is not None
    return TlsLayer(contexts.server), TlsLayer(contexts.client, server_name="sip.example")


def exchange(one: TlsLayer, other: TlsLayer) -> tuple[bytes, bytes]:
    """Until neither has anything to say; what each of them read."""
    read = [b"", b""]
    while True:
        to_other, to_one = one.data_to_send(), other.data_to_send()
        if not to_other and not to_one:
            return read[0], read[1]
        read[1] += other.receive(to_other)
        read[0] += one.receive(to_one)


def test_what_is_written_early_waits_for_the_handshake(contexts: TlsContexts) -> None:
    server, client = ends(contexts)
    client.send(b"hello")
    assert client.unsent == 5
    assert exchange(server, client) == (b"hello", b"")
    assert client.unsent == 0
    assert client.peer_names == {"sip.example"}
    assert server.peer_names == frozenset()
    server.send(b"x" * 100_000)
    assert exchange(server, client) == (b"", b"x" * 100_000)


def test_goodbye(contexts: TlsContexts) -> None:
    server, client = ends(contexts)
    exchange(server, client)
    client.send(b"last words")
    client.close()
    assert server.receive(client.data_to_send()) == b"last words"
    assert server.finished


def test_a_stream_that_is_tampered_with(contexts: TlsContexts) -> None:
    server, client = ends(contexts)
    exchange(server, client)
    client.send(b"hello")
    record = bytearray(client.data_to_send())
    record[-1] ^= 1
    with pytest.raises(TlsError):
        server.receive(bytes(record))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=300))
def test_any_octets_are_refused_or_waited_for(contexts: TlsContexts, data: bytes) -> None:
    server, _ = ends(contexts)
    with contextlib.suppress(TlsError):
        assert server.receive(data) == b""
    assert not server.established


@pytest.mark.parametrize("name", ["", ".example", "a" * 70])
def test_names_that_no_certificate_bears(contexts: TlsContexts, name: str) -> None:
    with pytest.raises(TlsError):
        TlsLayer(contexts.client, server_name=name)


def test_a_key_with_a_password_is_refused_not_asked_for(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("sip.example")
    key = serialization.load_pem_private_key(issued.private_key.read_bytes(), None)
    issued.private_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigError, match=r"server\.key"):
        TlsContexts(TlsFiles(issued.certificate, issued.private_key))


def test_system_authorities_by_default() -> None:
    contexts = TlsContexts(TlsFiles())
    assert contexts.server is None
    assert contexts.client.verify_mode is ssl.CERT_REQUIRED
    assert contexts.client.check_hostname
    assert contexts.client.minimum_version is ssl.TLSVersion.TLSv1_2
