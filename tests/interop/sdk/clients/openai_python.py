"""openai-python: everything its Realtime surface has, on sessions, browser offers and phone calls.

Runs under any release that has `client.realtime`; only the environment tells it where the server
is.
"""

import asyncio
import base64
import json
from contextlib import AsyncExitStack
from typing import Any

from openai import AsyncOpenAI, NotFoundError
from websockets.exceptions import ConnectionClosedOK

from tests.interop.sdk.clients.script import (
    Watch,
    chunks,
    dial,
    offer,
    passed,
    setting,
    speech,
)
from tests.peers.receiver import Receiver

BYTES_PER_MS = 48
TARGET = "tel:+4930123456"
SESSION: dict[str, Any] = {
    "type": "realtime",
    "instructions": "Be brief.",
    "audio": {"input": {"transcription": {"model": "whisper-1"}}},
    "tools": [
        {
            "type": "function",
            "name": "get_weather",
            "description": "The weather of a place.",
            "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
        }
    ],
}


async def read(connection: Any, watch: Watch) -> None:
    while True:
        try:
            raw = await connection.recv_bytes()
        except ConnectionClosedOK:
            return
        await watch.add(json.loads(raw))


async def say(connection: Any, text: str) -> None:
    content = [{"type": "input_text", "text": text}]
    await connection.conversation.item.create(
        item={"type": "message", "role": "user", "content": content}
    )


async def speak(connection: Any) -> None:
    for chunk in chunks(speech()):
        await connection.input_audio_buffer.append(audio=base64.b64encode(chunk).decode())


def heard_ms(watch: Watch, begin: int) -> int:
    return sum(
        len(base64.b64decode(event["delta"])) // BYTES_PER_MS
        for event in watch.events[begin:]
        if event["type"] == "response.output_audio.delta"
    )


async def voice_turn(connection: Any, watch: Watch) -> None:
    begin = watch.here
    await speak(connection)
    await watch.wait("conversation.item.input_audio_transcription.completed", after=begin)
    done = await watch.wait("response.done", after=begin)
    assert done["response"]["status"] == "completed", done
    assert heard_ms(watch, begin) > 500
    types = watch.types(begin)
    order = [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_audio.done",
        "response.output_item.done",
        "response.done",
    ]
    places = [types.index(kind) for kind in order]
    assert places == sorted(places), types
    passed("voice turn")


