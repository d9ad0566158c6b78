"""Utterances by HTTP, over a socket to a server that speaks multipart itself."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from bridge.backends.base import MODEL_RATE, Pcm
from bridge.backends.cascade.http import ServerRefused, may_pass
from bridge.backends.cascade.parts import Parts
from bridge.backends.cascade.settings import CascadeSettings, SttSettings
from bridge.backends.cascade.stt import Hints, Wanted
from bridge.backends.weighed import weights
from bridge.errors import BackendError
from tests.peers.models import Fault, ModelServers, tone


def with_parts(
    server: ModelServers, use: Callable[[Parts], Awaitable[None]], *, timeout_s: float = 5.0
) -> None:
    async def run() -> None:
        settings = SttSettings(
            kind="openai",
            base_url=server.base_url,
            api_key="sesame",
            model="whisper-1",
            language="de",
            timeout_s=timeout_s,
        )
        parts = Parts(CascadeSettings(stt=settings))
        try:
            await use(parts)
        finally:
            await parts.close()

    asyncio.run(run())


def spoken() -> Pcm:
    quiet = np.zeros(MODEL_RATE // 2, np.int16)
    return np.concatenate((quiet, tone(1.0, MODEL_RATE), quiet))


def words_of(server: ModelServers, **options: float) -> list[str]:
    heard: list[str] = []

    async def use(parts: Parts) -> None:
        heard.append(await parts.transcribe(spoken(), None, Wanted()))

    with_parts(server, use, **options)
    return heard


def test_the_server_gets_a_file_and_gives_the_words() -> None:
    with ModelServers() as server:
        assert words_of(server) == ["what time do you open"]
        (asked,) = server.asked
    assert asked.authorization == "Bearer sesame"
    assert asked.fields == {"model": "whisper-1", "response_format": "json", "language": "de"}
    assert asked.rate == 16_000
    assert len(asked.sound) == pytest.approx(2 * 16_000, abs=32)
    assert asked.voiced_s == pytest.approx(1.0, abs=0.05)


def test_what_the_session_knows_is_told_to_the_server() -> None:
    async def use(parts: Parts) -> None:
        await parts.transcribe(spoken(), None, Wanted("fr", "Noms: Dupont."))
        await parts.transcribe(spoken(), Hints(phrases=("sales", "support")), Wanted())

    with ModelServers() as server:
        with_parts(server, use)
        first, second = server.asked
    assert (first.fields["language"], first.fields["prompt"]) == ("fr", "Noms: Dupont.")
    assert (second.fields["language"], second.fields["prompt"]) == ("de", "sales, support")


def test_how_sure_it_is_is_asked_only_if_it_is_wanted() -> None:
    heard: list[str] = []

    async def use(parts: Parts) -> None:
        heard.append(await parts.transcribe(spoken(), None, Wanted(logprobs=True)))
        heard.append(await parts.transcribe(spoken(), None, Wanted()))

    with ModelServers() as server:
        with_parts(server, use)
        first, second = server.asked
    assert first.fields["include[]"] == "logprobs"
    assert "include[]" not in second.fields
    assert heard[0] == heard[1]
    tokens = weights(heard[:1])
    assert "".join(each["token"] for each in tokens) == heard[0]
    assert tokens[0] == {"token": "what", "logprob": -0.25, "bytes": list(b"what")}
    assert weights(heard[1:]) == ()


@pytest.mark.parametrize(
    ("fault", "message", "again"),
    [
        (Fault(Fault.REFUSES, 401), "the speech recogniser answered 401: .*out of order", False),
        (Fault(Fault.REFUSES, 503), "the speech recogniser answered 503", True),
        (Fault(Fault.STALLS), "the speech recogniser did not answer in time", True),
        (Fault(Fault.BREAKS), "the speech recogniser (cannot be reached|sent no)", True),
        (Fault(Fault.BABBLES), "the speech recogniser sent no transcript", True),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else None,
)
def test_a_failure_says_what_happened(fault: Fault, message: str, again: bool) -> None:
    with ModelServers() as server:
        server.knobs.faults["transcriptions"].append(fault)
        with pytest.raises(BackendError, match=message) as failure:
            words_of(server, timeout_s=0.5)
    assert may_pass(failure.value) is again


def test_a_server_that_is_not_there() -> None:
    with ModelServers() as server:
        pass
    with pytest.raises(BackendError, match="cannot be reached"):
        words_of(server)


def test_a_redirect_is_not_followed_with_the_key() -> None:
    with ModelServers() as server:
        server.knobs.faults["transcriptions"].append(Fault(Fault.REFUSES, 307))
        with pytest.raises(ServerRefused, match="307"):
            words_of(server)
        assert len(server.asked) == 1
