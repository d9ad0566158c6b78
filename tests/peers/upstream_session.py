"""One session of the far end that `upstream` is: what it hears, says, refuses and breaks off."""

import asyncio
import base64
import contextlib
import itertools
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from pydantic import TypeAdapter
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from tests.peers.phone import decode, encode
from tests.peers.upstream_rules import GARBAGE, RATE, Event, Fault, leaves, merge, tone

if TYPE_CHECKING:
    from tests.peers.upstream import Upstream

Samples = NDArray[np.int16]

LOUD = 400
ONSET_MS = 60
SILENCE_MS = 300
PREFIX_MS = 200
CHUNK_MS = 100
LOGPROBS = "item.input_audio_transcription.logprobs"

STRUCTURE = frozenset(
    (
        "rate_limits.updated",
        "response.output_item.added",
        "response.output_item.done",
        "response.content_part.added",
        "response.content_part.done",
        "conversation.item.added",
        "conversation.item.done",
        "response.function_call_arguments.delta",
    )
)

_server_events: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
_client_events: TypeAdapter[Any] = TypeAdapter(RealtimeClientEvent)


@dataclass
class Session:
    """One connection, and all that was said on it."""

    config: Event = field(default_factory=dict)
    received: list[Event] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    audio: list[Samples] = field(default_factory=list)
    coded: list[bytes] = field(default_factory=list)
    """The same as it came."""
    spoken: list[bytes] = field(default_factory=list)
    """What it answered, as it left."""
    items: dict[str, Event] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def heard(self) -> Samples:
        return np.concatenate(self.audio) if self.audio else np.empty(0, np.int16)

    def types(self) -> list[str]:
        """Of what the client sent, sound left out."""
        seen = [event["type"] for event in self.received]
        return [kind for kind in seen if kind != "input_audio_buffer.append"]


class Refused(Exception):
    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.error = {
            "type": "invalid_request_error",
            "code": code,
            "message": message,
            "param": param,
        }


class _Hung(Exception):
    """Nothing is said any more."""


