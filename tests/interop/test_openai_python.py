"""openai-python, unmodified, answers and drives a phone call."""

import asyncio
import json
from typing import Any

import pytest
from openai import AsyncOpenAI
from websockets.exceptions import ConnectionClosedOK

from tests.interop.judge import Judge
from tests.peers import speech
from tests.peers.phone import Phone
from tests.peers.receiver import Receiver
from tests.peers.service import Service

pytestmark = pytest.mark.interop("espeak-ng", "sox")

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSB0ZXN0IHJ1bg=="


class Watcher:
    """Reads a connection to its end."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []
        self._changed = asyncio.Condition()

    async def read(self) -> None:
        while True:
            try:
                raw = await self.connection.recv_bytes()
            except ConnectionClosedOK:
                return
            event = json.loads(raw)
            async with self._changed:
                self.events.append(event)
                self._changed.notify_all()

    async def wait(self, kind: str, count: int = 1, timeout_s: float = 20.0) -> dict[str, Any]:
        def found() -> list[dict[str, Any]]:
            return [event for event in self.events if event["type"] == kind]

        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: len(found()) >= count)
        return found()[count - 1]

    def types(self) -> list[str]:
        return [event["type"] for event in self.events]


async def incoming(client: AsyncOpenAI, receiver: Receiver) -> Any:
    delivery = await receiver.next()
    event: Any = client.webhooks.unwrap(delivery.body, delivery.headers)
    assert event.type == "realtime.call.incoming"
    return event.data


async def conversation(service: Service, receiver: Receiver) -> list[dict[str, Any]]:
    client = AsyncOpenAI(base_url=service.base_url, api_key="sk-test", webhook_secret=SECRET)
    phone = await Phone(service.sip, headers=(("X-Account", "42"),)).open()
    phone.invite()
    data = await incoming(client, receiver)
    assert {"X-Account": "42"}.items() <= {h.name: h.value for h in data.sip_headers}.items()
    await client.realtime.calls.accept(data.call_id, type="realtime", instructions="Be brief.")
    await asyncio.wait_for(phone.answered.wait(), 5)

    async with client.realtime.connect(call_id=data.call_id) as connection:
        watcher = Watcher(connection)
        reading = asyncio.create_task(watcher.read())
        created = await watcher.wait("session.created")
        assert created["session"]["instructions"] == "Be brief."
        await connection.session.update(
            session={
                "type": "realtime",
                "audio": {"input": {"transcription": {"model": "pocketsphinx"}}},
            }
        )
        await watcher.wait("session.updated")

        await connection.response.create()
        await watcher.wait("output_audio_buffer.started")
        await watcher.wait("output_audio_buffer.stopped")

        phone.say(speech.samples("Opening hours."))
        transcript = await watcher.wait("conversation.item.input_audio_transcription.completed")
        assert "hours" in transcript["transcript"]
        done = await watcher.wait("response.done", 2)
        assert done["response"]["status"] == "completed"

        # The answer is being spoken: stop it.
        await watcher.wait("output_audio_buffer.started", 2)
        await asyncio.sleep(0.5)
        asked_at = asyncio.get_running_loop().time()
        await connection.output_audio_buffer.clear()
        await watcher.wait("output_audio_buffer.cleared")
        await watcher.wait("conversation.item.truncated")
        await asyncio.sleep(0.3)
        loud = [p.arrived_at for p in phone.packets if p.peak > 200]
        assert loud[-1] - asked_at < 0.1

        await client.realtime.calls.hangup(data.call_id)
        await asyncio.wait_for(phone.ended.wait(), 2)
        await asyncio.wait_for(reading, 5)

    assert any(line.startswith("BYE ") for line in phone.seen)
    expected = [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
    ]
    types = watcher.types()
    position = types.index(expected[0])
    for kind in expected:
        position = types.index(kind, position)
    assert "response.output_audio.delta" not in types
    await client.close()
    await phone.close()
    return watcher.events


def test_a_voice_turn_under_the_sdk(judge: Judge) -> None:
    async def scenario() -> None:
        receiver = await Receiver().open()
        with Service(webhooks__url=receiver.url, webhooks__secret=SECRET) as service:
            judge.hear(await conversation(service, receiver))
        await receiver.close()

    asyncio.run(scenario())
