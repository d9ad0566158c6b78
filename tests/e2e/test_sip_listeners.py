"""The service as a process: its SIP certificate read again on SIGHUP, and who may use WebSocket."""

import signal
import ssl
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from tests.peers.service import Service
from tests.ports import free_port
from tests.sip.certificates import Authority

HOST = "127.0.0.1"


def test_sighup_reads_the_certificate_again(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue(HOST)
    port = free_port()
    with Service(
        session__backend="echo",
        sip__tls_port=port,
        sip__tls_certificate=issued.certificate,
        sip__tls_private_key=issued.private_key,
    ) as service:

        def reload(told: str) -> str:
            service.process.send_signal(signal.SIGHUP)
            service.wait_for(told, 5)
            return ssl.get_server_certificate((HOST, port))

        old = ssl.get_server_certificate((HOST, port))
        authority.issue(HOST)
        new = reload("read again")
        assert new != old
        issued.private_key.write_text("not a key")
        assert reload("the old one stays") == new


def test_only_our_own_pages_and_those_named_may_connect() -> None:
    port = free_port()
    with Service(
        session__backend="echo",
        sip__ws_port=port,
        http__cors_origins='["https://phone.example"]',
    ) as service:

        def knock(origin: str | None) -> None:
            connect(
                f"ws://{HOST}:{port}",
                origin=Origin(origin) if origin else None,
                subprotocols=[Subprotocol("sip")],
                proxy=None,
            ).close()

        for origin in (None, "https://phone.example", f"http://localhost:{service.http_port}"):
            knock(origin)
        with pytest.raises(InvalidStatus):
            knock("https://elsewhere.example")
