"""gllm-inference: OpenAIRealtimeSession, told of the server by OPENAI_BASE_URL only."""

import asyncio
import contextlib
import json
from typing import Any

from gllm_inference.realtime_session import (  # type: ignore[import-not-found]
    OpenAIRealtimeSession,
)
from gllm_inference.realtime_session.input_streamer import (  # type: ignore[import-not-found]
    EventInputStreamer,
)
from gllm_inference.realtime_session.output_streamer.output_streamer import (  # type: ignore[import-not-found]
    BaseOutputStreamer,
)
from gllm_inference.realtime_session.schema import (  # type: ignore[import-not-found]
    RealtimeActivityType,
    RealtimeDataType,
    RealtimeEvent,
    RealtimeEventType,
)
from openai.resources.beta.realtime import realtime as beta
from openai.resources.realtime import realtime as current

from tests.interop.sdk.clients.script import Watch, paced, passed, speech, tell


def overhear(connection: Any) -> None:
    """What the compiled client reads is told to the test too, unchanged."""
    read = connection.recv_bytes

    async def recv_bytes(self: Any) -> bytes:
        raw: bytes = await read(self)
        tell(event=json.loads(raw))
        return raw

    connection.recv_bytes = recv_bytes


class Ears(BaseOutputStreamer):  # type: ignore[misc]
    def __init__(self) -> None:
        self.watch = Watch(told=False)

    async def handle(self, event: RealtimeEvent) -> None:
        kind = event.data if event.type == RealtimeEventType.ACTIVITY else event.data_type
        await self.watch.add({"type": str(kind), "data": event.data})


async def converse(mouth: EventInputStreamer, ears: Ears) -> None:
    await asyncio.sleep(1)
    begin = ears.watch.here
    mouth.push(RealtimeEvent.input_text("Good morning"))
    await ears.watch.wait(RealtimeDataType.TEXT, after=begin)
    await ears.watch.wait(RealtimeActivityType.TEXT_COMPLETE, after=begin)
    passed("connect")

    begin = ears.watch.here
    async for chunk in paced(speech()):
        mouth.push(RealtimeEvent.input_audio(chunk))
    await ears.watch.wait(RealtimeDataType.AUDIO, after=begin)
    await ears.watch.wait(RealtimeActivityType.TEXT_COMPLETE, after=begin)
    passed("voice turn")
    mouth.push(RealtimeEvent.activity(RealtimeActivityType.TERMINATION))


async def main() -> None:
    overhear(beta.AsyncRealtimeConnection)
    overhear(current.AsyncRealtimeConnection)
    mouth, ears = EventInputStreamer(), Ears()
    session = OpenAIRealtimeSession(model_name="gpt-realtime")
    run = asyncio.create_task(session.start([mouth], [ears]))
    talk = asyncio.create_task(converse(mouth, ears))
    done, _ = await asyncio.wait((run, talk), return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    await talk
    # Its way to end: TERMINATION cancels the tasks of the session.
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait_for(run, 10)


if __name__ == "__main__":
    asyncio.run(main())
