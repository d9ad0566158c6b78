"""A service in the test's own process and loop, with ports of its own."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from bridge.app import Running, running
from bridge.settings import load
from tests.ports import HOST, RTP_BASES, RTP_PORTS, claim, free_port


@dataclass(frozen=True, slots=True)
class InProcess:
    service: Running
    sip_port: int

    @property
    def sip(self) -> tuple[str, int]:
        return HOST, self.sip_port


@asynccontextmanager
async def serving(overrides: Mapping[str, Any]) -> AsyncIterator[InProcess]:
    """Reached by SIP over UDP, and HTTP; `overrides` as from a configuration file."""
    port = free_port()
    held, first = claim(RTP_BASES, RTP_PORTS)
    own = {
        "http.port": 0,
        "sip.udp_port": port,
        "sip.tcp_port": 0,
        "rtp.port_min": first,
        "rtp.port_max": first + RTP_PORTS - 1,
    }
    with held:
        async with running(load(environment={}, overrides=own | dict(overrides))) as service:
            yield InProcess(service, port)
