"""A session on a stage: a puppet for a model, a playout to play, a channel that hears all."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import Counter, Gauge

from bridge.audio.codecs import PCMU
from bridge.ids import ResponseId, SessionId
from bridge.media.stream import AudioStream
from bridge.realtime.session_config import SessionConfig
from bridge.sessions.clients import SidebandClient
from bridge.sessions.listener import SessionListener
from bridge.sessions.session import Session
from bridge.sessions.terms import Terms
from tests.backends.puppet import Puppet

Event = dict[str, Any]

HELLO = {
    "type": "conversation.item.create",
    "item": {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "Hello"}],
    },
}


class Wire:
    def send(self, data: bytes) -> None:
        pass

    def send_rtcp(self, data: bytes) -> None:
        pass


class Owner(SessionListener):
    def __init__(self) -> None:
        self.told: list[str] = []
        self.turns: list[Event] = []

    def session_turn(self, record: Mapping[str, Any]) -> None:
        self.turns.append(dict(record))

    def session_hangup(self) -> None:
        self.told.append("hangup")

    def session_expired(self) -> None:
        self.told.append("expired")

    def session_abandoned(self) -> None:
        self.told.append("abandoned")


class Stage:
    """One session, its model, the leg's audio, and a data channel that hears everything."""

    def __init__(
        self,
        *,
        on_call: bool = True,
        greeting: str = "",
        session: Event | None = None,
        model: Puppet | None = None,
    ) -> None:
        self.model = model or Puppet()
        self.owner = Owner()
        self.stream = AudioStream(PCMU, payload_type=0, wire=Wire(), cname="test")
        self.playout = self.stream.playout
        self.events: list[Event] = []
        self.at_event: Callable[[str], None] = lambda _: None
        self.session = Session(
            SessionId("sess_1"),
            backend=self.model,
            config=SessionConfig.create({"type": "realtime", **(session or {})}),
            terms=Terms(on_call=on_call, expires_at=1_800_000_000, greeting=greeting),
            unix_time=lambda: 1_700_000_000.5,
            listener=self.owner,
        )

    async def open(self) -> "Stage":
        await self.session.start()
        if self.session._terms.on_call:
            self.session.connect(self.stream)
            self.channel = self.session.attach_channel(self._told)
        return self

    def _told(self, text: str) -> None:
        event = json.loads(text)
        self.events.append(event)
        self.at_event(event["type"])

    def types(self) -> list[str]:
        """Of what the data channel was told since the last look."""
        seen = [event["type"] for event in self.events]
        self.events.clear()
        return seen

    def event(self, kind: str) -> Event:
        (found,) = [event for event in self.events if event["type"] == kind]
        return found

    def play(self, ms: int) -> None:
        for _ in range(ms // 20):
            self.playout.read()

    def agent_says(
        self, words: str = "Good day.", *, ms: int = 1000, done: bool = True
    ) -> ResponseId:
        self.session.greet()
        return self.model.says(words, ms=ms, done=done)


def total(metric: Counter | Gauge) -> float:
    """Of a series without labels."""
    (family,) = metric.collect()
    return family.samples[0].value


def send(session: Session, client: SidebandClient, event: Event) -> None:
    session.receive(client, json.dumps(event))


async def until(client: SidebandClient, kind: str) -> list[str]:
    """Types of events up to the first of `kind`."""
    types: list[str] = []
    while kind not in types:
        text = await client.next()
        assert text is not None, types
        types.append(json.loads(text)["type"])
    return types


async def rest(client: SidebandClient) -> list[str]:
    texts = []
    while (text := await client.next()) is not None:
        texts.append(text)
    return texts
