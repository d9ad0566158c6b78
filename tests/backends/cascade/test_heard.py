"""What the conversation keeps of a message that was cut: the words that were heard, but for one."""

import asyncio
import json
from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np
import pytest

from bridge.audio.codecs import PCMU
from bridge.backends.base import Pcm
from bridge.backends.cascade.backend import CascadeBackend
from bridge.backends.cascade.parts import Parts
from bridge.backends.cascade.settings import CascadeSettings, SttSettings, TtsSettings
from bridge.ids import SessionId
from bridge.media.stream import AudioStream
from bridge.realtime.session_config import SessionConfig
from bridge.sessions.session import Session
from bridge.sessions.terms import Terms
from tests.peers.models import ModelServers
from tests.sessions.stage import HELLO, Wire, send

FRAME_S = 0.02
PACE = 40.0  # of a voice whose sound still comes when it is cut
QUICK = "Yes, of course it is so, "
SLOW = "nevertheless consequently unfortunately approximately. "
ANSWER = QUICK + SLOW + "And so on. And so on to the end."


def uneven(word: str) -> float:
    return 0.4 if len(word) > 7 else 0.06


def even(word: str) -> float:
    return 0.035 * (len(word) + 1)


def beeps(sound: Pcm) -> int:
    """How many have begun."""
    blocks = sound[: len(sound) // 240 * 240].reshape(-1, 240)
    loud = np.abs(blocks.astype(np.int32)).max(axis=1, initial=0) > 1000
    return int(loud[:1].sum() + (loud[1:] & ~loud[:-1]).sum())


class Conversation:
    """Of a caller who types, and listens as fast as the sound comes."""

    def __init__(self, settings: CascadeSettings) -> None:
        self._parts = Parts(settings)
        self._stream = AudioStream(PCMU, payload_type=0, wire=Wire(), cname="test")
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def __aenter__(self) -> "Conversation":
        self._session = Session(
            SessionId("sess_1"),
            backend=CascadeBackend(self._parts),
            config=SessionConfig.create({"type": "realtime"}),
            terms=Terms(on_call=True, expires_at=1_800_000_000),
            unix_time=lambda: 1_700_000_000.5,
        )
        await self._session.start()
        self._session.connect(self._stream)
        self._session.attach_channel(lambda text: self._events.put_nowait(json.loads(text)))
        self._typist = self._session.attach()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._parts.close()

    async def cut_after(self, seconds: float) -> tuple[int, list[str]]:
        """Beeps heard of an answer until then, and the words that are kept of it."""
        for event in (HELLO, {"type": "response.create"}):
            send(self._session, self._typist, event)
        item = (await self._until("response.output_item.added"))["item"]
        heard: list[Pcm] = []
        playout = self._stream.playout
        # Read sooner there would be gaps, which nobody hears who listens in real time.
        async with asyncio.timeout(10):
            while True:
                await asyncio.sleep(0)
                if playout.buffered_ms >= seconds * 1000:
                    break
        for _ in range(round(seconds / FRAME_S)):
            frame = playout.read()
            assert frame is not None
            heard.append(frame)
        for kind in ("response.cancel", "output_audio_buffer.clear"):
            send(self._session, self._typist, {"type": kind})
        await self._until("response.done")
        self._stream.playout.read()  # the fade
        asked = {"type": "conversation.item.retrieve", "item_id": item["id"]}
        send(self._session, self._typist, asked)
        while True:
            text = await self._typist.next()
            assert text is not None
            if (event := json.loads(text))["type"] == "conversation.item.retrieved":
                return beeps(np.concatenate(heard)), event["item"]["content"][0][
                    "transcript"
                ].split()

    async def _until(self, kind: str) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while (event := await self._events.get())["type"] != kind:
                pass

        return event


@pytest.mark.parametrize(
    ("words", "word_s"),
    [("captioned_speech", uneven), ("sse", uneven), ("", even)],
    ids=["captioned", "sse", "untold"],
)
def test_of_a_message_that_is_cut_the_words_heard_are_kept(
    words: str, word_s: Callable[[str], float]
) -> None:
    async def run() -> None:
        url = server.base_url
        settings = CascadeSettings(
            stt=SttSettings(kind="openai", base_url=url),
            tts=TtsSettings(kind="openai", base_url=url, words=words),
            llm_base_url=url,
            llm_model="m",
            apology="",
        )
        async with Conversation(settings) as conversation:
            said = ANSWER.split()
            cuts = np.arange(0.2, 2 * sum(map(word_s, said)) - 0.3, 0.6)
            for pace, cut_s in zip(cycle((0.0, PACE)), cuts):
                server.knobs.sound_pace = pace
                heard, kept = await conversation.cut_after(cut_s)
                assert kept == said[: len(kept)]
                assert abs(len(kept) - heard) <= 1, (pace, cut_s, heard, kept)

    with ModelServers() as server:
        server.knobs.reply = lambda _: [ANSWER]
        server.knobs.word_s = word_s
        asyncio.run(run())
