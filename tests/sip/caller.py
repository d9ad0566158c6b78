"""A small UAC on our own machines, and a network that loses, doubles and reorders."""

import heapq
import random
from collections.abc import Callable
from typing import Literal

from bridge.sip.client_transaction import (
    ClientTransaction,
    InviteClientTransaction,
    NonInviteClientTransaction,
    client_key,
)
from bridge.sip.dialog import Dialog
from bridge.sip.events import Flow
from bridge.sip.message import Response, make_response, parse_message
from bridge.sip.server_transaction import (
    NonInviteServerTransaction,
    ServerTransaction,
    server_key,
)
from bridge.sip.timers import TimerQueue
from bridge.sip.transaction import Transaction
from tests.sip.playbook import OFFER, UDP, caller_request


class Caller:
    """Makes one call. `state`: calling, ringing, up, over."""

    def __init__(self, name: str = "call-1") -> None:
        self.name = name
        self.timers = TimerQueue()
        self.outbox: list[bytes] = []
        self.clients: dict[tuple[str, str], ClientTransaction] = {}
        self.servers: dict[tuple[str, ...], ServerTransaction] = {}
        self.state = "new"
        self.dialog: Dialog | None = None
        self.flow = Flow("udp", UDP.remote, UDP.local)
        self.invite = caller_request(call_id=name, branch=f"z9hG4bK{name}", body=OFFER)
        self.acks: dict[int, bytes] = {}
        self.hanging_up = False
        self._serial = 0

    def call(self, now: float) -> None:
        self.state = "calling"
        self._start(InviteClientTransaction(self.invite, self.flow, self, self, now))

    def hangup(self, now: float) -> None:
        """CANCEL, BYE, or nothing while nobody has answered at all (section 9.1)."""
        self.hanging_up = True
        if self.state == "ringing":
            cancel = caller_request("CANCEL", call_id=self.name, branch=f"z9hG4bK{self.name}")
            if client_key(cancel) not in self.clients:
                self._start(NonInviteClientTransaction(cancel, self.flow, self, self, now))
        elif self.state == "up":
            self.state = "over"
            self._request("BYE", now)

    def info(self, now: float) -> None:
        if self.state == "up":
            self._request("INFO", now)

    def reoffer(self, now: float) -> None:
        if self.state == "up" and self.dialog is not None:
            request = self.dialog.request("INVITE", self._via(), headers=[self._contact()])
            self._start(InviteClientTransaction(request, self.flow, self, self, now))

    def receive(self, data: bytes, now: float) -> None:
        message = parse_message(data)
        if isinstance(message, Response):
            transaction = self.clients.get(client_key(message))
            if transaction is not None:
                transaction.receive(message, now)
            elif message.cseq.method == "INVITE" and 200 <= message.status < 300:
                self._answered(message, now)
            return
        server = self.servers.get(server_key(message))
        if server is not None:
            server.receive(message, now)
            return
        server = NonInviteServerTransaction(message, self.flow, self, now)
        self.servers[server.key] = server
        server.respond(make_response(message, 200 if self.state == "up" else 481), now)
        if message.method == "BYE":
            self.state = "over"

    def response_received(self, response: Response, now: float) -> None:
        if response.cseq.method != "INVITE":
            return
        if 200 <= response.status < 300:
            self._answered(response, now)
        elif response.cseq.number > 1:
            return
        elif response.status >= 300:
            self.state = "over"
        elif self.state == "calling":
            self.state = "ringing"
            if self.hanging_up:
                self.hangup(now)

    def request_failed(self, cause: Literal["timeout", "transport"], now: float) -> None:
        if self.state == "calling":
            self.state = "over"

    def send(self, flow: Flow, data: bytes) -> None:
        self.outbox.append(data)

    def terminated(self, transaction: Transaction) -> None:
        if isinstance(transaction, ClientTransaction):
            del self.clients[transaction.key]
        elif isinstance(transaction, ServerTransaction):
            del self.servers[transaction.key]

    def idle(self) -> bool:
        return not (self.clients or self.servers or len(self.timers))

    def _answered(self, response: Response, now: float) -> None:
        number = response.cseq.number
        if self.dialog is None:
            self.dialog = Dialog.from_response(self.invite, response, self.flow)
        if number not in self.acks:
            self.acks[number] = bytes(self.dialog.request("ACK", self._via(), cseq=number))
            if number == 1:
                gave_up = self.state == "over" or self.hanging_up
                self.state = "up"
                self.outbox.append(self.acks[number])
                if gave_up:
                    self.hangup(now)
                return
        self.outbox.append(self.acks[number])

    def _request(self, method: str, now: float) -> None:
        assert self.dialog is not None
        request = self.dialog.request(method, self._via())
        self._start(NonInviteClientTransaction(request, self.flow, self, self, now))

    def _start(self, transaction: ClientTransaction) -> None:
        self.clients[transaction.key] = transaction

    def _via(self) -> str:
        self._serial += 1
        host, port = self.flow.local
        return f"SIP/2.0/UDP {host}:{port};branch=z9hG4bK{self.name}-{self._serial};rport"

    def _contact(self) -> tuple[str, str]:
        return "Contact", "<sip:alice@198.51.100.7:5062>"


class Network:
    """Virtual time; what is in flight and what is planned, in one queue."""

    def __init__(self, rng: random.Random, *, loss: float = 0, dup: float = 0, delay: float = 0):
        self.rng = rng
        self.loss, self.dup, self.delay = loss, dup, delay
        self.now = 0.0
        self._serial = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, when: float, action: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._queue, (when, self._serial, action))

    def carry(self, deliver: Callable[[bytes], None], data: bytes) -> None:
        for _ in range(2 if self.rng.random() < self.dup else 1):
            if self.rng.random() >= self.loss:
                when = self.now + 0.001 + self.rng.random() * self.delay
                self.at(when, lambda: deliver(data))

    def next(self) -> float | None:
        return self._queue[0][0] if self._queue else None

    def step(self, when: float) -> None:
        self.now = when
        while self._queue and self._queue[0][0] <= when:
            heapq.heappop(self._queue)[2]()
