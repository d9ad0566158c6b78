import asyncio

import pytest

from bridge.backends.cascade.backend import CascadeBackend
from bridge.backends.cascade.settings import CascadeSettings, SttSettings, TtsSettings
from bridge.backends.echo import EchoBackend
from bridge.backends.registry import make_backends
from bridge.errors import ConfigError


def test_each_kind_by_name() -> None:
    async def make() -> None:
        backends = make_backends(CascadeSettings(), {"other": EchoBackend})
        assert set(backends.kinds) == {"cascade", "echo", "other"}
        assert isinstance(backends.new("cascade"), CascadeBackend)
        assert isinstance(backends.new("echo"), EchoBackend)
        assert isinstance(backends.new("other"), EchoBackend)
        await backends.start({"echo"})
        await backends.close()

    asyncio.run(make())


def test_an_unknown_kind_names_the_known_ones() -> None:
    backends = make_backends(CascadeSettings())
    with pytest.raises(ConfigError, match="no backend parrot; there is cascade, echo"):
        backends.new("parrot")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (CascadeSettings(vad="energy"), "cascade.vad: there is silero, not energy"),
        (CascadeSettings(stt=SttSettings("x")), "cascade.stt.kind: there is pocketsphinx, openai"),
        (CascadeSettings(stt=SttSettings("openai")), "cascade.stt.base_url needs the URL"),
        (CascadeSettings(stt=SttSettings("openai-realtime")), "cascade.stt.base_url needs the URL"),
        (CascadeSettings(tts=TtsSettings("x")), "cascade.tts.kind: there is espeak-ng, openai"),
        (CascadeSettings(tts=TtsSettings("openai")), "cascade.tts.base_url needs the URL"),
        (CascadeSettings(llm_model="llama"), "set cascade.llm.base_url"),
        (CascadeSettings(llm_model="scripted:x"), "no scripted model x; there is receptionist"),
        (CascadeSettings(script_path="/nowhere.yaml"), "script nowhere.yaml"),
    ],
)
def test_wrong_settings_are_refused_when_made(settings: CascadeSettings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_backends(settings)
