"""What of the model's sound is in a call's playout, and what becomes of it when it is cut.

Clearing takes a turn of the owner: ClearPlayout goes out, a cut comes back for each message that
was not fully heard, and only then is it known what the conversation contains. Whatever must come
after that waits until the playout has settled.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bridge.realtime import server_events as events
from bridge.realtime.conversation import Conversation
from bridge.realtime.items import Item
from bridge.realtime.outbox import Outbox
from bridge.realtime.outputs import ClearPlayout, Coded, FinishPlay, Pcm, Play
from bridge.realtime.response import Response


@dataclass(slots=True)
class _Playing:
    response: Response
    item: Item
    finished: bool = False


class Playback:
    def __init__(self, conversation: Conversation, outbox: Outbox) -> None:
        self._conversation = conversation
        self._outbox = outbox
        self._playing: dict[str, _Playing] = {}
        self._muted: set[str] = set()
        self._clearing: set[str] = set()
        self._waiting: list[Callable[[], None]] = []

    @property
    def busy(self) -> bool:
        """Something is still to be heard."""
        return bool(self._playing)

    def play(self, response: Response, item_id: str, pcm: Pcm, coded: Coded | None) -> None:
        if item_id in self._muted:
            return
        if item_id not in self._playing and response.message is not None:
            self._playing[item_id] = _Playing(response, response.message)
        self._outbox.put(Play(item_id, pcm, coded))

    def finish(self, response: Response) -> None:
        """The response is complete: no more sound of it will come."""
        for item in response.output:
            self.finish_item(item.id)

    def finish_item(self, item_id: str) -> None:
        """Idempotent."""
        self._muted.discard(item_id)
        playing = self._playing.get(item_id)
        if playing is not None and not playing.finished:
            playing.finished = True
            self._outbox.put(FinishPlay(item_id))

    def clear(self) -> None:
        """Silence the playout, if it has anything to say."""
        if self._playing and not self._clearing:
            self._clearing = set(self._playing)
            self._outbox.put(ClearPlayout())

    def when_settled(self, then: Callable[[], None]) -> None:
        """Run `then` once it is known what was heard: now, unless a clear is under way."""
        self._waiting.append(then)
        self._settle()

    def started(self, key: str) -> None:
        if (playing := self._playing.get(key)) is not None:
            self._outbox.send(events.output_started(playing.response.id))

    def finished(self, key: str) -> None:
        if (playing := self._playing.pop(key, None)) is not None:
            self._outbox.send(events.output_stopped(playing.response.id))
            self._clearing.discard(key)
            self._settle()

    def cut(self, key: str, played_ms: int) -> None:
        playing = self._playing.pop(key, None)
        if playing is None:
            return
        item, response = playing.item, playing.response
        if item.status == "in_progress":
            self._muted.add(key)
        self._outbox.send(events.output_cleared(response.id))
        if item.id in self._conversation:
            self._shorten(item, played_ms)
        self._clearing.discard(key)
        self._settle()

    def cleared(self) -> None:
        """All cuts were told: what had none was heard as far as it was written."""
        for key in list(self._clearing):
            part = self._playing[key].item.part("output_audio")
            self.cut(key, part[1].audio_ms if part else 0)

    def _shorten(self, item: Item, played_ms: int) -> None:
        if played_ms > 0:
            audio_end_ms = self._conversation.truncate(item, played_ms)
            self._outbox.send(events.item_truncated(item.id, audio_end_ms))
        elif item.status == "in_progress":
            # It leaves when it is closed: clients add an item again when they see it done.
            item.unheard = True
        else:
            self._conversation.delete(item.id)
            self._outbox.send(events.item_deleted(item.id))

    def _settle(self) -> None:
        while self._waiting and not self._clearing:
            self._waiting.pop(0)()
