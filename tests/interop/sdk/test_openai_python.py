"""openai-python of two generations; 2.8 speaks wss only."""

import sys
from collections.abc import Callable

import pytest

from tests.interop.sdk.peer import Bench, Told
from tests.interop.sdk.venvs import python_of

CLIENT = ["-m", "tests.interop.sdk.clients.openai_python"]

pytestmark = pytest.mark.interop("espeak-ng", "sox", "openssl")


def phone_heard(told: Told) -> None:
    assert told.phones["rejected"].statuses[-1] == 486
    accepted = told.phones["accepted"]
    assert accepted.answered.is_set()
    assert any(packet.peak > 2000 for packet in accepted.packets)
    assert any(line.startswith("BYE ") for line in accepted.seen)
    transferred = told.phones["transferred"]
    assert transferred.referred_to == ["<tel:+4930123456>"]
    assert any(line.startswith("BYE ") for line in transferred.seen)


def test_current(show: Callable[..., Told], plain: Bench) -> None:
    phone_heard(show("openai-python 3.51", plain, [sys.executable, *CLIENT]))


@pytest.mark.interop("openai-2.8", "espeak-ng", "sox", "openssl")
def test_before_httpx2(show: Callable[..., Told], secure: Bench) -> None:
    phone_heard(show("openai-python 2.8", secure, [python_of("openai-2.8"), *CLIENT]))
