"""What a voice model is to a session: a capability set, verbs to call, events to hear."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bridge.ids import ItemId, ResponseId, ToolCallId

MODEL_RATE = 24_000  # samples per second of all audio between a session and its backend

Pcm = NDArray[np.int16]
"""Mono samples at MODEL_RATE, shape (samples,)."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this model does itself; the session fills in or refuses the rest."""

    turn_detection: frozenset[str] = frozenset()
    """Kinds of turn detection it runs: "server_vad", "semantic_vad"."""
    transcribes: bool = False
    """Answers `transcribe` with TranscriptCompleted or TranscriptFailed."""
    hears_dtmf: bool = False
    """A pressed key is a user turn to it."""
    greets: bool = False
    """Has something to say before the caller does, without being told what."""
    loops_audio: bool = False
    """Emits LoopAudio for what it hears, outside any response."""
    answers_turns: bool = False
    """Begins the response to a turn itself, and tells by ResponseBegun."""
    times_turns: bool = False
    """Tells by TurnTimed what the caller waited for."""
    patient: bool = False
    """While there is little time, a caller may come 100 ms at a time in the midst of speech."""
    max_input_tokens: int = 28_672
    """Of one request; older items are left out by the session's `truncation`."""


@dataclass(frozen=True, slots=True)
class Generate:
    """One response to produce. `items` is the conversation so far, in wire shape, oldest first."""

    response_id: ResponseId
    items: tuple[Mapping[str, Any], ...]
    instructions: str = ""
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: Any = "auto"
    output_modalities: tuple[str, ...] = ("audio",)
    voice: str = ""
    speed: float = 1.0
    max_output_tokens: int | None = None
    in_conversation: bool = True
    """False: what it says does not become part of the conversation."""
    own_input: bool = False
    """`items` were given for this response; they are not the conversation's."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """`audio_ms`: where the speech began, on the clock of all audio pushed, prefix included."""

    audio_ms: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """`audio_ms`: the end of the turn, trailing silence included."""

    audio_ms: int


Logprobs = tuple[Mapping[str, Any], ...]
"""Of the tokens heard: `token`, `logprob` and `bytes` of each; none where they are not known."""


@dataclass(frozen=True, slots=True)
class TranscriptDelta:
    item_id: ItemId
    delta: str
    logprobs: Logprobs = ()


@dataclass(frozen=True, slots=True)
class TranscriptCompleted:
    item_id: ItemId
    transcript: str
    audio_s: float
    logprobs: Logprobs = ()


@dataclass(frozen=True, slots=True)
class TranscriptFailed:
    item_id: ItemId
    message: str


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Words of the assistant message: the transcript of its audio, or its text."""

    response_id: ResponseId
    delta: str
    audio_ms: float | None = None
    """Where in the message's audio they begin; None: with the sound that comes next."""


@dataclass(frozen=True, slots=True)
class AudioDelta:
    """Sound of the assistant message, faster than real time if the model can."""

    response_id: ResponseId
    pcm: Pcm
    coded: tuple[bytes, str] | None = None
    """What it was decoded from, if that is G.711: the octets, and "PCMU" or "PCMA"."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A whole function call; `arguments` is JSON text."""

    response_id: ResponseId
    tool_call_id: ToolCallId
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ResponseFinished:
    """`reason`: None, "max_output_tokens" or "content_filter". Usage may be empty."""

    response_id: ResponseId
    reason: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResponseFailed:
    response_id: ResponseId
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ResponseBegun:
    """The model speaks unasked: `generate` is called before this returns, unless one is active."""


@dataclass(frozen=True, slots=True)
class Relay:
    """A server event in wire shape that needs no more than to reach all clients."""

    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LoopAudio:
    pcm: Pcm


@dataclass(frozen=True, slots=True)
class CallAction:
    """Once everything said before it has been played: "hangup", or "transfer" to `target`."""

    response_id: ResponseId
    action: str = "hangup"
    target: str = ""
    returns: bool = True
    """Whether the model is there to hear that a transfer failed; if not, the call ends then."""


