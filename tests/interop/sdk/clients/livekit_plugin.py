"""LiveKit's AgentSession on the OpenAI realtime plugin, told of the server by OPENAI_BASE_URL."""

import asyncio
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, function_tool
from livekit.agents.voice import io
from livekit.plugins import openai

from tests.interop.sdk.clients.script import INPUT_RATE, Watch, paced, passed, speech

SPOKE = ["completed", "message"]
# It cancels what the server has cancelled already, and expects to be told so.
HARMLESS = {"response_cancel_not_active"}


class Mouth(io.AudioInput):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(label="mouth")
        self._frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue()

    async def __anext__(self) -> rtc.AudioFrame:
        return await self._frames.get()

    async def speak(self) -> None:
        async for chunk in paced(speech()):
            frame = rtc.AudioFrame(chunk, INPUT_RATE, 1, len(chunk) // 2)
            self._frames.put_nowait(frame)


class Ears(io.AudioOutput):  # type: ignore[misc]
    """Plays at the speed of speech, and says how far it came when it is stopped."""

    def __init__(self) -> None:
        capabilities = io.AudioOutputCapabilities(pause=False)
        super().__init__(label="ears", capabilities=capabilities, sample_rate=INPUT_RATE)
        self._began_at: float | None = None
        self._length_s = 0.0
        self._end: asyncio.TimerHandle | None = None
        self.heard_s = 0.0

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        now = asyncio.get_running_loop().time()
        if self._began_at is None:
            self._began_at, self._length_s = now, 0.0
            self.on_playback_started(created_at=now)
        self._length_s += frame.duration
        self.heard_s += frame.duration

    def flush(self) -> None:
        super().flush()
        if self._began_at is not None:
            loop = asyncio.get_running_loop()
            self._end = loop.call_at(self._began_at + self._length_s, self._finish, False)

    def clear_buffer(self) -> None:
        if self._began_at is not None:
            self._finish(True)

    def _finish(self, interrupted: bool) -> None:
        if self._began_at is None:
            return
        if self._end is not None:
            self._end.cancel()
            self._end = None
        now = asyncio.get_running_loop().time()
        position = min(now - self._began_at, self._length_s)
        self._began_at = None
        self.on_playback_finished(playback_position=position, interrupted=interrupted)


class Reception(Agent):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(instructions="You are the reception.")
        self.asked: list[str] = []

    @function_tool  # type: ignore[untyped-decorator]
    async def get_weather(self, place: str) -> str:
        """The weather of a place."""
        self.asked.append(place)
        return f"rain in {place}"


def spoke(event: dict[str, Any]) -> bool:
    response = event["response"]
    return [response["status"], *(item["type"] for item in response["output"])] == SPOKE


async def converse(session: AgentSession, agent: Reception, watch: Watch) -> None:
    await watch.wait("session.updated")
    passed("connect")

    begin = watch.here
    await session.input.audio.speak()
    await watch.wait("conversation.item.input_audio_transcription.completed", after=begin)
    await watch.wait("response.done", spoke, after=begin)
    assert session.output.audio.heard_s > 0.5
    passed("voice turn")

    begin = watch.here
    session.generate_reply(user_input="Please get weather of Leeds")
    await watch.wait("response.done", spoke, after=begin)
    assert len(agent.asked) == 1, agent.asked
    passed("tool")

    await asyncio.sleep(3)
    begin = watch.here
    session.generate_reply(user_input="Tell me a story")
    await watch.wait("response.output_audio.delta", after=begin)
    await asyncio.sleep(1)
    await session.input.audio.speak()
    await watch.wait(
        "response.done", lambda event: event["response"]["status"] == "cancelled", after=begin
    )
    await watch.wait("conversation.item.truncated", after=begin)
    await watch.wait("response.done", spoke, after=begin)
    faults = {event["error"]["code"] for event in watch.events if event["type"] == "error"}
    assert faults <= HARMLESS, faults
    passed("barge-in")


async def main() -> None:
    watch = Watch()
    told: set[asyncio.Task[None]] = set()
    agent = Reception()
    session = AgentSession(llm=openai.realtime.RealtimeModel(voice="alloy"))
    session.input.audio, session.output.audio = Mouth(), Ears()
    await session.start(agent)
    model = agent.realtime_llm_session
    model.on(
        "openai_server_event_received",
        lambda event: told.add(asyncio.get_running_loop().create_task(watch.add(event))),
    )
    await converse(session, agent, watch)
    await session.aclose()


if __name__ == "__main__":
    asyncio.run(main())
