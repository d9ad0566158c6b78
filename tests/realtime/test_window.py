"""How much of the conversation the model is given."""

from typing import Any

from bridge.ids import ItemId
from bridge.realtime.items import Item, Part, Words, function_call, user_text
from bridge.realtime.outputs import StartResponse
from bridge.realtime.server import Policy
from bridge.realtime.window import Window, prompt_tokens
from tests.conftest import MakePlaybook

RATIO = {"type": "retention_ratio", "retention_ratio": 0.5}


def texts(count: int, *, tokens: int = 10) -> list[Item]:
    return [user_text(ItemId(f"item_{n}"), "x" * 4 * tokens) for n in range(count)]


def kept(window: Window, items: list[Item], truncation: Any, prompt: int = 0) -> list[str]:
    return [item.id.removeprefix("item_") for item in window.fit(items, truncation, prompt)]


def test_what_fits_is_whole() -> None:
    assert kept(Window(100), texts(10), "auto") == list("0123456789")
    assert kept(Window(100), texts(10), "disabled") == list("0123456789")


def test_the_oldest_leave_first() -> None:
    assert kept(Window(50), texts(8), "auto") == list("34567")
    assert kept(Window(60), texts(8), "auto", prompt=15) == list("4567")


def test_a_ratio_makes_room_at_once_and_for_long() -> None:
    window = Window(100)
    items = texts(11)
    assert kept(window, items, RATIO) == ["6", "7", "8", "9", "10"]
    # What was left out stays out until the limit is reached again.
    items += [user_text(ItemId("item_11"), "x" * 200)]
    assert kept(window, items, RATIO) == ["6", "7", "8", "9", "10", "11"]
    items += [user_text(ItemId("item_12"), "xxxx")]
    assert kept(window, items, RATIO) == ["12"]


def test_a_limit_after_the_instructions() -> None:
    limited = RATIO | {"token_limits": {"post_instructions": 40}}
    assert kept(Window(1_000), texts(5), limited, prompt=900) == ["3", "4"]
    assert kept(Window(1_000), texts(5), RATIO | {"token_limits": None}) == list("01234")
    whole = RATIO | {"token_limits": {"post_instructions": None}}
    assert kept(Window(1_000), texts(5), whole) == list("01234")


def test_the_last_item_stays() -> None:
    assert kept(Window(5), texts(3), "auto", prompt=50) == ["2"]
    assert kept(Window(5), texts(1), RATIO | {"retention_ratio": 0.0}) == ["0"]


def test_the_output_of_a_call_leaves_with_it() -> None:
    call = function_call(ItemId("item_a"), "call_1", "look")
    call.status = "completed"
    output = Item(
        ItemId("item_b"), "function_call_output", {"call_id": "call_1", "output": "x" * 40}
    )
    assert kept(Window(22), [call, output, *texts(2)], "auto") == ["0", "1"]
    window = Window(30)
    assert kept(window, [call, output, *texts(2)], "auto") == ["0", "1"]


def test_sound_counts_by_its_length() -> None:
    heard = Item(ItemId("u"), "message", {}, [Part("input_audio", samples=24_000)])
    said = Item(ItemId("a"), "message", {}, [Part("output_audio", Words("abcd"), samples=24_000)])
    assert (heard.tokens, said.tokens) == (10, 21)
    assert prompt_tokens("x" * 9, [{"a": 1}]) == 5


def test_a_long_conversation_is_cut_and_its_usage_counted(playbook: MakePlaybook) -> None:
    book = playbook(policy=Policy(max_input_tokens=50))
    for _ in range(10):
        content = [{"type": "input_text", "text": "x" * 40}]
        item = {"type": "message", "role": "user", "content": content}
        book >> {"type": "conversation.item.create", "item": item}
    book >> {"type": "response.create"}
    order = book.order(StartResponse)
    assert len(order.items) == 5
    book.finish(order.response_id)
    assert book.events[-1]["response"]["usage"]["input_tokens"] == 50
    book.events.clear()

    patch = {"type": "realtime", "truncation": "disabled", "instructions": "x" * 200}
    book >> {"type": "session.update", "session": patch}
    book.types()
    book >> {"type": "response.create", "event_id": "evt_1"}
    error = book.error()
    assert (error["code"], error["event_id"]) == ("context_length_exceeded", "evt_1")
    # A turn that nobody asked an answer for: all are told why there is none.
    book.speak()
    assert book.events[-1]["error"]["code"] == "context_length_exceeded"
    assert book.server.create_response(0.0) is None
    assert book.types()[-1] == "error"
    book >> {"type": "response.create", "response": {"input": [], "instructions": ""}}
    assert book.types() == ["response.created"]
