"""The least that a Registrar needs around it: REGISTER is its own, all else is refused."""

from collections.abc import Iterable
from typing import Never

from bridge.sip.events import Flow
from bridge.sip.message import Request, make_response, parse_message, stamp_source
from bridge.sip.registrar import Registrar


class Office:
    def __init__(self, registrar: Registrar) -> None:
        self.registrar = registrar
        self.methods: list[str] = []
        self.statuses: list[int] = []
        """Of the answers to REGISTER."""
        self.is_mute = False
        self._outbox: list[tuple[Flow, bytes]] = []

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        request = parse_message(data)
        assert isinstance(request, Request)
        self.methods.append(request.method)
        if self.is_mute:
            return
        request = stamp_source(request, flow.remote)
        response = make_response(request, 405, to_tag="x")
        if request.method == "REGISTER":
            response = self.registrar.register(request, flow, now)
            self.statuses.append(response.status)
        self._outbox.append((flow, bytes(response)))

    def to_send(self) -> Iterable[tuple[Flow, bytes]]:
        out, self._outbox = self._outbox, []
        return out

    def events(self) -> Iterable[Never]:
        return ()

    def next_timer(self) -> float | None:
        return None

    def handle_timer(self, now: float) -> None:
        raise AssertionError

    def flow_failed(self, flow: Flow, now: float) -> None:
        self.registrar.flow_closed(flow)
