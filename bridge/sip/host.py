"""What the calls of a user agent need of it."""

import random
from collections.abc import Iterable
from typing import Protocol

from bridge.sip.agent_config import AgentConfig
from bridge.sip.client_transaction import ClientTransaction, ClientUser
from bridge.sip.dialog import Dialog
from bridge.sip.events import Event, Flow, UsageId
from bridge.sip.message import Request
from bridge.sip.timers import TimerQueue

Lines = Iterable[tuple[str, str]]


class Host(Protocol):
    @property
    def config(self) -> AgentConfig: ...

    @property
    def timers(self) -> TimerQueue: ...

    @property
    def rng(self) -> random.Random: ...

    def emit(self, event: Event) -> None: ...

    def send(self, flow: Flow, data: bytes) -> None: ...

    def capabilities(self, flow: Flow, request: Request) -> list[tuple[str, str]]:
        """Contact, Allow, Supported and Server of our 2xx."""
        ...

    def contact(self, flow: Flow, request: Request) -> tuple[str, str]: ...

    def contact_uri(self, flow: Flow, *, secure: bool = False, user: str = "") -> str: ...

    def via(self, flow: Flow) -> str:
        """With a new branch."""
        ...

    def token(self) -> str: ...

    def start(
        self, request: Request, flow: Flow, user: ClientUser, now: float
    ) -> ClientTransaction: ...

    def send_request(
        self,
        dialog: Dialog,
        method: str,
        user: ClientUser,
        now: float,
        headers: Lines = (),
        body: bytes = b"",
    ) -> ClientTransaction: ...

    def acknowledge(
        self, dialog: Dialog, request: Request, body: bytes = b""
    ) -> tuple[Flow, bytes]: ...

    def new_usage_id(self) -> UsageId: ...
