"""The conversation as the upstream has it: which items, by which names, and how to change them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.backends.upstream.dialects import Dialect
from bridge.backends.upstream.session import words

Message = dict[str, Any]

MAX_ID = 32  # OpenAI's limit for the names that clients choose


_COPIED: Mapping[str, tuple[str, ...]] = {
    "function_call": ("type", "call_id", "name", "arguments"),
    "function_call_output": ("type", "call_id", "output"),
}


@dataclass(slots=True)
class _Known:
    name: str
    base_ms: int = 0
    """Where in our item theirs begins: an answer may have been begun by a lost connection."""
    copied: bool = False
    """We wrote it: it is text there, whatever it was."""


class Mirror:
    """Of one connection. Every verb returns what must be sent."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._takes_assistant = dialect.takes_assistant_items
        self._known: dict[str, _Known] = {}
        self._ours: dict[str, str] = {}

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._known

    def ours(self, name: str) -> str | None:
        """Our id of their item."""
        return self._ours.get(name)

    def input(self, items: Sequence[Mapping[str, Any]]) -> list[Message]:
        """Items given for one response."""
        return [copy for item in items if (copy := self._copy(item)) is not None]

    def bind(self, item_id: str, name: str, *, base_ms: int = 0) -> None:
        """Theirs is the sound or call of our item."""
        self._known[item_id] = _Known(name, base_ms)
        self._ours[name] = item_id

    def create(self, item: Mapping[str, Any], previous: str | None = None) -> list[Message]:
        """Give them our item; nothing for one that they have or cannot take."""
        item_id = item["id"]
        if item_id in self._known:
            return []
        copy = self._copy(item)
        if copy is None:
            return []
        message: Message = {"type": "conversation.item.create", "item": copy}
        if self._dialect.takes_ids:
            if len(item_id) <= MAX_ID:
                copy["id"] = item_id
            before = self._known.get(previous or "")
            if before is not None:
                message["previous_item_id"] = before.name
            elif previous == "root":
                message["previous_item_id"] = "root"
        self._known[item_id] = _Known(copy.get("id", ""), copied=True)
        return [message]

    def delete(self, item_id: str) -> list[Message]:
        known = self._known.pop(item_id, None)
        if known is None or not known.name or not self._dialect.deletes:
            return []
        return [{"type": "conversation.item.delete", "item_id": known.name}]

    def truncate(self, item: Mapping[str, Any], audio_end_ms: int) -> list[Message]:
        """`item` is ours as it was heard."""
        known = self._known.get(item["id"])
        if known is None or not known.name:
            return []
        heard_ms = audio_end_ms - known.base_ms
        if known.copied or heard_ms <= 0:
            return [*self.delete(item["id"]), *self.create(item)]
        if self._dialect.truncates:
            end = {"item_id": known.name, "content_index": 0, "audio_end_ms": heard_ms}
            return [{"type": "conversation.item.truncate", **end}]
        if self._dialect.deletes and self._takes_assistant:
            return [*self.delete(item["id"]), *self.create(item)]
        return []

    def _copy(self, item: Mapping[str, Any]) -> Message | None:
        kind = item.get("type", "")
        if kind == "message":
            return self._copy_message(item)
        if kind not in _COPIED or (kind == "function_call" and not self._takes_assistant):
            return None
        return {name: item[name] for name in _COPIED[kind]}

    def _copy_message(self, item: Mapping[str, Any]) -> Message | None:
        role = item.get("role")
        if role == "assistant":
            if not self._takes_assistant or not (said := words(item)):
                return None
            kind = "text" if self._dialect.old_names else "output_text"
            content = [{"type": kind, "text": said}]
        else:
            content = [part for each in item.get("content") or () if (part := self._part(each))]
        if not content:
            return None
        if role == "system" and not self._dialect.takes_system_items:
            role = "user"
        return {"type": "message", "role": role, "content": content}

    def _part(self, part: Mapping[str, Any]) -> Message | None:
        said = part.get("text") or part.get("transcript")
        if said:
            return {"type": "input_text", "text": said}
        if part.get("audio") and self._dialect.takes_audio_items:
            return {"type": "input_audio", "audio": part["audio"]}
        return dict(part) if part.get("type") == "input_image" else None
