"""The caller's side of the conversation: speech, commits, transcripts."""

from collections.abc import Callable

from bridge.ids import ItemId
from bridge.realtime import server_events as events
from bridge.realtime.conversation import Conversation
from bridge.realtime.errors import buffer_full, commit_empty
from bridge.realtime.input_buffer import CAP_MS, InputBuffer
from bridge.realtime.items import Item, Part, Words, user_audio
from bridge.realtime.options import LOGPROBS
from bridge.realtime.outbox import Outbox
from bridge.realtime.outputs import Pcm, Transcribe
from bridge.realtime.server_events import Logprobs
from bridge.realtime.session_config import SessionConfig

SHORTEST_COMMIT_MS = 100
DETECTION_LAG_MS = 1_500  # how late a detector may report a beginning


class Turns:
    """`item_id` of a turn is settled when its speech starts and kept until it is committed."""

    def __init__(
        self,
        conversation: Conversation,
        outbox: Outbox,
        *,
        new_id: Callable[[str], str],
        config: SessionConfig,
    ) -> None:
        self._conversation = conversation
        self._outbox = outbox
        self._new_id = new_id
        self._buffer = InputBuffer(idle_ms=0, holding=False)
        self._speech: ItemId | None = None
        self._transcribing = False
        self._weighing = False
        self.configure(config)

    @property
    def heard_ms(self) -> int:
        return self._buffer.heard_ms

    @property
    def speaking(self) -> bool:
        return self._speech is not None

    def configure(self, config: SessionConfig) -> None:
        """Speech under way survives another detector, but not the lack of one."""
        # There is nothing else that a transcription session could be for.
        self._transcribing = config.transcription is not None or config.type == "transcription"
        self._weighing = LOGPROBS in (config.include or ())
        detection = config.turn_detection
        if detection is None:
            self._speech = None
        else:
            self._buffer.idle_ms = DETECTION_LAG_MS + detection.prefix_padding_ms
        self._manual = detection is None
        self._buffer.holding = self._manual or self.speaking

    def audio_received(self, pcm: Pcm) -> None:
        self._buffer.append(pcm)

    def check_room(self) -> None:
        """Raises RequestError if appended audio would be dropped."""
        if self._buffer.full:
            raise buffer_full(CAP_MS // 1000)

    def speech_started(self, audio_ms: int) -> bool:
        """Returns whether this began a turn: a second start in a row does not."""
        if self._speech is not None or self._manual:
            return False
        self._speech = ItemId(self._new_id("item"))
        begin_ms = self._buffer.begin(audio_ms)
        self._outbox.send(events.speech_started(self._speech, begin_ms))
        return True

    def speech_stopped(self, audio_ms: int) -> bool:
        """Returns whether a turn was committed."""
        if self._speech is None:
            return False
        item_id, self._speech = self._speech, None
        self._buffer.holding = self._manual
        self._outbox.send(events.speech_stopped(item_id, audio_ms))
        pcm = self._buffer.take(audio_ms)
        # Nothing is left if the client committed or cleared in the middle of it.
        if not len(pcm):
            return False
        self._commit(user_audio(item_id, pcm))
        self._outbox.put(Transcribe(item_id, pcm))
        return True

    def time_out(self, from_ms: int) -> None:
        """The caller has said nothing since `from_ms`: that silence becomes a turn."""
        item_id = ItemId(self._new_id("item"))
        end_ms = self._buffer.heard_ms
        self._outbox.send(events.timeout_triggered(item_id, min(from_ms, end_ms), end_ms))
        item = user_audio(item_id, self._buffer.take())
        assert item.content is not None
        item.content[0].words = Words("")
        self._commit(item)

    def commit(self) -> None:
        """Raises RequestError if there is less than 100 ms to commit."""
        if self._buffer.pending_ms < SHORTEST_COMMIT_MS:
            raise commit_empty(self._buffer.pending_ms)
        item_id = self._speech or ItemId(self._new_id("item"))
        if self._speech is not None:
            self._speech = ItemId(self._new_id("item"))
        pcm = self._buffer.take()
        self._commit(user_audio(item_id, pcm))
        self._outbox.put(Transcribe(item_id, pcm))

    def clear(self) -> None:
        self._buffer.clear()
        self._outbox.send(events.input_cleared())

    def add(self, item: Item, after: str | None = None) -> None:
        """Put a complete item into the conversation; untold audio in it is transcribed."""
        found = item.part("input_audio")
        # Taken before the conversation may forget it.
        untold = found[1].audio if found is not None and found[1].words is None else None
        previous = self._conversation.add(item, after)
        self._announce(item, previous)
        if untold:
            self._outbox.put(Transcribe(item.id, untold.pcm))

    def transcript_delta(self, item_id: str, delta: str, logprobs: Logprobs) -> None:
        if self._transcribing and (found := self._audio_of(item_id)) is not None:
            sure = logprobs if self._weighing else ()
            self._outbox.send(events.transcription_delta(item_id, found[0], delta, sure))

    def transcript_completed(
        self, item_id: str, transcript: str, audio_s: float, logprobs: Logprobs
    ) -> None:
        if (found := self._audio_of(item_id)) is None:
            return
        index, part = found
        part.words = Words(transcript)
        if self._transcribing:
            sure = logprobs if self._weighing else ()
            self._outbox.send(
                events.transcription_completed(item_id, index, transcript, audio_s, sure)
            )

    def transcript_failed(self, item_id: str, message: str) -> None:
        if self._transcribing and (found := self._audio_of(item_id)) is not None:
            self._outbox.send(events.transcription_failed(item_id, found[0], message))

    def _commit(self, item: Item) -> None:
        previous = self._conversation.add(item)
        self._outbox.send(events.input_committed(item.id, previous))
        self._announce(item, previous)

    def _announce(self, item: Item, previous: str | None) -> None:
        self._outbox.send(events.item_added(item.as_dict(), previous))
        self._outbox.send(events.item_done(item.as_dict(), previous))

    def _audio_of(self, item_id: str) -> tuple[int, Part] | None:
        item = self._conversation.get(item_id)
        return None if item is None else item.part("input_audio")
