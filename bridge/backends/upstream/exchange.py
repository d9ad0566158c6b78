"""One response that was asked for: what came of it, and how to ask for the rest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.backends.base import MODEL_RATE, Generate
from bridge.backends.upstream.dialects import Dialect

MAX_RESUMED = 2
MAX_AUDIO_S = 900
CHARACTERS_PER_SECOND = 16

GO_ON = (
    "Your last message was cut off by a technical fault. The caller has heard this much of it:\n"
    "{said}\nGo on exactly where it stops. Do not repeat anything and do not apologise."
)


@dataclass(slots=True)
class Exchange:
    request: Generate
    upstream_id: str | None = None
    asked: bool = False
    cancelled: bool = False
    item_id: str = ""
    """Of our assistant message."""
    upstream_item: str = ""
    text: str = ""
    told_chars: int = 0
    """Of the upstream's present message."""
    samples: int = 0
    odd: bytes = b""
    calls: set[str] = field(default_factory=set)
    message_done: bool = False
    sounding: bool = False
    """The connection is in the middle of a message that is spoken."""
    resumed: int = 0

    @property
    def audio_ms(self) -> int:
        return self.samples * 1000 // MODEL_RATE

    @property
    def whole(self) -> bool:
        """Nothing is missing but the word that it is done."""
        return self.message_done or bool(self.calls and not self.text and not self.samples)

    @property
    def begun(self) -> bool:
        return bool(self.text or self.samples)

    def suspend(self) -> None:
        """The connection that was to answer is lost."""
        self.upstream_id = None
        self.asked = False
        self.upstream_item = ""
        self.told_chars = 0
        self.odd = b""
        self.sounding = False

    @property
    def said(self) -> str:
        """As many of its words as the sound that came can have held."""
        if not self.samples:
            return self.text
        most = self.samples * CHARACTERS_PER_SECOND // MODEL_RATE
        if most >= len(self.text):
            return self.text
        return self.text[:most].rpartition(" ")[0]

    def order(self, dialect: Dialect, session: Mapping[str, Any]) -> dict[str, Any]:
        """The response.create; what is as the `session` has it is not repeated."""
        request = self.request
        wanted: dict[str, Any] = {}
        instructions = request.instructions
        if self.begun:
            instructions = f"{instructions}\n\n{GO_ON.format(said=self.said)}".strip()
        if instructions != session.get("instructions"):
            wanted["instructions"] = instructions
        if list(request.output_modalities) != session.get("output_modalities"):
            wanted["output_modalities"] = list(request.output_modalities)
        if [dict(tool) for tool in request.tools] != session.get("tools"):
            wanted["tools"] = [dict(tool) for tool in request.tools]
        if request.tool_choice != session.get("tool_choice"):
            wanted["tool_choice"] = request.tool_choice
        if request.max_output_tokens is not None:
            wanted["max_output_tokens"] = request.max_output_tokens
        wanted = {name: v for name, v in wanted.items() if name in dialect.response_fields}
        if dialect.old_names and (modalities := wanted.pop("output_modalities", None)):
            wanted["modalities"] = ["text", *modalities] if "audio" in modalities else ["text"]
        if dialect.out_of_band and not request.in_conversation:
            wanted["conversation"] = "none"
        if dialect.echoes_metadata:
            wanted["metadata"] = {"response": request.response_id}
        event: dict[str, Any] = {"type": "response.create", "event_id": request.response_id}
        if wanted:
            event["response"] = wanted
        return event
