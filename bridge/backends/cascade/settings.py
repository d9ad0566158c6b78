"""What a cascade is made of: the choice of parts, as the configuration names them."""

from dataclasses import dataclass, field

APOLOGY = "I am sorry, something went wrong here. Could you say that again, please?"

BACK_CHANNELS = tuple(
    "mhm,mm,mmm,mm hmm,mhmm,hmm,hm,uh huh,uhuh,aha,ah,oh,yeah,yep,yes,yup,okay,ok,right,sure,"  # noqa: SIM905
    "i see,got it,alright,ja,genau,ach so,oui,d'accord,sí,si,vale,claro,sì,はい,うん,嗯,好,好的,"
    "对,네,응".split(",")
)


@dataclass(frozen=True, slots=True)
class SttSettings:
    """Speech to text."""

    kind: str = "pocketsphinx"
    """pocketsphinx, openai (HTTP), openai-realtime (WebSocket), sherpa (a model here)."""
    base_url: str = ""
    """Of an OpenAI-compatible server, `/v1` included; a query in it is sent along by WebSocket."""
    api_key: str = ""
    model: str = ""
    """The server's name for it; of sherpa, its directory."""
    family: str = ""
    """Of sherpa's models, which this is."""
    language: str = ""
    """What is spoken where the session does not say; empty: the server finds out."""
    timeout_s: float = 10.0
    workers: int = 1
    """Recognisers here, processes or threads; each takes one utterance at a time."""


@dataclass(frozen=True, slots=True)
class TtsSettings:
    """Text to speech."""

    kind: str = "espeak-ng"
    """espeak-ng, openai (HTTP), sherpa (a model here)."""
    base_url: str = ""
    api_key: str = ""
    model: str = ""
    """As for speech to text."""
    family: str = ""
    voice: str = ""
    """In place of OpenAI's voices; a session may ask for another of the server's."""
    sample_rate: int = 24_000
    """Of the PCM that the server sends, where its answer does not say."""
    words: str = ""
    """How it tells when each word is spoken: sse or captioned_speech; empty: not at all."""
    timeout_s: float = 5.0
    """To the first sound of a sentence, and between two pieces of it."""


@dataclass(frozen=True, slots=True)
class CascadeSettings:
    vad: str = "silero"
    stt: SttSettings = field(default_factory=SttSettings)
    tts: TtsSettings = field(default_factory=TtsSettings)
    turn_model: str = ""
    """Path of a Smart Turn ONNX file for semantic_vad."""
    echo_gate: bool = True
    """Speech that is an echo of the agent's own is none of the caller's."""
    pause_first: bool = False
    """A caller who speaks over the agent pauses it; only words make it stop."""
    back_channels: tuple[str, ...] = BACK_CHANNELS
    """Words that are no interruption, where `pause_first` is on."""
    llm_base_url: str = ""
    """Of an OpenAI-compatible server, `/v1` included; unused by `scripted:` models."""
    llm_model: str = "scripted:receptionist"
    llm_api_key: str = ""
    llm_timeout_s: float = 10.0
    """To the first token, and between two of them."""
    script_path: str = ""
    """A YAML file to use in place of the scripted model's own."""
    voice: str = ""
    """Of sessions that ask for none: what is made beforehand is made in it."""
    greeting: str = ""
    """Spoken on most calls: its sound is made before they come."""
    apology: str = APOLOGY
    """Spoken when a model fails; empty: nothing is."""
    fillers: tuple[str, ...] = ()
    """Said one after another while a tool runs and nobody speaks."""
    filler_after_s: float = 1.5
