"""The service as a process: its certificates read again on SIGHUP, and who may use WebSocket."""

import re
import signal
import ssl
import time
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from tests.peers.service import START_S, Service
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


def test_sighup_reads_the_certificate_of_http_again(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue(HOST)
    with Service(
        session__backend="echo",
        http__tls_certificate=issued.certificate,
        http__tls_private_key=issued.private_key,
    ) as service:

        def reload(told: str) -> str:
            service.process.send_signal(signal.SIGHUP)
            service.wait_for(told, 5)
            return ssl.get_server_certificate((HOST, service.http_port))

        old = ssl.get_server_certificate((HOST, service.http_port))
        key = issued.private_key.read_text()
        authority.issue(HOST)
        new = reload("certificate read again  setting=http.tls_certificate")
        assert new != old
        # A key of another certificate is as bad as none.
        issued.private_key.write_text(key)
        assert reload("the old one stays") == new


def test_sighup_before_the_service_is_ready() -> None:
    service = Service(session__backend="echo")
    bit = 1 << (signal.SIGHUP - 1)
    status = Path(f"/proc/{service.process.pid}/status")

    def is_heeded() -> bool:
        masks = re.findall(r"^Sig(?:Ign|Cgt):\s*([0-9a-f]+)$", status.read_text(), re.MULTILINE)
        return any(int(mask, 16) & bit for mask in masks)

    deadline = time.monotonic() + START_S
    while not is_heeded():
        assert time.monotonic() < deadline
        time.sleep(0.002)
    sent = 0
    while not service.output:
        service.process.send_signal(signal.SIGHUP)
        sent += 1
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with service:
        assert sent > 5
        assert service.calls() == []


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
