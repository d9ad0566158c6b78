"""Conversation items: what a client may create, what the model makes, and their wire shapes."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pybase64

from bridge.errors import RequestError
from bridge.ids import ItemId
from bridge.realtime.fields import (
    Reader,
    array_of,
    as_array,
    as_bool,
    as_name,
    as_object,
    as_text,
    integer,
    missing,
    nullable,
    one_of,
    out_of_range,
    record,
    unsupported,
)
from bridge.realtime.input_buffer import SAMPLES_PER_MS
from bridge.realtime.outputs import Pcm
from bridge.realtime.sound import Sound

# Speech hardly exceeds it: a bound for text that the model wrote ahead of its sound.
CHARACTERS_PER_SECOND = 30
USUAL_CHARACTERS_PER_SECOND = 15
LEARNT_FROM_MS = 1000  # of speech, how fast this voice is
MAX_PARTS = 256


@dataclass(slots=True)
class Words:
    """Growing text with the audio position at which each stretch began."""

    text: str = ""
    growing: bool = False
    """More sound of it comes, or would have."""
    _pieces: list[str] = field(default_factory=list)
    _length: int = 0
    _ms: list[int] = field(default_factory=list)
    _at: list[int] = field(default_factory=list)
    _timed: bool = False

    def add(self, delta: str, audio_ms: int, *, timed: bool = False) -> None:
        """`timed`: it is known to begin there, ahead of the sound that there is or not; else at the
        soonest."""
        self._timed = self._timed or timed
        if not self._ms or self._ms[-1] < audio_ms:
            self._ms.append(audio_ms)
            self._at.append(self._length)
        self._pieces.append(delta)
        self._length += len(delta)

    def __str__(self) -> str:
        if self._pieces:
            self.text += "".join(self._pieces)
            self._pieces.clear()
        return self.text

    def cut(self, played_ms: int, audio_ms: int) -> None:
        """Keep the whole words that fit into the first `played_ms` of `audio_ms`."""
        text = str(self)
        n = bisect_right(self._ms, played_ms)
        keep = 0
        if n:
            begin_ms, begin = self._ms[n - 1], self._at[n - 1]
            last = n == len(self._ms)
            end_ms, end = (audio_ms, len(text)) if last else (self._ms[n], self._at[n])
            if last and self.growing:
                end_ms = max(end_ms, begin_ms + int((end - begin) / self._rate(n) * 1000))
            share = min(1.0, (played_ms - begin_ms) / max(1, end_ms - begin_ms))
            keep = begin + int((end - begin) * share)
            if not self._timed and (self.growing or not last or played_ms < audio_ms):
                keep = min(keep, played_ms * CHARACTERS_PER_SECOND // 1000)
        if keep < len(text) and not text[keep].isspace():
            space = text.rfind(" ", 0, keep)
            # A script without spaces is cut between characters.
            keep = space if space >= 0 else (keep if not text[:keep].isascii() else 0)
        self.text = text[:keep].rstrip()
        self._length = len(self.text)
        kept = bisect_right(self._at, self._length)
        del self._at[kept:], self._ms[kept:]

    def _rate(self, n: int) -> float:
        """Characters a second: of the first `n` - 1 stretches if they tell, or of most voices."""
        ms, characters = self._ms[n - 1], self._at[n - 1]
        if ms < LEARNT_FROM_MS:
            return USUAL_CHARACTERS_PER_SECOND
        slowest, fastest = USUAL_CHARACTERS_PER_SECOND / 3, CHARACTERS_PER_SECOND
        return min(max(characters / ms * 1000, slowest), fastest)


@dataclass(slots=True)
class Part:
    """One content part. `words` is the text, or the transcript of audio once it is known."""

    type: str
    words: Words | None = None
    image: dict[str, Any] | None = None
    samples: int = 0
    audio: Sound | None = None
    cut: bool = False
    """Truncated: what the model still says of it is nobody's words."""

    @property
    def audio_ms(self) -> int:
        return self.samples // SAMPLES_PER_MS

    def as_dict(self, *, audio: bool = False) -> dict[str, Any]:
        text = None if self.words is None else str(self.words)
        if self.image is not None:
            return {"type": self.type, **self.image}
        if self.type in ("input_text", "output_text"):
            return {"type": self.type, "text": text or ""}
        # agents-realtime throws on a user's audio without the key transcript.
        part: dict[str, Any] = {"type": self.type, "transcript": text}
        if audio and self.audio:
            part["audio"] = pybase64.b64encode(self.audio.pcm.data).decode("ascii")
        return part


