"""What a backend tells, as calls of the RealtimeServer; what that asks, as a backend takes it."""

from typing import assert_never

from bridge.backends import base
from bridge.realtime.outputs import StartResponse
from bridge.realtime.server import RealtimeServer


def heard(server: RealtimeServer, event: base.ListeningEvent, now: float, *, answer: bool) -> None:
    """`answer` is false where the model begins its answer to a turn itself."""
    match event:
        case base.SpeechStarted(audio_ms):
            server.speech_started(audio_ms, now)
        case base.SpeechStopped(audio_ms):
            server.speech_stopped(audio_ms, now, answer=answer)
        case base.TranscriptDelta(item_id, delta, logprobs):
            server.transcript_delta(item_id, delta, logprobs)
        case base.TranscriptCompleted(item_id, transcript, audio_s, logprobs):
            server.transcript_completed(item_id, transcript, audio_s, logprobs)
        case base.TranscriptFailed(item_id, message):
            server.transcript_failed(item_id, message)
        case _:
            assert_never(event)


def responded(server: RealtimeServer, event: base.ResponseEvent, now: float) -> None:
    match event:
        case base.AudioDelta(response_id, pcm, coded):
            server.audio_delta(response_id, pcm, coded)
        case base.TextDelta(response_id, delta, audio_ms):
            server.text_delta(response_id, delta, audio_ms)
        case base.ToolCall(response_id, tool_call_id, name, arguments):
            server.tool_call(response_id, tool_call_id, name, arguments)
        case base.ResponseFinished(response_id, reason, usage):
            server.response_finished(response_id, reason, usage, now)
        case base.ResponseFailed(response_id, code, message):
            server.response_failed(response_id, code, message, now)
        case _:
            assert_never(event)


def asked(order: StartResponse) -> base.Generate:
    return base.Generate(
        response_id=order.response_id,
        items=order.items,
        instructions=order.instructions,
        tools=order.tools,
        tool_choice=order.tool_choice,
        output_modalities=order.output_modalities,
        voice=order.voice,
        speed=order.speed,
        max_output_tokens=order.max_output_tokens,
        in_conversation=order.in_conversation,
        own_input=order.own_input,
    )
