"""What of a conversation fits a model's context: the session's `truncation`."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from bridge.realtime.errors import context_too_long
from bridge.realtime.items import Item

MAX_INPUT_TOKENS = 28_672  # gpt-realtime's: a context of 32 768 less the 4 096 of an answer


def prompt_tokens(instructions: str, tools: Iterable[Mapping[str, Any]]) -> int:
    """About four characters each."""
    sizes = [len(instructions), *(len(msgspec.json.encode(tool)) for tool in tools)]
    return sum(-(-size // 4) for size in sizes)


class Window:
    """What has left the window stays out, so that a prompt cache keeps its prefix."""

    def __init__(self, max_input_tokens: int) -> None:
        self._most = max_input_tokens
        self._left: set[str] = set()

    def fit(self, items: Iterable[Item], truncation: Any, prompt: int) -> tuple[Item, ...]:
        """The newest of `items` that fit beside `prompt` tokens; the last one always does.

        Raises RequestError if they do not all fit and truncation is disabled.
        """
        complete = [item for item in items if item.status != "in_progress"]
        self._left.intersection_update(item.id for item in complete)
        kept = [item for item in complete if item.id not in self._left]
        total = sum(item.tokens for item in kept)
        limit, ratio = _bounds(truncation, max(0, self._most - prompt))
        if total <= limit:
            return tuple(kept)
        if truncation == "disabled":
            raise context_too_long(total, limit)
        first = 0
        while total > limit * ratio and first < len(kept) - 1:
            total -= kept[first].tokens
            first += 1
        kept = _without_orphans(kept[first:], kept[:first])
        self._left.update({item.id for item in complete} - {item.id for item in kept})
        return tuple(kept)


def _bounds(truncation: Any, room: int) -> tuple[int, float]:
    """Tokens that make it shrink, and the share of them that may stay."""
    if not isinstance(truncation, Mapping):
        return room, 1.0
    asked = (truncation.get("token_limits") or {}).get("post_instructions")
    return room if asked is None else min(room, asked), truncation["retention_ratio"]


def _without_orphans(kept: list[Item], dropped: list[Item]) -> list[Item]:
    """Chat models refuse the output of a call that they cannot see."""
    calls = {item.members["call_id"] for item in dropped if item.type == "function_call"}
    return [
        item
        for item in kept
        if item.type != "function_call_output" or item.members["call_id"] not in calls
    ]
