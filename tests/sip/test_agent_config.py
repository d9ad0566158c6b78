from dataclasses import replace
from typing import Any

from bridge.sip.agent_config import AgentConfig
from bridge.sip.events import Flow
from bridge.sip.message import Request, Response, make_response
from tests.sip.playbook import TCP, UDP, CallingLadder, Ladder, caller_request


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


STRANGER = replace(UDP, remote=("203.0.113.66", 5060))


def test_right_tags_from_a_wrong_place() -> None:
    ladder = Ladder(AgentConfig(trusts=lambda flow: flow.remote[0] == "203.0.113.5")).established()
    ladder.flow = STRANGER
    for cseq, method in ((2, "BYE"), (3, "INFO"), (4, "INVITE")):
        _ = ladder >> ladder.in_dialog(method, cseq) << None
    assert ladder.agent.stats.not_admitted == 3
    ladder.flow = UDP
    _ = ladder >> ladder.in_dialog("INFO", 5) << 200
    ladder.flow = replace(UDP, remote=("203.0.113.5", 5060))
    _ = ladder >> ladder.in_dialog("BYE", 6) << 200


def test_strangers_to_a_call_of_ours_that_rings() -> None:
    ladder = CallingLadder(AgentConfig(admit=lambda flow: flow != STRANGER))
    ladder.call()
    _ = ladder >> ladder.callee(180)
    ladder.flow = STRANGER
    _ = ladder >> ladder.from_callee("BYE") << None
    ladder.flow = UDP
    _ = ladder >> ladder.from_callee("BYE") << 200


def test_tls_connections_are_offered_for_reuse() -> None:
    ladder = CallingLadder(flow=replace(TCP, transport="tls"))
    ladder.call()
    assert "alias" in ladder.request("INVITE").top_via.params
    plain = CallingLadder(flow=TCP)
    plain.call()
    assert "alias" not in plain.request("INVITE").top_via.params


def test_each_invite_that_ends_here_is_told() -> None:
    told: list[tuple[int, str]] = []
    config = AgentConfig(
        trusts=lambda flow: False,
        refused=lambda request, flow, rejection: told.append(
            (rejection.status, rejection.why or rejection.reason)
        ),
    )
    ladder = Ladder(config).established()
    other: dict[str, Any] = {"call_id": "other", "branch": "z9hG4bK-other"}
    _ = ladder >> caller_request(headers=[("Require", "a-thing")], **other) << 420
    _ = ladder >> caller_request(to_tag="gone", **other) << 481
    _ = ladder >> caller_request("INFO", to_tag="gone", **other) << 481
    ladder.flow = STRANGER
    _ = ladder >> ladder.in_dialog("INVITE", 4) >> ladder.in_dialog("INFO", 5) << None
    ladder.agent.drain()
    ladder.flow = UDP
    _ = ladder >> caller_request(**other) << 503
    assert told == [
        (420, "Bad Extension"),
        (481, "it belongs to a call that is not here"),
        (0, "it speaks in a call of another host"),
        (503, "the service is stopping"),
    ]
