import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bridge.backends.cascade.script import Script, Target, at as scripted_at
from bridge.backends.cascade.scripted import ScriptedModel, hints, load, reply

HANG_UP = {"type": "function", "function": {"name": "hang_up"}}
TRANSFER = {"type": "function", "function": {"name": "transfer_call", "parameters": {}}}
GREETED = {"role": "assistant", "content": "Hello …"}
URL = "http://scripted/v1/chat/completions"


@pytest.fixture(scope="module")
def script() -> Script:
    return load("scripted:receptionist")


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def post(script: Script, content: Any, url: str = URL) -> httpx2.Response:
    async def send() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=ScriptedModel(script))
        async with httpx2.AsyncClient(transport=transport) as client:
            return await client.post(url, content=content)

    return asyncio.run(send())


def ask(script: Script, *messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    body = {"model": "scripted:receptionist", "messages": messages, **more}
    answer = post(script, json.dumps(body))
    assert answer.status_code == 200
    choice: dict[str, Any] = answer.json()["choices"][0]
    return choice


def test_it_greets_and_says_what_it_is(script: Script) -> None:
    said = ask(script)["message"]["content"]
    assert said.startswith("Hello, this is an automatic receptionist. I only know a short menu.")


def test_who_speaks_first_is_greeted(script: Script) -> None:
    assert ask(script, user("hello?"))["message"]["content"].startswith("Hello")
    assert ask(script, user("sales"))["message"]["content"] == "Sales. Is that right?"


def test_the_call_is_ended_after_the_goodbye(script: Script) -> None:
    choice = ask(script, GREETED, user("goodbye"), tools=[HANG_UP])
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"].endswith("Goodbye.")
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "hang_up"
    assert "tool_calls" not in ask(script, GREETED, user("goodbye"))["message"]


def test_a_transfer_and_its_result(script: Script) -> None:
    messages = [GREETED, user("sales"), GREETED, user("yes")]
    choice = ask(script, *messages, tools=[TRANSFER])
    (call,) = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "transfer_call", "arguments": '{"target": "sales"}'}
    messages += [choice["message"], {"role": "tool", "tool_call_id": call["id"], "content": "{}"}]
    after = ask(script, *messages, tools=[TRANSFER])["message"]
    assert after["content"].startswith("If nobody answers")
    assert "tool_calls" not in after
    refused = ask(script, *messages[:4], tools=[TRANSFER], tool_choice="none")["message"]
    assert "tool_calls" not in refused


def test_it_streams_what_it_would_say_whole(script: Script) -> None:
    body = {"messages": [GREETED, user("goodbye")], "stream": True, "tools": [HANG_UP]}
    answer = post(script, json.dumps(body))
    assert answer.headers["content-type"] == "text/event-stream"
    *events, done, _ = answer.text.split("\n\n")
    assert done == "data: [DONE]"
    deltas = [json.loads(event.removeprefix("data: "))["choices"][0]["delta"] for event in events]
    text = "".join(delta.get("content") or "" for delta in deltas)
    assert text == reply(script, [GREETED, user("goodbye")], frozenset())["content"]
    assert any("tool_calls" in delta for delta in deltas)


def test_parts_of_content_are_read(script: Script) -> None:
    content = [{"type": "text", "text": "opening"}, {"type": "text", "text": "hours"}]
    said = ask(script, GREETED, {"role": "user", "content": content})["message"]["content"]
    assert "Monday to Friday" in said


@pytest.mark.parametrize(
    ("content", "url", "status"),
    [
        ("{", URL, 400),
        ("{}", URL, 400),
        ('{"messages": 3}', URL, 400),
        ('{"messages": []}', "http://scripted/v1/models", 404),
    ],
)
def test_what_is_no_request_is_refused(script: Script, content: str, url: str, status: int) -> None:
    answer = post(script, content, url)
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_hints_follow_the_conversation(script: Script) -> None:
    none: frozenset[str] = frozenset()
    assert "opening hours" in hints(script, [], none).phrases
    assert "yes" in hints(script, [GREETED, user("sales")], none).phrases
    assert "sales" not in hints(script, [GREETED, user("sales")], none).phrases
    message = hints(script, [GREETED, user("leave a message"), GREETED, user("yes")], none)
    assert message.phrases == ()
    assert message.pause_ms == 1500


RECEPTION = str(Path(__file__).parents[3] / "config" / "reception.yaml")
OPEN, CLOSED = (datetime(2026, 11, day, 10, tzinfo=UTC) for day in (23, 22))


def at(now: datetime) -> Script:
    return scripted_at(load("scripted:receptionist", RECEPTION), now)


def said(script: Script, *messages: dict[str, str]) -> tuple[str, list[dict[str, Any]]]:
    tools = frozenset(("hang_up", "transfer_call", "take_message"))
    message = reply(script, messages, tools)
    return message["content"], [call["function"] for call in message.get("tool_calls", ())]


