# mypy: disable-error-code="import-not-found,misc,untyped-decorator"
"""Pipecat with an echo for a pipeline: SmallWebRTC at /offer, Twilio's Media Streams at /ws.

python pipecat_echo.py PORT
"""

import asyncio
import json
import sys

import uvicorn
from fastapi import BackgroundTasks, FastAPI, WebSocket
from loguru import logger
from pipecat.frames.frames import Frame, InputAudioRawFrame, OutputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.transports.base_transport import TransportParams
from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection
from pipecat.transports.smallwebrtc.request_handler import (
    SmallWebRTCRequest,
    SmallWebRTCRequestHandler,
)
from pipecat.transports.smallwebrtc.transport import SmallWebRTCTransport
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport

logger.remove()
app = FastAPI()
browsers = SmallWebRTCRequestHandler()
# The rates that Pipecat documents for telephony.
TELEPHONY = PipelineParams(audio_in_sample_rate=8000, audio_out_sample_rate=8000)


class Echo(FrameProcessor):
    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            frame = OutputAudioRawFrame(
                audio=frame.audio, sample_rate=frame.sample_rate, num_channels=frame.num_channels
            )
        await self.push_frame(frame, direction)


async def talk(
    transport: SmallWebRTCTransport | FastAPIWebsocketTransport, params: PipelineParams
) -> None:
    pipeline = Pipeline([transport.input(), Echo(), transport.output()])
    task = PipelineTask(pipeline, params=params)

    @transport.event_handler("on_client_disconnected")
    async def left(*_: object) -> None:
        await task.cancel()

    await PipelineRunner(handle_sigint=False).run(task)


@app.post("/offer")
async def offer(body: SmallWebRTCRequest, background: BackgroundTasks) -> object:
    async def begin(connection: SmallWebRTCConnection) -> None:
        transport = SmallWebRTCTransport(
            webrtc_connection=connection,
            params=TransportParams(audio_in_enabled=True, audio_out_enabled=True),
        )
        background.add_task(talk, transport, PipelineParams())

    return await browsers.handle_web_request(request=body, webrtc_connection_callback=begin)


@app.websocket("/ws")
async def call(websocket: WebSocket) -> None:
    await websocket.accept()
    started = json.loads(await websocket.receive_text())
    while started["event"] != "start":
        started = json.loads(await websocket.receive_text())
    serializer = TwilioFrameSerializer(
        stream_sid=started["streamSid"],
        params=TwilioFrameSerializer.InputParams(auto_hang_up=False),
    )
    params = FastAPIWebsocketParams(
        audio_in_enabled=True, audio_out_enabled=True, serializer=serializer
    )
    await talk(FastAPIWebsocketTransport(websocket=websocket, params=params), TELEPHONY)


class Server(uvicorn.Server):
    async def startup(self, sockets: object = None) -> None:
        await super().startup()
        print("ready", flush=True)


if __name__ == "__main__":
    asyncio.run(Server(uvicorn.Config(app, port=int(sys.argv[1]), log_level="warning")).serve())
