"""A browser's offer, the verdict on a ringing call, hanging up and listing."""

from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from bridge.errors import BackendError, OverloadedError, SdpError
from tests.api.board import ACTIVE, ANSWER, OFFER, RINGING, Board

CALLS = "/v1/realtime/calls"
SDP = {"content-type": "application/sdp"}
SESSION = '{"type":"realtime","model":"gpt-realtime","instructions":"hi"}'


def form(*parts: tuple[str, str, str], boundary: str = "b") -> dict[str, Any]:
    """Parts of (name, extra headers or parameters, body), exactly as written."""
    body = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n{text}\r\n'
        for name, extra, text in parts
    )
    return {
        "content": (body + f"--{boundary}--\r\n").encode(),
        "headers": {"content-type": f"multipart/form-data; boundary={boundary}"},
    }


def error(response: Response) -> dict[str, object]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return dict(body["error"])


def test_a_raw_offer_is_answered_with_201_and_a_location(api: TestClient, board: Board) -> None:
    response = api.post(CALLS, content=OFFER, headers=SDP | {"accept": "application/sdp"})
    assert response.status_code == 201
    assert response.headers["content-type"] == "application/sdp"
    assert response.headers["location"] == f"{CALLS}/{ACTIVE}"
    assert response.text == ANSWER
    assert board.asked == [("offer", OFFER, None)]


@pytest.mark.parametrize("path", [CALLS, "/v1/realtime"])
def test_a_model_in_the_query_becomes_the_session(api: TestClient, board: Board, path: str) -> None:
    assert api.post(f"{path}?model=gpt-x", content=OFFER, headers=SDP).status_code == 201
    assert board.asked == [("offer", OFFER, {"type": "realtime", "model": "gpt-x"})]


TYPED = "\r\nContent-Type: application/sdp"
JSON = "\r\nContent-Type: application/json"


@pytest.mark.parametrize(
    "parts",
    [
        [("sdp", TYPED, OFFER), ("session", JSON, SESSION)],
        [("session", JSON, SESSION), ("sdp", TYPED, OFFER)],
        [("sdp", "", OFFER), ("session", "", SESSION)],
        [("sdp", '; filename="offer.sdp"' + TYPED, OFFER), ("session", "", SESSION)],
        [("sdp", "", OFFER), ("session", '; filename="blob"' + JSON, SESSION)],
        [("other", "", "x"), ("session", "", SESSION), ("sdp", "", OFFER)],
    ],
)
def test_a_form_is_read_however_its_parts_are_labelled(
    api: TestClient, board: Board, parts: list[tuple[str, str, str]]
) -> None:
    assert api.post(CALLS, **form(*parts)).status_code == 201
    wanted = {"type": "realtime", "model": "gpt-realtime", "instructions": "hi"}
    assert board.asked == [("offer", OFFER, wanted)]


def test_a_form_without_a_session_uses_the_default(api: TestClient, board: Board) -> None:
    assert api.post(CALLS, **form(("sdp", "", OFFER))).status_code == 201
    assert board.asked == [("offer", OFFER, None)]


@pytest.mark.parametrize(
    ("parts", "code", "param"),
    [
        ([("session", "", SESSION)], "missing_required_parameter", "sdp"),
        ([("sdp", "", "  ")], "missing_required_parameter", "sdp"),
        ([("sdp", "", OFFER), ("session", "", "{")], "invalid_json", "session"),
        ([("sdp", "", OFFER), ("session", "", "[]")], "invalid_type", "session"),
        ([("sdp", "", OFFER), ("session", "", "[" * 9000)], "invalid_json", "session"),
        ([("sdp", "; filename=a", "v=0 \udcff")], "invalid_value", "sdp"),
    ],
)
def test_what_is_wrong_with_a_form_is_named(
    api: TestClient, board: Board, parts: list[tuple[str, str, str]], code: str, param: str
) -> None:
    sent = form(*((name, extra, "") for name, extra, _ in parts))
    body = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n{text}\r\n'
        for name, extra, text in parts
    ).encode(errors="surrogateescape")
    sent["content"] = body + b"--b--\r\n"
    response = api.post(CALLS, **sent)
    assert response.status_code == 400
    assert (error(response)["code"], error(response)["param"]) == (code, param)
    assert board.asked == []


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "application/sdp", 400),
        (b"\xff\xfe", "application/sdp", 400),
        (b"{}", "application/json", 400),
        (b"--b", "multipart/form-data", 400),
        (b"nonsense", "multipart/form-data; boundary=b", 400),
        (
            b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
            "multipart/form-data; boundary=b",
            400,
        ),
        (b"x" * (64 * 1024 + 1), "application/sdp", 413),
        (b"x" * (2 * 1024 * 1024), "multipart/form-data; boundary=b", 413),
    ],
)
def test_a_bad_offer_is_refused(
    api: TestClient, board: Board, body: bytes, content_type: str, status: int
) -> None:
    response = api.post(CALLS, content=body, headers={"content-type": content_type})
    assert response.status_code == status
    assert error(response)["type"] == "invalid_request_error"
    assert board.asked == []