@dataclass(slots=True)
class Item:
    """`members` are the wire members besides id, object, type, status and content."""

    id: ItemId
    type: str
    members: dict[str, Any]
    content: list[Part] | None = None
    status: str = "completed"
    tool_call_id: str = ""
    """The model's own id of an mcp_call or of what asks for one; not on the wire."""
    unheard: bool = False
    """Nothing of it reached the listener: it leaves the conversation when it is complete."""

    def as_dict(self, *, audio: bool = False) -> dict[str, Any]:
        item: dict[str, Any] = {"id": self.id, "object": "realtime.item", "type": self.type}
        if self.type in _STATEFUL:
            item["status"] = self.status
        item |= self.members
        if self.content is not None:
            item["content"] = [part.as_dict(audio=audio) for part in self.content]
        return item

    def part(self, *types: str) -> tuple[int, Part] | None:
        """The first content part of one of `types`, and its index."""
        for index, part in enumerate(self.content or ()):
            if part.type in types:
                return index, part
        return None

    @property
    def size(self) -> int:
        """Characters of text and images."""
        kept = [str(part.words or "") for part in self.content or ()]
        kept += [part.image["image_url"] for part in self.content or () if part.image]
        return sum(map(len, kept)) + len(msgspec.json.encode(self.members))

    @property
    def tokens(self) -> int:
        return self.audio_tokens + self.text_tokens

    @property
    def audio_tokens(self) -> int:
        """1 token per 100 ms of a user's audio, per 50 ms of the assistant's."""
        return sum(
            -(-part.audio_ms // (50 if part.type == "output_audio" else 100))
            for part in self.content or ()
        )

    @property
    def text_tokens(self) -> int:
        """About four characters each."""
        texts = [str(p.words or "") for p in self.content or () if p.type != "input_audio"]
        texts += [v for k, v in self.members.items() if v and k in ("arguments", "output", "name")]
        return sum(-(-len(text) // 4) for text in texts)


_STATEFUL = ("message", "function_call", "function_call_output")


def user_audio(item_id: ItemId, pcm: Pcm) -> Item:
    return Item(item_id, "message", {"role": "user"}, [_heard(pcm.copy())])


def user_text(item_id: ItemId, text: str) -> Item:
    return Item(item_id, "message", {"role": "user"}, [Part("input_text", Words(text))])


def system_text(item_id: ItemId, text: str) -> Item:
    return Item(item_id, "message", {"role": "system"}, [Part("input_text", Words(text))])


def assistant_message(item_id: ItemId, part: Part) -> Item:
    return Item(item_id, "message", {"role": "assistant"}, [part], "in_progress")


def mcp_call(item_id: ItemId, tool_call_id: str, label: str, name: str) -> Item:
    members = {"server_label": label, "name": name, "arguments": "", "approval_request_id": None}
    return Item(item_id, "mcp_call", members, tool_call_id=tool_call_id)


def mcp_approval_request(
    item_id: ItemId, tool_call_id: str, label: str, name: str, arguments: str
) -> Item:
    members = {"server_label": label, "name": name, "arguments": arguments}
    return Item(item_id, "mcp_approval_request", members, tool_call_id=tool_call_id)


def function_call(item_id: ItemId, tool_call_id: str, name: str) -> Item:
    members = {"call_id": tool_call_id, "name": name, "arguments": ""}
    return Item(item_id, "function_call", members, None, "in_progress")


Decode = Callable[[str, str], Pcm]
"""Base64 text and its dotted path to samples; raises RequestError."""

_PARTS: Mapping[str, Sequence[str]] = {
    "system": ("input_text",),
    "user": ("input_text", "input_audio", "input_image"),
    # Audio of the assistant cannot be created; `text` is the beta's name of output_text.
    "assistant": ("output_text", "text"),
}
_listed_tool = record(
    {
        "name": as_name,
        "input_schema": as_object,
        "description": nullable(as_text),
        "annotations": nullable(as_object),
    },
    required=("name", "input_schema"),
)
_ERRORS: Mapping[str, Reader] = {
    "protocol_error": record(
        {"type": as_text, "code": integer(-(2**31), 2**31), "message": as_text},
        required=("code", "message"),
    ),
    "tool_execution_error": record({"type": as_text, "message": as_text}, required=("message",)),
    "http_error": record(
        {"type": as_text, "code": integer(100, 999), "message": as_text},
        required=("code", "message"),
    ),
}


def _mcp_error(value: Any, path: str) -> dict[str, Any]:
    found = as_object(value, path)
    if "type" not in found:
        raise missing(f"{path}.type")
    error: dict[str, Any] = _ERRORS[one_of(*_ERRORS)(found["type"], f"{path}.type")](found, path)
    return error


_OTHERS: Mapping[str, tuple[dict[str, Reader], tuple[str, ...]]] = {
    "function_call": (
        {"name": as_name, "arguments": as_text, "call_id": as_name},
        ("name", "arguments"),
    ),
    "function_call_output": (
        {"call_id": as_name, "output": as_text},
        ("call_id", "output"),
    ),
    "mcp_approval_response": (
        {"approval_request_id": as_name, "approve": as_bool, "reason": nullable(as_text)},
        ("approval_request_id", "approve"),
    ),
    "mcp_approval_request": (
        {"server_label": as_name, "name": as_name, "arguments": as_text},
        ("server_label", "name", "arguments"),
    ),
    "mcp_list_tools": (
        {"server_label": as_name, "tools": array_of(_listed_tool, most=1024)},
        ("server_label", "tools"),
    ),
    "mcp_call": (
        {
            "server_label": as_name,
            "name": as_name,
            "arguments": as_text,
            "approval_request_id": nullable(as_name),
            "output": nullable(as_text),
            "error": nullable(_mcp_error),
        },
        ("server_label", "name", "arguments"),
    ),
}
ITEM_TYPES = ("message", *_OTHERS)
_status = one_of("completed", "incomplete", "in_progress")


def parse_item(value: Any, path: str, *, new_id: Callable[[str], str], decode: Decode) -> Item:
    """The item a client asks for; without an `id` it gets a new one.

    Raises:
        RequestError: with the dotted name of what is wrong.
    """
    found = as_object(value, path)
    if "type" not in found:
        raise missing(f"{path}.type")
    kind = one_of(*ITEM_TYPES)(found["type"], f"{path}.type")
    given = found.get("id")
    item_id = new_id("item") if given is None else as_name(given, f"{path}.id")
    if found.get("status") is not None:
        _status(found["status"], f"{path}.status")
    if kind == "message":
        return _parse_message(ItemId(item_id), found, path, decode)
    readers, required = _OTHERS[kind]
    members = record(readers, required=required, extra=True)(found, path)
    if kind == "function_call":
        members.setdefault("call_id", new_id("call"))
    return Item(ItemId(item_id), kind, members)


def _parse_message(item_id: ItemId, found: Mapping[str, Any], path: str, decode: Decode) -> Item:
    for name in ("role", "content"):
        if name not in found:
            raise missing(f"{path}.{name}")
    role = one_of(*_PARTS)(found["role"], f"{path}.role")
    content = as_array(found["content"], f"{path}.content")
    if len(content) > MAX_PARTS:
        raise out_of_range(f"{path}.content", f"expected at most {MAX_PARTS} parts")
    parts = [
        _parse_part(part, f"{path}.content[{n}]", _PARTS[role], decode)
        for n, part in enumerate(content)
    ]
    return Item(item_id, "message", {"role": role}, parts)


def _parse_part(value: Any, path: str, allowed: Sequence[str], decode: Decode) -> Part:
    found = as_object(value, path)
    if "type" not in found:
        raise missing(f"{path}.type")
    kind = as_text(found["type"], f"{path}.type")
    if kind not in allowed:
        raise unsupported(f"{path}.type", kind, [name for name in allowed if name != "text"])
    if kind == "input_audio":
        return _parse_audio(found, path, decode)
    if kind == "input_image":
        return Part(kind, image=_parse_image(found, path))
    if "text" not in found:
        raise missing(f"{path}.text")
    kind = "output_text" if kind == "text" else kind
    return Part(kind, Words(as_text(found["text"], f"{path}.text")))


def _parse_audio(found: Mapping[str, Any], path: str, decode: Decode) -> Part:
    transcript = nullable(as_text)(found.get("transcript"), f"{path}.transcript")
    words = None if transcript is None else Words(transcript)
    if found.get("audio") is None:
        if words is None:
            raise missing(f"{path}.audio")
        return Part("input_audio", words)
    if not isinstance(found["audio"], str):
        as_text(found["audio"], f"{path}.audio")
    pcm = decode(found["audio"], f"{path}.audio")
    return _heard(pcm, words)


def _heard(pcm: Pcm, words: Words | None = None) -> Part:
    sound = Sound()
    sound.add(pcm)
    return Part("input_audio", words, samples=len(pcm), audio=sound)


def _parse_image(found: Mapping[str, Any], path: str) -> dict[str, Any]:
    url = found.get("image_url")
    if url is None:
        raise missing(f"{path}.image_url")
    if not isinstance(url, str):
        as_text(url, f"{path}.image_url")
    if not url.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")):
        raise RequestError(
            f"Invalid '{path}.image_url': expected a data URI of a PNG or JPEG image.",
            param=f"{path}.image_url",
        )
    image = {"image_url": url}
    if found.get("detail") is not None:
        image["detail"] = one_of("auto", "low", "high")(found["detail"], f"{path}.detail")
    return image
