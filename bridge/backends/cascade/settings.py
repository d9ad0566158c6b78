"""What a cascade is made of: the choice of parts, as the configuration names them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CascadeSettings:
    vad: str = "silero"
    stt: str = "pocketsphinx"
    stt_workers: int = 1
    """Recogniser processes; each takes one utterance at a time."""
    llm_base_url: str = ""
    """Of an OpenAI-compatible server, `/v1` included; unused by `scripted:` models."""
    llm_model: str = "scripted:receptionist"
    llm_api_key: str = ""
    tts: str = "espeak-ng"
    tts_voice: str = "en-us"
    """What OpenAI's voice names fall back to."""
    script_path: str = ""
    """A YAML file to use in place of the scripted model's own."""
