"""A call by each dialect, to a server that refuses what the ones that speak it refuse."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.peers.upstream import Upstream
from tests.peers.upstream_calls import Conversation, Sideband, Stage, relay_tasks, staged, until
from tests.peers.upstream_rules import (
    AZURE,
    AZURE_PREVIEW,
    SPEECH_TO_SPEECH,
    XAI,
    Rules,
)

pytestmark = pytest.mark.e2e

DIALECTS = {
    "openai": Rules(),
    "azure": AZURE,
    "azure-preview": AZURE_PREVIEW,
    "xai": XAI,
    "speech-to-speech": SPEECH_TO_SPEECH,
}
WANTED = {
    "type": "realtime",
    "instructions": "Be brief.",
    "max_output_tokens": 4000,
    "tools": [{"type": "function", "name": "look_up", "parameters": {"type": "object"}}],
    "audio": {
        "input": {
            "transcription": {"model": "whisper-1"},
            "noise_reduction": {"type": "near_field"},
            "turn_detection": {"type": "semantic_vad", "eagerness": "high"},
        },
        "output": {"speed": 1.1},
    },
}
"""What a client asks for, whatever there is behind the call."""


async def call_a_function(sideband: Sideband) -> None:
    content = [{"type": "input_text", "text": "use the tool"}]
    item = {"type": "message", "role": "user", "content": content}
    await sideband.send("conversation.item.create", item=item)
    await sideband.send("response.create")
    called = await sideband.wait_for("response.function_call_arguments.done")
    assert called["name"] == "look_up"
    begun = sideband.types.count("response.created")
    await sideband.wait_for("response.done", count=begun)
    output = {"type": "function_call_output", "call_id": called["call_id"], "output": "7"}
    await sideband.send("conversation.item.create", item=output)
    content = [{"type": "input_text", "text": "They are in a hurry."}]
    remark = {"type": "message", "role": "system", "content": content}
    await sideband.send("conversation.item.create", item=remark)


async def follow(stage: Stage, talk: Conversation, sideband: Sideband) -> None:
    await sideband.send("session.update", session=WANTED)
    await sideband.wait_for("session.updated")
    assert await talk.turn()
    # An interruption: what was not heard is taken back as well as the dialect can.
    await talk.speak()
    await sideband.wait_for("output_audio_buffer.started", count=2)
    await asyncio.sleep(0.5)
    before = talk.heard_ms()
    await talk.speak()
    assert await until(lambda: talk.heard_ms() > before + 1800 and talk.silent(), 10)
    await sideband.wait_for("conversation.item.truncated")
    await call_a_function(sideband)
    before = talk.heard_ms()
    await sideband.send("response.create")
    assert await until(lambda: talk.heard_ms() > before + 1800 and talk.silent(), 10)
    # The conversation outlives the connection.
    stage.upstream.drop()
    assert await until(lambda: stage.upstream.connections == 1, 3)
    assert await talk.turn()


async def call(dialect: str, conforms: Callable[[dict[str, Any]], None]) -> None:
    upstream = Upstream(rules=DIALECTS[dialect])
    settings = {"upstream.dialect": dialect, "upstream.audio": "pcmu"}
    async with staged(upstream, settings) as stage:
        talk = Conversation(await stage.call())
        async with stage.sideband() as sideband:
            await follow(stage, talk, sideband)
            talk.phone.hangup()
            await sideband.ended()
        await talk.phone.close()
    for event in sideband.events:
        conforms(event)
    assert "error" not in sideband.types, [e for e in sideband.events if e["type"] == "error"]
    assert [session.refused for session in upstream.sessions] == [[], []]
    told = str(upstream.sessions[1].received[:12])
    assert "Be brief." in told
    if upstream.rules.roles != ("user",):
        assert "'role': 'assistant'" in told
    assert "word0" in told or "words" in told


def test_a_call_by_each_dialect(conforms: Callable[[dict[str, Any]], None]) -> None:
    async def main() -> None:
        await asyncio.gather(*(call(dialect, conforms) for dialect in DIALECTS))
        assert not relay_tasks()

    asyncio.run(main())