def test_an_sdp_part_has_the_limit_of_a_raw_offer(api: TestClient) -> None:
    response = api.post(CALLS, **form(("sdp", "", "x" * (64 * 1024 + 1))))
    assert response.status_code == 413
    assert error(response)["param"] == "sdp"


def test_an_undeclared_length_is_capped_while_reading(api: TestClient) -> None:
    chunks = iter([b"x" * 40_000] * 3)
    response = api.post(CALLS, content=chunks, headers=SDP)
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (SdpError("no audio"), 400, "invalid_offer"),
        (OverloadedError("full"), 503, "overloaded"),
        (BackendError("model away"), 502, "backend_unavailable"),
    ],
)
def test_the_switchboards_refusals_keep_their_status(
    api: TestClient, board: Board, refusal: SdpError, status: int, code: str
) -> None:
    board.refuse = refusal
    response = api.post(CALLS, content=OFFER, headers=SDP)
    assert response.status_code == status
    assert error(response)["code"] == code
    assert ("retry-after" in response.headers) is (status == 503)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("accept", {"type": "realtime", "audio": {"input": {"turn_detection": None}}}),
        ("reject", {}),
        ("hangup", None),
    ],
)
def test_verbs_answer_an_empty_200_without_a_content_type(
    api: TestClient, path: str, body: object
) -> None:
    response = api.post(f"{CALLS}/{RINGING}/{path}", json=body)
    assert response.status_code == 200
    assert response.content == b""
    assert response.headers["content-length"] == "0"
    assert "content-type" not in response.headers


def test_hangup_ignores_a_json_type_on_an_empty_body(api: TestClient, board: Board) -> None:
    headers = {"content-type": "application/json", "content-length": "0"}
    assert api.post(f"{CALLS}/{ACTIVE}/hangup", headers=headers).status_code == 200
    assert api.delete(f"{CALLS}/{ACTIVE}").status_code == 200
    assert board.asked == [("hangup", ACTIVE)] * 2


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 603), (b"{}", 603), (b'{"status_code":486}', 486)]
)
def test_reject_declines_unless_told_otherwise(
    api: TestClient, board: Board, body: bytes, status: int
) -> None:
    assert api.post(f"{CALLS}/{RINGING}/reject", content=body).status_code == 200
    assert board.asked == [("reject", RINGING, status)]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b'{"status_code":200}', "invalid_value", "status_code"),
        (b'{"status_code":700}', "invalid_value", "status_code"),
        (b'{"status_code":true}', "invalid_type", "status_code"),
        (b'{"status_code":"486"}', "invalid_type", "status_code"),
        (b'{"reason":"busy"}', "unknown_parameter", "reason"),
        (b"[486]", "invalid_type", None),
        (b"486", "invalid_type", None),
        (b"null", "invalid_type", None),
        (b"\xff", "invalid_json", None),
        (b'{"status_code":NaN}', "invalid_json", None),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "invalid_json", None),
        (b'{"status_code":' + b"9" * 4301 + b"}", "invalid_json", None),
        (b'"\\ud800"', "invalid_json", None),
    ],
)
def test_a_bad_rejection_is_named(
    api: TestClient, board: Board, body: bytes, code: str, param: str | None
) -> None:
    response = api.post(f"{CALLS}/{RINGING}/reject", content=body)
    assert response.status_code == 400
    assert (error(response)["code"], error(response)["param"]) == (code, param)
    assert board.asked == []


def test_deep_and_wide_json_is_not_mistaken_for_deep(api: TestClient) -> None:
    tools = [{"type": "function", "name": f"t{n}", "parameters": {"a": [{}]}} for n in range(100)]
    session = {"type": "realtime", "tools": tools}
    assert api.post(f"{CALLS}/{RINGING}/accept", json=session).status_code == 200