class Conversation:
    def __init__(self, server: "Upstream", connection: ServerConnection, session: Session) -> None:
        self.server = server
        self.rules = server.rules
        self.connection = connection
        self.session = session
        self._ids = itertools.count(1)
        self._counts: dict[str, int] = {}
        self._fault = server.fault if len(server.sessions) <= server.faulty else None
        if server.once:
            self._fault = server.once.pop(0)
        self._instructed = False
        self._stalled = asyncio.Event()
        self._clock = 0  # samples
        self._loud_ms = self._quiet_ms = 0
        self._speech: str | None = None
        self._speaking: asyncio.Task[None] | None = None
        self._response: str | None = None
        self._turns = 0

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{id(self.session) % 10**8}_{next(self._ids)}"

    async def run(self) -> None:
        if self.server.late_s:
            await asyncio.sleep(self.server.late_s)
        began = asyncio.get_running_loop().time()
        created = self.rules.creates
        body = {"session": {"type": "realtime", "id": self.new_id("sess")}}
        if created == "conversation.created":
            body = {"conversation": {"id": self.new_id("conv")}}
        await self.send(created, **body)
        async for text in self.arriving():
            now = asyncio.get_running_loop().time()
            if self.server.limit_s and now - began > self.server.limit_s:
                await self.refuse(Refused("session_expired", "The session is over."), None)
                await self.connection.close(1001)
                return
            if self._stalled.is_set():
                continue
            event = json.loads(text)
            try:
                await self.receive(event)
            except _Hung:
                continue
            except Refused as refused:
                await self.refuse(refused, event.get("event_id"))

    async def arriving(self) -> AsyncIterator[str | bytes]:
        """What was sent `away_s` ago, and as long again: what is said here leaves at once."""
        if not self.server.away_s:
            async for text in self.connection:
                yield text
            return
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[float, str | bytes] | None] = asyncio.Queue()

        async def read() -> None:
            async for text in self.connection:
                queue.put_nowait((loop.time() + 2 * self.server.away_s, text))
            queue.put_nowait(None)

        reading = asyncio.create_task(read())
        try:
            while (item := await queue.get()) is not None:
                await asyncio.sleep(max(0.0, item[0] - loop.time()))
                yield item[1]
        finally:
            reading.cancel()

    async def stop(self) -> None:
        if self._speaking is not None:
            self._speaking.cancel()

    async def refuse(self, refused: Refused, event_id: str | None) -> None:
        self.session.refused.append(str(refused))
        echoed = event_id if self.rules.echoes_event_id else None
        error = {**refused.error, "event_id": echoed}
        if not self.rules.coded:
            error |= {"type": error["code"], "code": None}
        await self.send("error", error=error)

    async def send(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "event_id": self.new_id("event"), **fields}
        # The types are unions from left to right: the one meant must be the one found.
        # There are none for the beta's items any more.
        if not self.rules.names:
            assert _server_events.validate_python(event).type == kind, event
        if self._stalled.is_set():
            raise _Hung
        if kind in STRUCTURE and not self.rules.structures:
            return
        self.session.sent.append(kind)
        self.server.told.add(kind)
        event["type"] = self.rules.names.get(kind, kind)
        await self.connection.send(json.dumps(event))
        self._counts[kind] = self._counts.get(kind, 0) + 1
        fault = self._fault
        if fault is not None and fault.at == kind and fault.count == self._counts[kind]:
            await self.fail(fault)

    async def fail(self, fault: Fault) -> None:
        if self._instructed:
            instructions = self.session.config.get("instructions", "")
            if instructions in self.server.spent:
                return
            self.server.spent.add(instructions)
        self.server.failed += 1
        match fault.kind:
            case "die":
                self.connection.transport.abort()
            case "close":
                await self.connection.close(1011)
            case "stall" | "hang":
                self._stalled.set()
                self.server._dead.add(self.connection)
                if fault.kind == "stall":
                    self.connection.transport.pause_reading()
            case "babble":
                for text in GARBAGE:
                    await self.connection.send(text)
            case "flood":
                for _ in range(20_000):
                    await self.connection.send('{"type":"x.unknown","event_id":"e"}')

    # What clients send

    async def receive(self, event: Event) -> None:
        kind = event["type"]
        self.session.received.append(event)
        if self.rules.events is not None and kind not in self.rules.events:
            raise Refused("unknown_event", f"unknown event {kind}")
        if self.rules.judged:
            assert _client_events.validate_python(event).type == kind, event
        match kind:
            case "session.update":
                await self.update(event["session"])
            case "input_audio_buffer.append":
                await self.hear(base64.b64decode(event["audio"], validate=True))
            case "input_audio_buffer.commit":
                await self.commit(self.new_id("item"))
            case "conversation.item.create":
                await self.create(event["item"])
            case "conversation.item.truncate" | "conversation.item.delete":
                await self.edit(event)
            case "response.create":
                await self.respond(event.get("response") or {}, asked=True)
            case "response.cancel":
                await self.cancel("client_cancelled")
            case _:
                pass

    async def update(self, session: Event) -> None:
        if self.rules.needs_type and session.get("type") != "realtime":
            raise Refused("missing_required_parameter", "no session.type", "session.type")
        for path in leaves(session):
            if self.rules.fields is not None and path not in self.rules.fields:
                raise Refused("unknown_parameter", f"unknown {path}", f"session.{path}")
        for side in session.get("audio", {}).values():
            if side.get("format", {}).get("type", "audio/pcm") not in self.rules.formats:
                raise Refused("invalid_value", "no such format", "session.audio")
        merge(self.session.config, session)
        asked = Fault.parse(self.session.config.get("instructions", ""))
        self._instructed = asked is not None
        self._fault = asked or self._fault
        if self.rules.confirms:
            await self.send("session.updated", session={"type": "realtime"})

    async def create(self, item: Event) -> None:
        if item["type"] == "message" and item["role"] not in self.rules.roles:
            raise Refused("invalid_value", f"role {item['role']}")
        for name in item:
            if self.rules.item_fields is not None and name not in self.rules.item_fields:
                raise Refused("unknown_parameter", f"item.{name}")
        contents = self.rules.contents
        for part in item.get("content") or () if contents is not None else ():
            if part["type"] not in (contents or {}).get(item["role"], ()):
                raise Refused("invalid_value", f"{part['type']} of {item['role']}")
        item = {"id": self.new_id("item"), "status": "completed", "object": "realtime.item"} | item
        self.session.items[item["id"]] = item
        await self.send("conversation.item.added", item=item, previous_item_id=None)
        await self.send("conversation.item.done", item=item, previous_item_id=None)

    async def edit(self, event: Event) -> None:
        if event["item_id"] not in self.session.items:
            raise Refused("item_not_found", f"no item {event['item_id']}")
        if event["type"].endswith("delete"):
            del self.session.items[event["item_id"]]
            await self.send("conversation.item.deleted", item_id=event["item_id"])
            return
        end = {"content_index": 0, "audio_end_ms": event["audio_end_ms"]}
        await self.send("conversation.item.truncated", item_id=event["item_id"], **end)

    # The ear

    @property
    def detection(self) -> Event | None:
        flat = self.session.config.get("turn_detection")
        nested = self.session.config.get("audio", {}).get("input", {})
        found: Event | None = flat or nested.get("turn_detection", {"type": "server_vad"})
        return found

    def law(self, side: str) -> bool:
        """Whether this side of the session is µ-law."""
        nested = self.session.config.get("audio", {}).get(side, {}).get("format", {})
        flat = self.session.config.get(f"{side}_audio_format")
        return flat == "g711_ulaw" or nested.get("type") == "audio/pcmu"

    async def hear(self, data: bytes) -> None:
        pcm = np.repeat(decode(data), 3) if self.law("input") else np.frombuffer(data, np.int16)
        self.session.coded.append(data)
        self.session.audio.append(pcm)
        for begin in range(0, len(pcm), RATE // 50):
            await self.listen(pcm[begin : begin + RATE // 50])

    async def listen(self, frame: Samples) -> None:
        self._clock += len(frame)
        ms = len(frame) * 1000 // RATE
        loud = bool(np.abs(frame.astype(np.int32)).mean() > LOUD)
        self._loud_ms = self._loud_ms + ms if loud else 0
        self._quiet_ms = 0 if loud else self._quiet_ms + ms
        if self.detection is None:
            return
        now_ms = self._clock * 1000 // RATE
        if self._speech is None and self._loud_ms >= ONSET_MS:
            self._speech = self.new_id("item")
            start = max(0, now_ms - self._loud_ms - PREFIX_MS)
            await self.send(
                "input_audio_buffer.speech_started", item_id=self._speech, audio_start_ms=start
            )
            if self.detection.get("interrupt_response", True):
                await self.cancel("turn_detected")
        elif self._speech is not None and self._quiet_ms >= SILENCE_MS:
            item_id, self._speech = self._speech, None
            await self.send(
                "input_audio_buffer.speech_stopped", item_id=item_id, audio_end_ms=now_ms
            )
            await self.commit(item_id)
            if self.detection.get("create_response", True):
                await self.respond({})

    async def commit(self, item_id: str) -> None:
        self._turns += 1
        if self.rules.commits:
            await self.send("input_audio_buffer.committed", item_id=item_id, previous_item_id=None)
            content = [{"type": "input_audio", "transcript": None}]
            item = {"id": item_id, "type": "message", "role": "user", "content": content}
            self.session.items[item_id] = item
            await self.send("conversation.item.added", item=item, previous_item_id=None)
            await self.send("conversation.item.done", item=item, previous_item_id=None)
        transcription = self.session.config.get("audio", {}).get("input", {}).get("transcription")
        if transcription or not self.rules.commits:
            sure = [{"token": "turn", "logprob": -0.25, "bytes": list(b"turn")}]
            included = LOGPROBS in (self.session.config.get("include") or ())
            await self.send(
                "conversation.item.input_audio_transcription.completed",
                item_id=item_id,
                content_index=0,
                transcript=f"turn {self._turns}",
                **({"logprobs": sure} if included else {}),
                usage={"type": "duration", "seconds": 1.0},
            )

    # The mouth

    async def respond(self, order: Event, *, asked: bool = False) -> None:
        for name in order:
            if self.rules.response_fields is not None and name not in self.rules.response_fields:
                raise Refused("unknown_parameter", f"response.{name}", f"response.{name}")
        if self._response is not None and order.get("conversation") != "none":
            raise Refused("conversation_already_has_active_response", f"{self._response} is active")
        self._response = self.new_id("resp")
        announced = asked or self.rules.announces
        self._speaking = asyncio.create_task(self.speak(self._response, order, announced))

    async def speak(self, *what: Any) -> None:
        with contextlib.suppress(ConnectionClosed, _Hung):
            await self._speak(*what)

    async def _speak(self, response_id: str, order: Event, announced: bool) -> None:
        metadata = order.get("metadata") if self.rules.echoes_metadata else None
        response: Event = {
            "id": response_id,
            "object": "realtime.response",
            "status": "in_progress",
            "output": [],
            "metadata": metadata,
        }
        if announced:
            await self.send("response.created", response=response)
        await self.send(
            "rate_limits.updated",
            rate_limits=[{"name": "tokens", "limit": 9, "remaining": 8, "reset_seconds": 1.0}],
        )
        if (called := self.wanted()) is not None:
            output = await self.call(response_id, *called)
        else:
            output = await self.say(response_id)
        self._response = None
        await self.send(
            "response.done", response={**response, "status": "completed", "output": [output]}
        )

    def wanted(self) -> tuple[str, str] | None:
        """The function and its arguments that were last asked for: "tool NAME JSON", or any."""
        tools = [tool["name"] for tool in self.session.config.get("tools") or ()]
        last = next(reversed(self.session.items.values()), {})
        text = " ".join(part.get("text", "") for part in last.get("content") or ())
        found = re.search(r"\btool\b(?: (\w+) (\{.*\}))?", text)
        if not tools or found is None:
            return None
        name = found[1] or tools[0]
        return (name, found[2] or '{"a": 1}') if name in tools else None

    async def call(self, response_id: str, name: str, arguments: str) -> Event:
        item_id, call_id = self.new_id("item"), self.new_id("call")
        item = {"id": item_id, "type": "function_call", "name": name, "call_id": call_id}
        ids = {"response_id": response_id, "item_id": item_id, "output_index": 0}
        begun = {**item, "status": "in_progress", "arguments": ""}
        done = {**item, "status": "completed", "arguments": arguments}
        await self.send(
            "response.output_item.added", response_id=response_id, output_index=0, item=begun
        )
        await self.send(
            "response.function_call_arguments.delta", **ids, call_id=call_id, delta=arguments
        )
        await self.send(
            "response.function_call_arguments.done",
            **ids,
            call_id=call_id,
            name=name,
            arguments=arguments,
        )
        self.session.items[item_id] = done
        await self.send(
            "response.output_item.done", response_id=response_id, output_index=0, item=done
        )
        return done

    async def say(self, response_id: str) -> Event:
        item_id = self.new_id("item")
        item = {"id": item_id, "type": "message", "role": "assistant", "content": []}
        self.session.items[item_id] = item
        ids = {"response_id": response_id, "item_id": item_id, "output_index": 0}
        part = {**ids, "content_index": 0}
        begun = {**item, "status": "in_progress"}
        where = {"response_id": response_id, "output_index": 0}
        await self.send("response.output_item.added", **where, item=begun)
        await self.send("conversation.item.added", item=begun, previous_item_id=None)
        await self.send(
            "response.content_part.added", **part, part={"type": "audio", "transcript": ""}
        )
        words = []
        for n in range(self.server.answer_ms // CHUNK_MS):
            if self.rules.deltas_of_text:
                words.append(f"word{n} ")
                await self.send("response.output_audio_transcript.delta", **part, delta=words[-1])
            await self.send("response.output_audio.delta", **part, delta=self.sound(n))
            await asyncio.sleep(CHUNK_MS / 1000 / self.server.speed)
        text = "".join(words) or "words"
        await self.send("response.output_audio.done", **part)
        await self.send("response.output_audio_transcript.done", **part, transcript=text)
        spoken = {"type": "audio", "transcript": text}
        await self.send("response.content_part.done", **part, part=spoken)
        content = [{"type": "output_audio", "transcript": text}]
        done = {**item, "status": "completed", "content": content}
        await self.send("response.output_item.done", **where, item=done)
        await self.send("conversation.item.done", item=done, previous_item_id=None)
        return done

    def sound(self, number: int) -> str:
        pcm = tone(number)
        data = encode(pcm[::3]) if self.law("output") else pcm.astype("<i2").tobytes()
        self.session.spoken.append(data)
        return base64.b64encode(data).decode()

    async def cancel(self, reason: str) -> None:
        if self._response is None:
            if reason == "client_cancelled":
                raise Refused("response_cancel_not_active", "no active response found")
            return
        assert self._speaking is not None
        self._speaking.cancel()
        response = {
            "id": self._response,
            "object": "realtime.response",
            "status": "cancelled",
            "status_details": {"type": "cancelled", "reason": reason},
            "output": [],
        }
        self._response = None
        await self.send("response.done", response=response)
