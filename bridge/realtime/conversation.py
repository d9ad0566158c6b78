"""The conversation: items in order, and how much of their audio is still kept."""

from collections.abc import Iterator

from bridge.errors import RequestError
from bridge.realtime.errors import (
    duplicate_item,
    item_not_found,
    not_truncatable,
    unknown_tool_call,
)
from bridge.realtime.input_buffer import SAMPLES_PER_MS
from bridge.realtime.items import Item, Part
from bridge.realtime.outputs import Pcm
from bridge.realtime.sound import Sound

MAX_ITEMS = 10_000
MAX_SIZE = 64 * 1024 * 1024  # characters that clients may add: some four images of the largest size


class Conversation:
    """Audio beyond `kept_audio_s` is forgotten, that of the oldest item first; words stay. What the
    model says is kept for clients only, `has_clients` from the first one on."""

    def __init__(self, *, conversation_id: str, kept_audio_s: float) -> None:
        self.id = conversation_id
        self.has_clients = False
        self._items: dict[str, Item] = {}
        self._order: list[str] = []
        self._sizes: dict[str, int] = {}
        self._audio: dict[int, Part] = {}
        self._kept_samples = 0
        self._most_samples = int(kept_audio_s * 1000) * SAMPLES_PER_MS

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._items

    def __iter__(self) -> Iterator[Item]:
        return (self._items[item_id] for item_id in self._order)

    def get(self, item_id: str) -> Item | None:
        return self._items.get(item_id)

    def find(self, item_id: str, param: str = "item_id") -> Item:
        """Raises RequestError naming `param` if there is no such item."""
        if (item := self._items.get(item_id)) is None:
            raise item_not_found(item_id, param)
        return item

    def check(self, item: Item, *, param: str = "item") -> None:
        """Raises RequestError if this item may not be added."""
        if item.id in self._items:
            raise duplicate_item(item.id, f"{param}.id")
        if len(self._order) >= MAX_ITEMS:
            raise RequestError(
                f"The conversation is full: it holds {MAX_ITEMS} items.", param=param
            )
        if sum(self._sizes.values()) + item.size > MAX_SIZE:
            raise RequestError("The conversation is full: delete items first.", param=param)
        if item.type == "function_call_output" and not any(
            other.type == "function_call" and other.members["call_id"] == item.members["call_id"]
            for other in self._items.values()
        ):
            raise unknown_tool_call(item.members["call_id"], f"{param}.call_id")
        if item.type == "mcp_approval_response":
            self._check_approval(item.members["approval_request_id"], param)

    def _check_approval(self, request_id: str, param: str) -> None:
        request = self._items.get(request_id)
        if request is None or request.type != "mcp_approval_request":
            raise item_not_found(request_id, f"{param}.approval_request_id")
        if any(
            other.type == "mcp_approval_response"
            and other.members["approval_request_id"] == request_id
            for other in self._items.values()
        ):
            raise RequestError(
                f"The request '{request_id[:64]}' has been answered already.",
                param=f"{param}.approval_request_id",
            )

    def add(self, item: Item, after: str | None = None) -> str | None:
        """Put `item` behind the item `after`, first if that is "root", last if None.

        Returns the id of the item before it. Raises RequestError if `after` is unknown.
        """
        if after is None:
            place = len(self._order)
        elif after == "root":
            place = 0
        else:
            place = self._order.index(self.find(after, "previous_item_id").id) + 1
        self._order.insert(place, item.id)
        self._items[item.id] = item
        self._sizes[item.id] = item.size
        for part in item.content or ():
            if part.audio:
                self._keep(part, len(part.audio))
        return self._order[place - 1] if place else None

    def previous_id(self, item_id: str) -> str | None:
        place = self._order.index(item_id)
        return self._order[place - 1] if place else None

    def delete(self, item_id: str) -> None:
        item = self._items.pop(item_id)
        del self._sizes[item_id]
        self._order.remove(item_id)
        for part in item.content or ():
            self._forget(part)

    def extend_audio(self, item: Item, part: Part, pcm: Pcm) -> None:
        """More sound of the message in progress."""
        if part.cut:
            return
        if part.samples == 0 and self.has_clients and item.id in self._items:
            part.audio = Sound()
        if part.audio is not None:
            part.audio.add(pcm)
            self._keep(part, len(pcm))
        part.samples += len(pcm)

    def truncate(self, item: Item, audio_ms: int) -> int:
        """Forget what comes after `audio_ms` of an assistant's audio: sound and words.

        Returns where it really ends. Raises RequestError if it is no such audio.
        """
        found = item.part("output_audio")
        if found is None or item.members.get("role") != "assistant":
            raise not_truncatable()
        _, part = found
        end_ms = min(audio_ms, part.audio_ms)
        if part.words is not None:
            part.words.cut(end_ms, part.audio_ms)
        part.samples = min(part.samples, end_ms * SAMPLES_PER_MS)
        part.cut = True
        if part.audio is not None:
            self._kept_samples -= part.audio.cut(part.samples)
        return end_ms

    def _keep(self, part: Part, grown: int) -> None:
        self._audio[id(part)] = part
        self._kept_samples += grown
        while self._kept_samples > self._most_samples:
            self._forget(next(iter(self._audio.values())))

    def _forget(self, part: Part) -> None:
        if self._audio.pop(id(part), None) is not None and part.audio is not None:
            self._kept_samples -= len(part.audio)
        part.audio = None
