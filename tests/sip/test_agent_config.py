from bridge.sip.agent_config import AgentConfig
from bridge.sip.events import Flow
from bridge.sip.message import Request, Response, make_response
from tests.sip.playbook import UDP, Ladder, caller_request


def registering(*headers: tuple[str, str], cseq: int = 1) -> Request:
    return caller_request("REGISTER", cseq=cseq, uri="sip:192.0.2.1", headers=headers)


def test_registrations_are_answered_by_who_is_asked_for_them() -> None:
    asked: list[Flow] = []
    closed: list[Flow] = []

    def register(request: Request, flow: Flow) -> Response:
        asked.append(flow)
        known = "authorization" in request.headers
        return make_response(request, 200 if known else 401, to_tag="r")

    config = AgentConfig(register=register, flow_closed=closed.append)
    assert "REGISTER" in config.allow
    ladder = Ladder(config)
    _ = ladder >> registering() << 401 >> registering() << 401
    assert ladder.idle()
    proven = registering(("Authorization", "Digest …"), cseq=2)
    _ = ladder >> proven << 200 >> proven << 200
    assert asked == [UDP] * 3
    ladder.agent.flow_failed(UDP, ladder.now)
    assert closed == [UDP]
    ladder.wait(33)
    assert ladder.idle()
