"""What ends a call whose model does not come back, by what the settings name."""

import pytest

from bridge.backends.base import AudioDelta, CallAction, Generate, ResponseFinished
from bridge.backends.upstream.farewell import CONGESTION, last_words
from bridge.backends.upstream.settings import UpstreamSettings
from bridge.config import Upstream
from bridge.ids import ResponseId

REQUEST = Generate(ResponseId("resp_1"), ())


def ended(**wanted: str) -> UpstreamSettings:
    return UpstreamSettings(**Upstream.model_validate(wanted).model_dump())


@pytest.mark.parametrize("fallback", ["transfer", "cascade", "echo"])
def test_a_person_comes_before_an_apology(fallback: str) -> None:
    settings = ended(fallback=fallback, fallback_target="sip:desk@pbx.example")
    action, done = last_words(REQUEST, settings)
    assert isinstance(action, CallAction)
    assert (action.action, action.target) == ("transfer", "sip:desk@pbx.example")
    assert done == ResponseFinished(ResponseId("resp_1"))


@pytest.mark.parametrize(("fallback", "target"), [("cascade", ""), ("hangup", "sip:desk@x")])
def test_an_apology_comes_before_the_end(fallback: str, target: str) -> None:
    settings = ended(fallback=fallback, fallback_target=target)
    action, words, done = last_words(REQUEST, settings)
    assert action == CallAction(ResponseId("resp_1"))
    assert isinstance(words, AudioDelta)
    assert words.pcm is CONGESTION
    assert done == ResponseFinished(ResponseId("resp_1"))


def test_without_a_response_nothing_is_said() -> None:
    assert list(last_words(None, ended())) == [CallAction(ResponseId(""))]
