import pytest

from bridge.errors import SipError
from bridge.sip.agent_config import AgentConfig
from bridge.sip.auth import Credentials
from bridge.sip.events import RequestDone
from tests.sip.playbook import UDP, CallingLadder

REGISTRAR = "sip:198.51.100.7"


def test_options() -> None:
    ladder = CallingLadder()
    request = ladder.agent.request("OPTIONS", REGISTRAR, UDP, ladder.now)
    _ = ladder << "OPTIONS" >> ladder.callee(200, method="OPTIONS")
    (done,) = ladder.events()
    assert isinstance(done, RequestDone)
    assert done.request == request
    assert done.response is not None
    assert done.response.status == 200
    ladder.wait(33)
    assert ladder.idle()


def test_answers_come_from_those_too_whom_we_do_not_let_call() -> None:
    ladder = CallingLadder(AgentConfig(admit=lambda flow: False))
    ladder.agent.request("OPTIONS", REGISTRAR, UDP, ladder.now)
    _ = ladder << "OPTIONS" >> ladder.callee(200, method="OPTIONS")
    (done,) = ladder.events()
    assert isinstance(done, RequestDone)
    assert done.response is not None


def test_headers_of_the_caller_are_kept() -> None:
    ladder = CallingLadder()
    own = (("Call-ID", "mine"), ("CSeq", "7 REGISTER"), ("To", "<sip:bot@example.com>"))
    ladder.agent.request("REGISTER", REGISTRAR, UDP, ladder.now, headers=own)
    _ = ladder << "REGISTER"
    request = ladder.request("REGISTER")
    assert (request.sip_call_id, request.cseq.number) == ("mine", 7)
    assert str(request.to) == "<sip:bot@example.com>"
    assert request.from_tag


def test_challenge() -> None:
    ladder = CallingLadder()
    ladder.agent.request(
        "REGISTER", REGISTRAR, UDP, ladder.now, credentials=Credentials("bot", "secret")
    )
    _ = ladder << "REGISTER"
    first = ladder.request("REGISTER")
    challenge = [("WWW-Authenticate", 'Digest realm="r",nonce="n",qop="auth"')]
    for _ in range(2):
        _ = ladder >> ladder.callee(401, method="REGISTER", headers=challenge) << "REGISTER"
    assert ladder.request("REGISTER").cseq.number == first.cseq.number + 2
    assert ladder.request("REGISTER").sip_call_id == first.sip_call_id
    _ = ladder >> ladder.callee(401, method="REGISTER", headers=challenge) << None
    (done,) = ladder.events()
    assert isinstance(done, RequestDone)
    assert done.response is not None
    assert done.response.status == 401


def test_silence() -> None:
    ladder = CallingLadder()
    request = ladder.agent.request("OPTIONS", REGISTRAR, UDP, ladder.now)
    ladder.wait(33)
    assert ladder.events() == [RequestDone(request, None)]
    assert ladder.idle()


def test_what_cannot_be_written_is_not_sent() -> None:
    ladder = CallingLadder()
    with pytest.raises(SipError):
        ladder.agent.request("OPTIONS", REGISTRAR, UDP, ladder.now, headers=[("X", "a\nb")])
    assert ladder.idle()
