"""pipecat: OpenAIRealtimeLLMService in a pipeline of its own aggregators."""

import asyncio
import json
from typing import Any

from pipecat.adapters.schemas.function_schema import (  # type: ignore[import-not-found]
    FunctionSchema,
)
from pipecat.adapters.schemas.tools_schema import ToolsSchema  # type: ignore[import-not-found]
from pipecat.frames.frames import (  # type: ignore[import-not-found]
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMMessagesAppendFrame,
    LLMRunFrame,
    TTSAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline  # type: ignore[import-not-found]
from pipecat.pipeline.runner import PipelineRunner  # type: ignore[import-not-found]
from pipecat.pipeline.task import PipelineTask  # type: ignore[import-not-found]
from pipecat.processors.aggregators.llm_context import LLMContext  # type: ignore[import-not-found]
from pipecat.processors.aggregators.llm_response_universal import (  # type: ignore[import-not-found]
    LLMContextAggregatorPair,
)
from pipecat.processors.frame_processor import (  # type: ignore[import-not-found]
    FrameDirection,
    FrameProcessor,
)
from pipecat.services.openai.realtime import events  # type: ignore[import-not-found]
from pipecat.services.openai.realtime.llm import (  # type: ignore[import-not-found]
    OpenAIRealtimeLLMService,
)

from tests.interop.sdk.clients.script import INPUT_RATE, Watch, paced, passed, setting, speech

SPOKE = ["completed", "message"]
# It cancels what the server has cancelled already, and expects to be told so.
HARMLESS = {"response_cancel_not_active"}
WEATHER = FunctionSchema(
    name="get_weather",
    description="The weather of a place.",
    properties={"place": {"type": "string"}},
    required=["place"],
)


class Overheard(OpenAIRealtimeLLMService):  # type: ignore[misc]
    """The service, and the test hears what its socket receives."""

    watch: Watch

    async def _connect(self) -> None:
        await super()._connect()
        self._websocket: Any = _Tap(self._websocket, self.watch)


class _Tap:
    def __init__(self, socket: Any, watch: Watch) -> None:
        self._socket, self._watch = socket, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    async def __aiter__(self) -> Any:
        async for message in self._socket:
            await self._watch.add(json.loads(message))
            yield message


class Ears(FrameProcessor):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.watch = Watch(told=False)
        self.heard_s = 0.0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            self.heard_s += len(frame.audio) / 2 / frame.sample_rate
        if isinstance(frame, InterruptionFrame):
            await self.watch.add({"type": "interruption"})
        await self.push_frame(frame, direction)


def spoke(event: dict[str, Any]) -> bool:
    response = event["response"]
    return [response["status"], *(item["type"] for item in response["output"])] == SPOKE


async def speak(task: PipelineTask) -> None:
    async for chunk in paced(speech()):
        frame = InputAudioRawFrame(audio=chunk, sample_rate=INPUT_RATE, num_channels=1)
        await task.queue_frame(frame)


def asks(text: str) -> LLMMessagesAppendFrame:
    return LLMMessagesAppendFrame([{"role": "user", "content": text}], run_llm=True)


async def converse(task: PipelineTask, service: Overheard, ears: Ears, asked: list[str]) -> None:
    watch = service.watch
    await task.queue_frame(LLMRunFrame())
    await watch.wait("session.updated")
    await watch.wait("response.done", spoke)
    passed("connect")

    begin = watch.here
    await speak(task)
    await watch.wait("input_audio_buffer.committed", after=begin)
    await watch.wait("response.done", spoke, after=begin)
    assert ears.heard_s > 0.5
    passed("voice turn")

    begin = watch.here
    # Behind the user's aggregator, as an observer of the pipeline would.
    await service.queue_frame(asks("Please get weather of Leeds"))
    await watch.wait("response.done", spoke, after=begin)
    assert len(asked) == 1, asked
    passed("tool")

    begin, interrupted = watch.here, ears.watch.here
    await service.queue_frame(asks("Tell me a story"))
    await watch.wait("response.output_audio.delta", after=begin)
    await speak(task)
    await ears.watch.wait("interruption", after=interrupted)
    await watch.wait(
        "response.done", lambda event: event["response"]["status"] == "cancelled", after=begin
    )
    await watch.wait("response.done", spoke, after=begin)
    faults = {event["error"]["code"] for event in watch.events if event["type"] == "error"}
    assert faults <= HARMLESS, faults
    passed("barge-in")


async def main() -> None:
    asked: list[str] = []

    async def get_weather(call: Any) -> None:
        asked.append(call.arguments["place"])
        await call.result_callback(f"rain in {call.arguments['place']}")

    url = setting("OPENAI_BASE_URL").replace("http", "ws", 1)
    service = Overheard(
        api_key=setting("OPENAI_API_KEY"),
        base_url=f"{url}/realtime",
        settings=OpenAIRealtimeLLMService.Settings(
            model="gpt-realtime",
            session_properties=events.SessionProperties(instructions="You are the reception."),
        ),
    )
    service.watch = Watch()
    service.register_function("get_weather", get_weather)
    ears = Ears()
    messages = [{"role": "user", "content": "Say hello"}]
    context = LLMContext(messages, tools=ToolsSchema(standard_tools=[WEATHER]))
    aggregators = LLMContextAggregatorPair(context)
    task = PipelineTask(
        Pipeline([aggregators.user(), service, ears, aggregators.assistant()]),
        idle_timeout_secs=None,
    )
    run = asyncio.create_task(PipelineRunner(handle_sigint=False).run(task))
    talk = asyncio.create_task(converse(task, service, ears, asked))
    await asyncio.wait((run, talk), return_when=asyncio.FIRST_COMPLETED)
    await task.cancel()
    await talk
    await run


if __name__ == "__main__":
    asyncio.run(main())
