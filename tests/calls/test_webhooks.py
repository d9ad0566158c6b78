"""Signed words that a call is ringing, to a real receiver on loopback."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from openai import InvalidWebhookSignatureError, OpenAI
from openai.types.webhooks import RealtimeCallIncomingWebhookEvent

from bridge.calls.webhooks import WebhookEvent, WebhookSender, incoming_call_event
from bridge.errors import ConfigError
from bridge.ids import CallId

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HEADERS = [
    ("From", '"Zoë" <sip:+15551234@example.com>;tag=1'),
    ("To", "<sip:agent@bridge.example>"),
    ("X-Line", "1"),
    ("x-line", "2"),
]


@dataclass
class Delivery:
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Answers each POST with the next of `answers`, the last one for ever; None hangs up."""

    answers: list[bytes | None]
    deliveries: list[Delivery] = field(default_factory=list)
    connections: list[asyncio.Task[None] | None] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(asyncio.current_task())
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = [line.split(": ", 1) for line in head.split("\r\n")[1:-2]]
            headers = {name.lower(): value for name, value in lines}
            body = await reader.readexactly(int(headers["content-length"]))
            self.deliveries.append(Delivery(headers, body))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer is not None:
                writer.write(answer)
                await writer.drain()
        finally:
            writer.close()