def test_a_bad_session_is_refused_with_its_param(api: TestClient) -> None:
    body = {"type": "realtime", "output_modalities": ["smell"]}
    response = api.post(f"{CALLS}/{RINGING}/accept", json=body)
    assert response.status_code == 400
    assert str(error(response)["param"]).startswith("session.output_modalities")


def test_a_repeated_accept_is_fine_and_a_different_one_is_not_retried(api: TestClient) -> None:
    first = {"type": "realtime", "instructions": "a"}
    for _ in range(2):
        assert api.post(f"{CALLS}/{RINGING}/accept", json=first).status_code == 200
    response = api.post(f"{CALLS}/{RINGING}/accept", json={"type": "realtime"})
    assert response.status_code == 400
    assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("verb", ["accept", "reject", "hangup"])
def test_an_unknown_call_is_404(api: TestClient, verb: str) -> None:
    response = api.post(
        f"{CALLS}/rtc_nobody/{verb}", json={"type": "realtime"} if verb == "accept" else {}
    )
    assert response.status_code == 404
    assert error(response)["code"] == "call_id_not_found"


def test_calls_are_listed_and_shown(api: TestClient) -> None:
    listed = api.get(CALLS).json()
    assert listed["object"] == "list"
    assert [call["id"] for call in listed["data"]] == [RINGING, ACTIVE]
    assert api.get(f"{CALLS}/{RINGING}").json()["id"] == RINGING
    assert api.get(f"{CALLS}/rtc_nobody").status_code == 404


# Transfers, and calls to phones

ORDER = {"type": "sip", "trunk": "lab", "destination": "tel:+4930123"}


@pytest.mark.parametrize("after", [None, "playout"])
def test_a_transfer(api: TestClient, board: Board, after: str | None) -> None:
    body = {"target_uri": "tel:+1"} | ({"after": after} if after else {})
    response = api.post(f"{CALLS}/{ACTIVE}/refer", json=body)
    assert (response.status_code, response.content) == (200, b"")
    assert board.asked == [("refer", ACTIVE, "tel:+1", after or "")]


def test_a_transfer_into_another_call(api: TestClient, board: Board) -> None:
    response = api.post(f"{CALLS}/{ACTIVE}/refer", json={"replaces": "rtc_other"})
    assert response.status_code == 200
    assert board.asked == [("refer", ACTIVE, "", "", "rtc_other")]


@pytest.mark.parametrize(
    ("body", "param"),
    [({}, "target_uri"), ({"target_uri": ""}, "target_uri"), ({"target_uri": 1}, "target_uri")],
)
def test_a_transfer_without_a_target(
    api: TestClient, board: Board, body: dict[str, Any], param: str
) -> None:
    response = api.post(f"{CALLS}/{ACTIVE}/refer", json=body)
    assert response.status_code == 400
    assert error(response)["param"] == param
    assert board.asked == []


def test_an_unknown_call_is_not_transferred(api: TestClient) -> None:
    response = api.post(f"{CALLS}/rtc_none/refer", json={"target_uri": "tel:+1"})
    assert response.status_code == 404


def test_a_phone_is_called_with_json(api: TestClient, board: Board) -> None:
    session = {"type": "realtime", "model": "m"}
    response = api.post(CALLS, json={"transport": ORDER, "session": session})
    assert response.status_code == 201
    assert response.headers["location"] == f"{CALLS}/{ACTIVE}"
    assert response.json()["id"] == ACTIVE
    assert board.asked == [("dial", ORDER, session)]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "transport"),
        ({"transport": "sip"}, "transport"),
        ({"transport": ORDER, "number": 1}, "number"),
    ],
)
def test_an_order_that_is_none(
    api: TestClient, board: Board, body: dict[str, Any], param: str
) -> None:
    response = api.post(CALLS, json=body)
    assert response.status_code == 400
    assert error(response)["param"] == param
    assert board.asked == []


def test_a_phone_is_called_with_a_key_only(locked: TestClient, board: Board) -> None:
    for verb, body in (("", {"transport": ORDER}), (f"/{ACTIVE}/refer", {"target_uri": "tel:+1"})):
        assert locked.post(f"{CALLS}{verb}", json=body).status_code == 401
    assert board.asked == []
