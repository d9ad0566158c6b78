"""How long a response may be, what it costs, and how fast it is spoken."""

from typing import Any

import numpy as np
import pytest

from bridge.realtime.outputs import CancelResponse, FinishPlay, Play, StartResponse
from bridge.realtime.server import Policy
from tests.conftest import MakePlaybook, pcm


def limited(playbook: MakePlaybook, tokens: int, *, on_call: bool = False, **session: Any) -> Any:
    book = playbook(on_call=on_call, session={"max_output_tokens": tokens, **session})
    book >> {"type": "response.create"}
    return book


def last_response(book: Any) -> dict[str, Any]:
    book.pump()
    [done] = [e["response"] for e in book.events if e["type"] == "response.done"]
    response: dict[str, Any] = done
    return response


def test_text_ends_at_its_limit(playbook: MakePlaybook) -> None:
    book = limited(playbook, 3, output_modalities=["text"])
    response_id = book.started()
    for delta in ("12345678", "90abcdef", "more"):
        book.server.text_delta(response_id, delta)
    response = last_response(book)
    assert response["status"] == "incomplete"
    assert response["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}
    [item] = response["output"]
    assert (item["status"], item["content"][0]["text"]) == ("incomplete", "1234567890ab")
    assert response["usage"]["output_tokens"] == 3
    assert book.order(CancelResponse).response_id == response_id
    book.finish(response_id)
    assert book.types()[-1] == "response.done"


def test_sound_ends_at_its_limit(playbook: MakePlaybook) -> None:
    book = limited(playbook, 12, on_call=True)
    response_id = book.started()
    book.server.text_delta(response_id, "12345678")
    book.server.audio_delta(response_id, pcm(400))
    book.server.audio_delta(response_id, pcm(400))
    response = last_response(book)
    assert response["status"] == "incomplete"
    assert response["usage"]["output_token_details"] == {"text_tokens": 2, "audio_tokens": 10}
    # What was allowed is heard to its end.
    assert sum(len(order.pcm) for order in book.orders if isinstance(order, Play)) == 12_000
    assert book.order(FinishPlay)


def test_exactly_the_limit_is_complete(playbook: MakePlaybook) -> None:
    book = limited(playbook, 22)
    book.finish(book.answer(text="12345678", ms=1_000))
    assert last_response(book)["status"] == "completed"


def test_a_limit_leaves_calls_of_tools_whole(playbook: MakePlaybook) -> None:
    book = limited(playbook, 1)
    response_id = book.started()
    book.server.tool_call(response_id, "call_1", "look", '{"where":"everywhere"}')
    book.finish(response_id)
    response = last_response(book)
    assert response["status"] == "completed"
    assert response["output"][0]["arguments"] == '{"where":"everywhere"}'


def test_a_prompt_costs_its_instructions_tools_and_context(playbook: MakePlaybook) -> None:
    tool = {"type": "function", "name": "f", "parameters": {}}
    book = playbook(session={"instructions": "x" * 40, "tools": [tool]})
    book.speak(1_000)
    book.finish(book.answer(text="abcd", ms=500))
    usage = last_response(book)["usage"]
    assert usage["input_token_details"]["audio_tokens"] == 10
    assert usage["input_token_details"]["text_tokens"] == 10 + 12
    assert usage["output_token_details"] == {"text_tokens": 1, "audio_tokens": 10}
    book.events.clear()
    # The answer is context now: 50 ms a token as it was spoken.
    book >> {"type": "response.create"}
    known = {"input_tokens": 50, "output_tokens": 7, "cached_tokens": 5}
    book.server.response_finished(book.started(), None, known, 0.0)
    usage = last_response(book)["usage"]
    assert usage["input_token_details"]["audio_tokens"] == 20
    assert (usage["input_tokens"], usage["total_tokens"]) == (50, 57)
    assert usage["input_token_details"]["cached_tokens"] == 5


@pytest.mark.parametrize("strict", [False, True])
def test_speed_changes_between_turns(playbook: MakePlaybook, strict: bool) -> None:
    book = playbook(policy=Policy(strict_voice=strict))
    faster = {"type": "realtime", "audio": {"output": {"speed": 1.25}}}
    book >> {"type": "response.create"}
    assert book.order(StartResponse).speed == 1.0
    book.types()
    book >> {"type": "session.update", "session": faster}
    if strict:
        assert book.error()["param"] == "session.audio.output.speed"
        same = {"type": "realtime", "audio": {"output": {"speed": 1.0}}}
        book >> {"type": "session.update", "session": same}
    assert book.types() == ["session.updated"]
    book >> {"type": "response.cancel"} >> {"type": "session.update", "session": faster}
    book >> {"type": "response.create"}
    assert book.order(StartResponse).speed == 1.25


def test_responses_beside_each_other_are_cancelled_by_id(playbook: MakePlaybook) -> None:
    book = playbook(session={"output_modalities": ["text"]})
    aside = {"type": "response.create", "response": {"conversation": "none"}}
    book >> {"type": "response.create"} >> aside >> aside
    default, one, two = (o.response_id for o in book.orders if isinstance(o, StartResponse))
    for response_id in (one, default, two):
        book.server.text_delta(response_id, "Some words.")
    book.types()
    book >> {"type": "response.cancel", "response_id": one}
    response = last_response(book)
    assert (response["id"], response["status"]) == (one, "cancelled")
    book.types()
    book >> {"type": "response.cancel", "response_id": one}
    assert book.error()["code"] == "response_cancel_not_active"
    book.finish(two)
    assert last_response(book)["id"] == two
    book.types()
    book >> {"type": "response.cancel"}
    assert last_response(book)["id"] == default
    book.server.audio_delta(default, np.zeros(480, np.int16))
    assert book.types()[-1] == "response.done"