def test_a_department_is_reached_by_a_transfer() -> None:
    script = at(OPEN)
    assert script.transfers
    text, calls = said(script, GREETED, user("sales"), user("yes"))
    assert text == "One moment, please. I am putting you through."
    assert calls == [{"name": "transfer_call", "arguments": '{"target": "tel:+49301234501"}'}]


@pytest.mark.parametrize(
    ("news", "why"),
    [
        ("486 Busy Here", "the line is busy"),
        ("480 Temporarily Unavailable", "nobody answers there"),
        ("404 Not Found", "that telephone cannot be reached"),
    ],
)
def test_a_transfer_that_fails_is_spoken_to_once(news: str, why: str) -> None:
    failed = {"role": "system", "content": f"[transfer failed: {news}]"}
    turns = (GREETED, user("sales"), user("yes"), failed)
    assert said(at(OPEN), *turns) == (
        f"I am sorry, {why}. Say leave a message, menu, or goodbye.",
        [],
    )
    text, calls = said(at(OPEN), *turns, user("menu"))
    assert (text[:5], calls) == ("Hello", [])


def test_a_department_with_hours_of_its_own() -> None:
    evening = at(datetime(2026, 11, 23, 18, 30, tzinfo=UTC))
    assert said(evening)[0].startswith("Hello. We are closed now.")
    _, calls = said(evening, GREETED, user("support"), user("yes"))
    assert [call["name"] for call in calls] == ["transfer_call"]


def test_nobody_is_transferred_outside_of_the_hours() -> None:
    assert said(at(CLOSED))[0].startswith("Hello. We are closed now.")
    text, calls = said(at(CLOSED), GREETED, user("opening hours"))
    assert text.endswith("four. Goodbye.")
    assert [call["name"] for call in calls] == ["hang_up"]
    assert not any(call for call in said(at(CLOSED), GREETED, user("sales"))[1])
    assert at(CLOSED).states["menu"].on["sales"] == Target(to="closed")


LEAVE = (GREETED, user("leave a message"))
TOOLS = frozenset(("hang_up", "transfer_call", "take_message"))


def news(text: str) -> dict[str, str]:
    return {"role": "system", "content": f"[message {text}]"}


def test_a_message_is_asked_for_and_taken() -> None:
    text, (call,) = said(at(OPEN), *LEAVE)
    assert text.startswith("Please leave your message after the tone.")
    assert call["name"] == "take_message"
    terms = {"min_s": 1.5, "max_s": 180.0, "silence_s": 3.0, "finish": "#"}
    assert json.loads(call["arguments"]) == terms
    text, calls = said(at(OPEN), *LEAVE, GREETED, news("taken"))
    assert (text[:40], calls) == ("Thank you. Your message has been taken. ", [])
    assert said(at(OPEN), *LEAVE, news("taken"), user("menu"))[0].startswith("Hello, this")
    # Heard by nobody but the recording.
    assert hints(at(OPEN), LEAVE, TOOLS).phrases == ()


def test_a_message_of_nothing_is_asked_for_again_until_it_is_given_up() -> None:
    turns = [*LEAVE, GREETED]
    for _ in range(2):
        turns += [news("too short"), GREETED]
        text, (call,) = said(at(OPEN), *turns)
        assert (text[:27], call["name"]) == ("I did not hear anything. Pl", "take_message")
    text, (call,) = said(at(OPEN), *turns, news("too short"))
    assert (text, call["name"]) == ("I am sorry, I could not understand you. Goodbye.", "hang_up")


def test_who_speaks_before_the_tone_is_told_to_wait_for_it() -> None:
    text, (call,) = said(at(OPEN), *LEAVE, GREETED, user("(inaudible)"))
    assert (text, call["name"]) == ("Please speak after the tone.", "take_message")


def test_nobody_is_told_to_speak_where_nothing_is_recorded() -> None:
    without = frozenset(("hang_up",))
    unable = "I am sorry, I cannot take a message now. Say menu, or goodbye."
    assert reply(at(OPEN), LEAVE, without)["content"] == unable
    assert said(at(OPEN), *LEAVE, GREETED, news("failed")) == (unable, [])


def test_a_client_that_takes_messages_itself_says_when_it_has() -> None:
    result = {"role": "tool", "content": "{}"}
    text, calls = said(at(OPEN), *LEAVE, GREETED, result)
    assert (text[:39], calls) == ("Thank you. Your message has been taken.", [])


def test_a_closed_department_takes_a_message() -> None:
    text, (call,) = said(at(CLOSED), GREETED, user("support"), user("yes"))
    assert (text[:25], call["name"]) == ("Please leave your message", "take_message")


def test_the_receptionist_that_comes_along_transfers_nobody(script: Script) -> None:
    assert not script.transfers
    assert not script.takes_messages