@dataclass(frozen=True, slots=True)
class MessageTerms:
    """What ends the recording of what a caller says, and how little of it is none."""

    min_s: float
    max_s: float
    silence_s: float
    finish: str
    """Keys."""


@dataclass(frozen=True, slots=True)
class TakeMessage:
    """Once everything said before it has been played: a tone, and the caller is recorded.

    How it went comes as an item of the system's: "[message taken]", "[message too short]" or
    "[message failed]".
    """

    response_id: ResponseId
    terms: MessageTerms


@dataclass(frozen=True, slots=True)
class Aside:
    """Sound that is no part of a response, all of it; without samples: no more of such."""

    pcm: Pcm


@dataclass(frozen=True, slots=True)
class HoldPlayout:
    """Pause what the caller hears, or go on from the same sample; clients are told nothing."""

    held: bool


@dataclass(frozen=True, slots=True)
class TurnTimed:
    """Where the time between the caller's last word and the answer went, in milliseconds."""

    record: Mapping[str, Any]


ListeningEvent = (
    SpeechStarted | SpeechStopped | TranscriptDelta | TranscriptCompleted | TranscriptFailed
)
ResponseEvent = AudioDelta | TextDelta | ToolCall | ResponseFinished | ResponseFailed
CallEvent = Aside | HoldPlayout | TurnTimed
SessionEvent = ResponseBegun | Relay | LoopAudio | CallAction | TakeMessage | CallEvent
BackendEvent = ListeningEvent | ResponseEvent | SessionEvent

Emit = Callable[[BackendEvent], None]


class Backend(Protocol):
    """Verbs return at once and never raise for what the model does; results come as events."""

    @property
    def capabilities(self) -> Capabilities: ...

    async def start(self, config: Mapping[str, Any], emit: Emit) -> None:
        """`config` is the session object in wire shape.

        Raises:
            BackendError: the model cannot be reached; the call is refused.
        """
        ...

    def configure(self, config: Mapping[str, Any]) -> None:
        """The session object changed."""
        ...

    def push_audio(self, pcm: Pcm) -> None: ...

    def agent_speaking(self, speaking: bool, /) -> None:  # noqa: FBT001
        """Playout began or ended: detection may ask for more proof of speech meanwhile."""
        ...

    def transcribe(self, item_id: ItemId, pcm: Pcm) -> None:
        """Turn the committed audio of a user item into words."""
        ...

    def generate(self, request: Generate) -> None: ...

    def cancel(self, response_id: ResponseId) -> None:
        """Stop; no event of this response follows."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class HearsItself(Protocol):
    """A backend that tells the caller's voice from an echo of its own."""

    def played(self, pcm: Pcm, /) -> None:
        """The sound that leaves for the caller now, in the tick it does."""
        ...


@runtime_checkable
class HearsCleaned(Protocol):
    """A backend without a noise reduction of its own; whether somebody speaks it judges by the
    sound as it came."""

    def cleaned(self, pcm: Pcm, /) -> None:
        """What the next `push_audio` brings, as words are to be looked for in it."""
        ...


def greeting_instructions(greeting: str) -> str:
    """What a model is told to begin a call with; a backend may know it and have it ready."""
    return f"Greet the caller with these words: {greeting}"


@runtime_checkable
class HearsCoded(Protocol):
    """A backend that can pass the caller's G.711 on as it is."""

    wants_coded: bool
    """Whether its model takes any."""

    def coded(self, octets: bytes, law: str, /) -> None:
        """What the next `push_audio` brings, as the wire carried it; `law` is "PCMU" or "PCMA"."""
        ...


def coded_to(backend: Backend) -> Callable[[bytes, str], None] | None:
    """Where the caller's G.711 is wanted as it is."""
    if not isinstance(backend, HearsCoded) or not backend.wants_coded:
        return None
    return backend.coded


@runtime_checkable
class Follower(Protocol):
    """A backend whose model keeps a conversation of its own, which must follow the session's."""

    def follow(self, items: Callable[[], Sequence[Mapping[str, Any]]], /) -> None:
        """Called before `start`: `items` is the conversation as heard, in wire shape."""
        ...

    def told(self, event: Mapping[str, Any], /) -> None:
        """What all clients were just told: the log of every change of the conversation."""
        ...