async def tool(connection: Any, watch: Watch) -> None:
    begin = watch.here
    await say(connection, "Please get weather of Leeds")
    await connection.response.create()
    done = await watch.wait("response.done", after=begin)
    [call] = done["response"]["output"]
    assert call["name"] == "get_weather", call
    assert "Leeds" in json.loads(call["arguments"])["place"], call
    begin = watch.here
    await connection.conversation.item.create(
        item={"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}
    )
    await connection.response.create()
    spoken = await watch.wait("response.output_audio_transcript.done", after=begin)
    assert "rain" in spoken["transcript"]
    await watch.wait("response.done", after=begin)
    passed("tool")


async def out_of_band(connection: Any, watch: Watch) -> None:
    begin = watch.here
    content = [{"type": "input_text", "text": "apples"}]
    await connection.response.create(
        response={
            "conversation": "none",
            "output_modalities": ["text"],
            "metadata": {"topic": "fruit"},
            "input": [{"type": "message", "role": "user", "content": content}],
        }
    )
    done = await watch.wait("response.done", after=begin)
    response = done["response"]
    assert response["metadata"] == {"topic": "fruit"}
    assert response["conversation_id"] is None
    assert "apples" in response["output"][0]["content"][0]["text"]
    assert not [kind for kind in watch.types(begin) if kind.startswith("conversation.item")]
    passed("out-of-band")


async def barge_in(connection: Any, watch: Watch) -> None:
    begin = watch.here
    await say(connection, "Tell me a story")
    await connection.response.create()
    await watch.wait("response.output_audio.delta", after=begin)
    ms = heard_ms(watch, begin)
    await speak(connection)
    await watch.wait("input_audio_buffer.speech_started", after=begin)
    done = await watch.wait("response.done", after=begin)
    assert done["response"]["status"] == "cancelled", done
    assert done["response"]["status_details"]["reason"] == "turn_detected"
    [item] = done["response"]["output"]
    assert item["status"] == "incomplete"
    await connection.conversation.item.truncate(
        item_id=item["id"], content_index=0, audio_end_ms=ms
    )
    await watch.wait("conversation.item.truncated", after=begin)
    await watch.wait("response.done", lambda e: e["response"]["status"] == "completed", after=begin)
    passed("barge-in")


async def session(client: AsyncOpenAI) -> None:
    async with client.realtime.connect(model="gpt-realtime") as connection:
        watch = Watch()
        reading = asyncio.create_task(read(connection, watch))
        await watch.wait("session.created")
        await connection.session.update(session=SESSION)  # type: ignore[arg-type]
        updated = await watch.wait("session.updated")
        assert updated["session"]["tools"][0]["name"] == "get_weather"
        passed("connect")
        await voice_turn(connection, watch)
        await tool(connection, watch)
        await out_of_band(connection, watch)
        await barge_in(connection, watch)
        assert "error" not in watch.types()
    await reading


async def client_secrets(client: AsyncOpenAI) -> None:
    secret = await client.realtime.client_secrets.create(
        expires_after={"anchor": "created_at", "seconds": 60},
        session={"type": "realtime", "instructions": "From the secret."},
    )
    assert secret.value.startswith("ek_")
    browser = client.copy(api_key=secret.value)
    async with browser.realtime.connect(model="gpt-realtime") as connection:
        watch = Watch()
        await watch.add(json.loads(await connection.recv_bytes()))
        assert watch.events[0]["session"]["instructions"] == "From the secret."
    passed("client_secrets")


async def calls_create(client: AsyncOpenAI) -> None:
    calls = client.realtime.calls.with_raw_response
    plain = await calls.create(sdp=offer())
    configured = await calls.create(sdp=offer(), session={"type": "realtime", "model": "m"})
    for answer in (plain, configured):
        assert answer.text().startswith("v=0") if callable(answer.text) else answer.text
        call_id = answer.headers["location"].rpartition("/")[2]
        await client.realtime.calls.hangup(call_id)
        await client.realtime.calls.hangup(call_id)
    passed("create")


async def incoming(client: AsyncOpenAI, receiver: Receiver, name: str) -> str:
    dial(name)
    delivery = await receiver.next(10.0)
    event: Any = client.webhooks.unwrap(delivery.body, delivery.headers)
    assert event.type == "realtime.call.incoming"
    assert {"X-Phone": name}.items() <= {h.name: h.value for h in event.data.sip_headers}.items()
    call_id: str = event.data.call_id
    return call_id


async def phone_calls(client: AsyncOpenAI, receiver: Receiver) -> None:
    call_id = await incoming(client, receiver, "rejected")
    passed("webhook")
    await client.realtime.calls.reject(call_id, status_code=486)
    passed("reject")

    call_id = await incoming(client, receiver, "accepted")
    await client.realtime.calls.accept(call_id, **SESSION)
    async with AsyncExitStack() as stack:
        watches = []
        for _ in range(2):
            connection = await stack.enter_async_context(client.realtime.connect(call_id=call_id))
            watch = Watch()
            watches.append((connection, watch, asyncio.create_task(read(connection, watch))))
        (connection, watch, _), (_, other, _) = watches
        await watch.wait("session.created")
        await other.wait("session.created")
        passed("accept")
        await say(connection, "Good morning")
        await connection.response.create()
        await watch.wait("output_audio_buffer.started")
        await watch.wait("output_audio_buffer.stopped")
        assert "response.output_audio.delta" not in watch.types()
        await client.realtime.calls.hangup(call_id)
        for _, _, reading in watches:
            await asyncio.wait_for(reading, 5)
        shared = [event for event in watch.events if event["type"] != "session.created"]
        assert shared == [event for event in other.events if event["type"] != "session.created"]
    passed("hangup")
    try:
        await client.realtime.calls.accept(call_id, **SESSION)
    except NotFoundError:
        return
    raise AssertionError("a call that is over was accepted")


async def transfer(client: AsyncOpenAI, receiver: Receiver) -> None:
    call_id = await incoming(client, receiver, "transferred")
    await client.realtime.calls.accept(call_id, **SESSION)
    async with client.realtime.connect(call_id=call_id) as connection:
        watch = Watch()
        reading = asyncio.create_task(read(connection, watch))
        await watch.wait("session.created")
        await client.realtime.calls.refer(call_id, target_uri=TARGET)
        await asyncio.wait_for(reading, 5)
    record: Any = await client.get(f"/realtime/calls/{call_id}", cast_to=object)
    assert record["end_reason"] == "transferred", record
    assert record["transfer"]["target"] == TARGET, record
    passed("refer")


async def main() -> None:
    client = AsyncOpenAI(max_retries=0)
    receiver = await Receiver().open(int(setting("PEER_WEBHOOK_PORT")))
    await session(client)
    await client_secrets(client)
    await calls_create(client)
    await phone_calls(client, receiver)
    await transfer(client, receiver)
    await receiver.close()
    await client.close()


if __name__ == "__main__":
    asyncio.run(main())