def status(code: int, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {code} X", "Content-Length: 0", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


@dataclass
class Outcome:
    delivered: bool
    slept: list[float]


def deliver(
    receiver: Receiver,
    *,
    secret: str = SECRET,
    rings_for: int = 100,
    event: WebhookEvent | None = None,
    now: Callable[[], datetime] | None = None,
    timeout_s: float = 5.0,
) -> Outcome:
    """One delivery with a clock that does not wait; the caller rings for so many looks."""
    event = event or incoming_call_event(CallId("rtc_n1_x"), HEADERS, created_at=1_800_000_000)
    looks = iter([True] * rings_for)
    slept: list[float] = []
    started = datetime.now(UTC)

    async def pause(delay_s: float) -> None:
        slept.append(delay_s)

    def moved() -> datetime:
        return started + timedelta(seconds=sum(slept))

    async def run() -> bool:
        server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
        receiver.port = receiver.port or server.sockets[0].getsockname()[1]
        sender = WebhookSender(
            receiver.url, secret, now=now or moved, sleep=pause, attempt_timeout_s=timeout_s
        )
        async with server:
            try:
                return await sender.deliver(event, while_=lambda: next(looks, False))
            finally:
                await sender.close()
                for connection in receiver.connections:
                    if connection is not None:
                        await connection

    return Outcome(asyncio.run(run()), slept)


def unwrap(delivery: Delivery, secret: str = SECRET, *, body: bytes | None = None) -> object:
    client = OpenAI(api_key="sk-x", webhook_secret=secret)
    try:
        return client.webhooks.unwrap(body or delivery.body, delivery.headers)
    finally:
        client.close()


def test_the_sdk_verifies_and_reads_the_event() -> None:
    receiver = Receiver([status(200)])
    assert deliver(receiver) == Outcome(delivered=True, slept=[])
    [delivery] = receiver.deliveries
    event = unwrap(delivery)
    assert isinstance(event, RealtimeCallIncomingWebhookEvent)
    assert event.object == "event"
    assert event.id.startswith("evt_")
    assert event.created_at == 1_800_000_000
    assert event.data.call_id == "rtc_n1_x"
    assert [(h.name, h.value) for h in event.data.sip_headers] == HEADERS
    assert delivery.headers["content-type"] == "application/json"
    assert delivery.headers["webhook-id"].startswith("wh_")
    assert delivery.headers["user-agent"].startswith("realtime-bridge/")


@pytest.mark.parametrize("secret", ["plain words, no prefix", "cGxhaW4=", "ünïcode"])
def test_a_secret_without_the_prefix_is_its_own_text(secret: str) -> None:
    receiver = Receiver([status(204)])
    assert deliver(receiver, secret=secret).delivered
    assert unwrap(receiver.deliveries[0], secret)


@pytest.mark.parametrize("part", ["body", "webhook-id", "webhook-timestamp", "secret"])
def test_tampering_is_refused(part: str) -> None:
    receiver = Receiver([status(200)])
    deliver(receiver)
    [delivery] = receiver.deliveries
    secret = SECRET
    if part == "body":
        delivery.body = delivery.body.replace(b"rtc_n1_x", b"rtc_n1_y")
    elif part == "secret":
        secret = "whsec_" + "A" * 32
    elif part == "webhook-id":
        delivery.headers[part] += "x"
    else:
        delivery.headers[part] = str(int(delivery.headers[part]) + 1)
    with pytest.raises(InvalidWebhookSignatureError):
        unwrap(delivery, secret)


def test_an_old_delivery_is_refused() -> None:
    receiver = Receiver([status(200)])
    deliver(receiver, now=lambda: datetime.now(UTC) - timedelta(seconds=301))
    with pytest.raises(InvalidWebhookSignatureError):
        unwrap(receiver.deliveries[0])


@pytest.mark.parametrize("failure", [status(500), status(404), status(302, "Location: /"), None])
def test_failures_are_repeated_under_one_id_with_fresh_stamps(failure: bytes | None) -> None:
    receiver = Receiver([failure, failure, failure, status(200)])
    assert deliver(receiver) == Outcome(delivered=True, slept=[1.0, 2.0, 4.0])
    assert len(receiver.deliveries) == 4
    assert len({delivery.headers["webhook-id"] for delivery in receiver.deliveries}) == 1
    assert len({delivery.body for delivery in receiver.deliveries}) == 1
    stamps = [int(delivery.headers["webhook-timestamp"]) for delivery in receiver.deliveries]
    assert [stamp - stamps[0] for stamp in stamps] == [0, 1, 3, 7]
    assert all(unwrap(delivery) for delivery in receiver.deliveries)


def test_deliveries_of_two_calls_have_two_ids() -> None:
    receivers = [Receiver([status(200)]) for _ in range(2)]
    for receiver in receivers:
        deliver(receiver)
    assert len({receiver.deliveries[0].headers["webhook-id"] for receiver in receivers}) == 2


def test_nothing_is_repeated_once_the_caller_has_gone() -> None:
    receiver = Receiver([status(500)])
    assert deliver(receiver, rings_for=2) == Outcome(delivered=False, slept=[1.0, 2.0])
    assert len(receiver.deliveries) == 2


def test_nothing_is_sent_for_a_caller_who_left_before() -> None:
    receiver = Receiver([status(200)])
    assert deliver(receiver, rings_for=0) == Outcome(delivered=False, slept=[])
    assert receiver.deliveries == []


def test_gone_means_gone() -> None:
    receiver = Receiver([status(410)])
    assert deliver(receiver) == Outcome(delivered=False, slept=[])
    assert len(receiver.deliveries) == 1


@pytest.mark.parametrize(
    ("asked", "slept"), [("5", 5.0), ("0", 1.0), ("86400", 30.0), ("soon", 1.0), ("9" * 99, 1.0)]
)
def test_the_receiver_may_ask_for_patience(asked: str, slept: float) -> None:
    receiver = Receiver([status(503, f"Retry-After: {asked}"), status(200)])
    assert deliver(receiver) == Outcome(delivered=True, slept=[slept])


def test_a_receiver_that_is_not_there_is_a_failed_attempt() -> None:
    receiver = Receiver([status(200)], port=1)
    assert deliver(receiver, rings_for=1) == Outcome(delivered=False, slept=[1.0])


def test_a_silent_receiver_is_given_up_on() -> None:
    class Silent(Receiver):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections.append(asyncio.current_task())
            await reader.read()
            writer.close()

    assert not deliver(Silent([None]), rings_for=1, timeout_s=0.05).delivered


def test_an_answer_that_is_not_http_is_a_failed_attempt() -> None:
    receiver = Receiver([b"220 mail.example ESMTP\r\n\r\n", status(200)])
    assert deliver(receiver).delivered
    assert len(receiver.deliveries) == 2


def test_media_security_is_named_when_known() -> None:
    event = incoming_call_event(CallId("rtc_x"), [], created_at=1, media_security="srtp")
    assert json.loads(bytes(event))["data"]["sip_media_security"] == "srtp"
    event = incoming_call_event(CallId("rtc_x"), [], created_at=1)
    assert set(json.loads(bytes(event))["data"]) == {"call_id", "sip_headers"}


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_not base64!", "whsec_abc", "whsec_é"])
def test_a_secret_that_cannot_sign_is_a_config_error(secret: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        WebhookSender("http://127.0.0.1/", secret)
    assert refusal.value.param == "webhooks.secret"
    assert len(secret) < 7 or secret not in refusal.value.message


@pytest.mark.parametrize("url", ["", "example.com/hook", "ftp://example.com/", "http:///hook"])
def test_an_address_that_cannot_be_posted_to_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        WebhookSender(url, SECRET)
    assert refusal.value.param == "webhooks.url"
