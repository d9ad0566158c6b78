"""openai-agents: OpenAIRealtimeSIPModel answers a phone call and attaches to it."""

import asyncio
from typing import Any

from agents.realtime import RealtimeAgent, RealtimeRunner
from agents.realtime.openai_realtime import OpenAIRealtimeSIPModel
from openai import AsyncOpenAI

from tests.interop.sdk.clients.agents_python import Story, get_weather, spoke
from tests.interop.sdk.clients.script import dial, passed, setting, speak_on
from tests.peers.receiver import Receiver

PHONE = "agents"


async def conversation(story: Story) -> None:
    server = story.server
    await server.wait("session.updated")
    passed("connect")

    begin = server.here
    speak_on(PHONE)
    await server.wait("conversation.item.input_audio_transcription.completed", after=begin)
    await server.wait("output_audio_buffer.started", after=begin)
    await server.wait("output_audio_buffer.stopped", after=begin)
    passed("voice turn")

    begin = server.here
    await story.session.send_message("Please get weather of Leeds")
    await story.sdk.wait("tool_end")
    await server.wait("response.done", spoke, after=begin)
    await server.wait("output_audio_buffer.stopped", after=begin)
    passed("tool")

    begin = server.here
    await story.session.send_message("Tell me a story")
    await server.wait("output_audio_buffer.started", after=begin)
    speak_on(PHONE)
    await server.wait("output_audio_buffer.cleared", after=begin)
    await server.wait("conversation.item.truncated", after=begin)
    done = await server.wait("response.done", after=begin)
    assert done["response"]["status_details"]["reason"] == "turn_detected"
    await server.wait("response.done", spoke, after=begin)
    passed("barge-in")


async def main() -> None:
    client = AsyncOpenAI(max_retries=0)
    receiver = await Receiver().open(int(setting("PEER_WEBHOOK_PORT")))
    dial(PHONE)
    delivery = await receiver.next(10.0)
    incoming: Any = client.webhooks.unwrap(delivery.body, delivery.headers)
    call_id = incoming.data.call_id
    agent = RealtimeAgent(name="reception", instructions="You are brief.", tools=[get_weather])
    payload = await OpenAIRealtimeSIPModel.build_initial_session_payload(agent)
    await client.realtime.calls.accept(
        call_id, **payload.model_dump(exclude_none=True, exclude_unset=True)
    )
    passed("accept")
    url = setting("OPENAI_BASE_URL").replace("http", "ws", 1)
    runner = RealtimeRunner(agent, model=OpenAIRealtimeSIPModel())
    run = await runner.run(
        model_config={"url": f"{url}/realtime?call_id={call_id}", "call_id": call_id}
    )
    async with run as session:
        story = Story(session)
        reading = asyncio.create_task(story.read())
        await conversation(story)
        assert "error" not in story.sdk.types(), story.sdk.events
        assert "response.output_audio.delta" not in story.server.types()
        await client.realtime.calls.hangup(call_id)
        await asyncio.wait_for(reading, 5)
    passed("hangup")
    await receiver.close()
    await client.close()


if __name__ == "__main__":
    asyncio.run(main())
