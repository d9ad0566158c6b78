"""Voice agent frameworks that have their own client of the protocol."""

from collections.abc import Callable

import pytest

from tests.interop.sdk.peer import Bench, Told
from tests.interop.sdk.venvs import python_of

CLIENTS = "tests.interop.sdk.clients"


@pytest.mark.interop("gllm", "espeak-ng", "sox", "openssl")
def test_gllm_inference(show: Callable[..., Told], secure: Bench) -> None:
    show("gllm-inference", secure, [python_of("gllm"), "-m", f"{CLIENTS}.gllm"])


@pytest.mark.interop("livekit", "espeak-ng", "sox", "openssl")
def test_livekit(show: Callable[..., Told], plain: Bench) -> None:
    command = [python_of("livekit"), "-m", f"{CLIENTS}.livekit_plugin"]
    show("livekit-plugins-openai", plain, command)


@pytest.mark.interop("pipecat", "espeak-ng", "sox", "openssl")
def test_pipecat(show: Callable[..., Told], plain: Bench) -> None:
    show("pipecat", plain, [python_of("pipecat"), "-m", f"{CLIENTS}.pipecat_service"])
