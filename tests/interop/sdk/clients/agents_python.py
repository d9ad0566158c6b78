"""openai-agents: RealtimeRunner over the WebSocket model, with all that two agents can do."""

import asyncio
from typing import Any

from agents import (
    Agent,
    GuardrailFunctionOutput,
    OutputGuardrail,
    RunContextWrapper,
    function_tool,
)
from agents.realtime import RealtimeAgent, RealtimeRunner, RealtimeSession, realtime_handoff

from tests.interop.sdk.clients.script import Watch, paced, passed, setting, speech

DEBOUNCE = 60
FORBIDDEN = "sentence number 3"
DONE = ["completed", "message"]


class Story:
    """One session: what the server sent, and what the SDK made of it."""

    def __init__(self, session: RealtimeSession) -> None:
        self.session = session
        self.server = Watch()
        self.sdk = Watch(told=False)

    async def read(self) -> None:
        async for event in self.session:
            if event.type == "raw_model_event":
                if event.data.type == "raw_server_event":
                    await self.server.add(event.data.data)
            else:
                await self.sdk.add({"type": event.type, "event": event})


@function_tool
def get_weather(place: str) -> str:
    """The weather of a place."""
    return f"rain in {place}"


@function_tool(needs_approval=True)
def delete_account(reason: str) -> str:
    """Deletes the caller's account."""
    return f"deleted because {reason}"


guarded: list[str] = []


async def forbid(_: RunContextWrapper[Any], __: Agent[Any], output: str) -> GuardrailFunctionOutput:
    guarded.append(output)
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=FORBIDDEN in output)


async def speak(session: RealtimeSession) -> None:
    async for chunk in paced(speech()):
        await session.send_audio(chunk)


async def voice_turn(story: Story) -> None:
    begin = story.sdk.here
    await speak(story.session)
    await story.sdk.wait("audio", after=begin)
    await story.sdk.wait("audio_end", after=begin)
    await story.sdk.wait("agent_end", after=begin)
    passed("voice turn")


async def tool(story: Story) -> None:
    begin, said = story.sdk.here, story.server.here
    await story.session.send_message("Please get weather of Leeds")
    end = await story.sdk.wait("tool_end", after=begin)
    assert "Leeds" in end["event"].output
    await story.server.wait(
        "response.output_audio_transcript.done",
        lambda event: "rain in" in event["transcript"],
        after=said,
    )
    await story.server.wait("response.done", spoke, after=said)
    assert story.sdk.types(begin).count("tool_end") == 1
    passed("tool")


def spoke(event: dict[str, Any]) -> bool:
    response = event["response"]
    return [response["status"], *(item["type"] for item in response["output"])] == DONE


async def approval(story: Story) -> None:
    begin, said = story.sdk.here, story.server.here
    await story.session.send_message("Please delete account")
    asked = await story.sdk.wait("tool_approval_required", after=begin)
    assert "tool_end" not in story.sdk.types(begin)
    await story.session.approve_tool_call(asked["event"].call_id)
    await story.sdk.wait("tool_end", after=begin)
    await story.server.wait("response.done", spoke, after=said)
    passed("approval")


async def guardrail(story: Story) -> None:
    begin, said = story.sdk.here, story.server.here
    guarded.clear()
    await story.session.send_message("Tell me a story")
    await story.sdk.wait("guardrail_tripped", after=begin)
    await story.server.wait(
        "response.done", lambda event: event["response"]["status"] == "cancelled", after=said
    )
    await story.server.wait(
        "response.output_audio_transcript.done",
        lambda event: "guardrail triggered" in event["transcript"],
        after=said,
    )
    await story.server.wait("response.done", spoke, after=said)
    assert len(guarded) <= 2 + max(map(len, guarded)) // DEBOUNCE, guarded
    passed("guardrail")


async def barge_in(story: Story) -> None:
    begin, said = story.sdk.here, story.server.here
    await story.session.send_message("Tell me another tale: story")
    await story.sdk.wait("audio", after=begin)
    await speak(story.session)
    await story.sdk.wait("audio_interrupted", after=begin)
    await story.server.wait(
        "response.done", lambda event: event["response"]["status"] == "cancelled", after=said
    )
    await story.server.wait("conversation.item.truncated", after=said)
    await story.server.wait("response.done", spoke, after=said)
    passed("barge-in")


async def handoff(story: Story) -> None:
    begin, said = story.sdk.here, story.server.here
    await story.session.send_message("Please transfer to billing")
    await story.sdk.wait("handoff", after=begin)
    updated = await story.server.wait("session.updated", after=said)
    assert updated["session"]["instructions"].endswith("You are billing.")
    assert updated["session"]["tools"] == []
    await story.server.wait("response.done", spoke, after=said)
    passed("handoff")


async def main() -> None:
    billing = RealtimeAgent(name="billing", instructions="You are billing.")
    reception = RealtimeAgent(
        name="reception",
        instructions="You are the reception.",
        tools=[get_weather, delete_account],
        handoffs=[realtime_handoff(billing)],
        output_guardrails=[OutputGuardrail(guardrail_function=forbid, name="forbid")],
    )
    runner = RealtimeRunner(
        reception, config={"guardrails_settings": {"debounce_text_length": DEBOUNCE}}
    )
    url = setting("OPENAI_BASE_URL").replace("http", "ws", 1)
    run = await runner.run(model_config={"url": f"{url}/realtime?model=gpt-realtime"})
    async with run as session:
        story = Story(session)
        reading = asyncio.create_task(story.read())
        await story.server.wait(
            "session.updated",
            lambda event: event["session"]["instructions"] == "You are the reception.",
        )
        passed("connect")
        await voice_turn(story)
        await tool(story)
        await approval(story)
        await guardrail(story)
        reception.output_guardrails.clear()
        await barge_in(story)
        await handoff(story)
        faults = [str(e["event"].error) for e in story.sdk.events if e["type"] == "error"]
        assert not faults, faults
    reading.cancel()


if __name__ == "__main__":
    asyncio.run(main())
