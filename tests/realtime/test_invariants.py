"""Whatever clients, model and playout do, and in whatever order, the protocol holds."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from hypothesis import HealthCheck, given, settings, strategies as st

from bridge.realtime.outputs import StartResponse, Transcribe

FRAME = np.zeros(480, np.int16)
SPEECH = np.zeros(24 * 400, np.int16)

NUMBERS = st.integers(0, 5)
CLIENT_EVENTS: list[dict[str, Any]] = [
    {"type": "response.create"},
    {"type": "response.create", "response": {"conversation": "none"}},
    {"type": "response.create", "response": {"output_modalities": ["text"]}},
    {"type": "response.create", "response": {"conversation": "none", "input": []}},
    {"type": "response.cancel"},
    {"type": "output_audio_buffer.clear"},
    {"type": "input_audio_buffer.clear"},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.append", "audio": "AAAA" * 3_200},
    {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": "system", "content": []},
    },
    {
        "type": "session.update",
        "session": {"type": "realtime", "audio": {"input": {"turn_detection": None}}},
    },
    {
        "type": "session.update",
        "session": {
            "type": "realtime",
            "audio": {
                "input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}
            },
        },
    },
    {
        "type": "session.update",
        "session": {
            "type": "realtime",
            "audio": {
                "input": {"turn_detection": {"type": "semantic_vad", "interrupt_response": True}}
            },
        },
    },
    {"type": "bogus"},
]
STEPS = st.one_of(
    st.tuples(st.just("client"), st.sampled_from(CLIENT_EVENTS)),
    st.tuples(
        st.sampled_from(
            [
                *("text", "audio", "tool", "finish", "fail", "cancel", "incomplete"),
                *("delete", "truncate", "retrieve", "insert", "cut", "played", "transcript"),
            ]
        ),
        NUMBERS,
    ),
    st.tuples(st.sampled_from(["start", "stop", "hear", "pump", "digit", "turn"]), NUMBERS),
    st.tuples(st.sampled_from(["reply", "reply", "cut", "played", "start"]), NUMBERS),
)


class Play:
    """Carries out the steps, keeping what it saw to aim the next ones."""

    def __init__(self, book: Any) -> None:
        self.book = book
        self.server = book.server

    def run(self, what: str, value: Any) -> None:
        getattr(self, f"do_{what}")(value)

    def pick(self, known: Sequence[str], n: int) -> str:
        return known[-1 - n % len(known)] if known else "none_1"

    @property
    def responses(self) -> list[str]:
        return [o.response_id for o in self.book.orders if isinstance(o, StartResponse)]

    @property
    def items(self) -> list[str]:
        return [item.id for item in self.server._conversation]

    def do_client(self, event: dict[str, Any]) -> None:
        self.server.receive("a", msgspec.json.encode(event), 0.0)

    def do_text(self, n: int) -> None:
        self.server.text_delta(self.pick(self.responses, n), "some words ")

    def do_audio(self, n: int) -> None:
        self.server.audio_delta(self.pick(self.responses, n), FRAME)

    def do_reply(self, n: int) -> None:
        self.do_client(CLIENT_EVENTS[n // 3])
        self.book.pump()
        self.do_text(n // 5)
        for _ in range(n):
            self.do_audio(n // 5)

    def do_tool(self, n: int) -> None:
        self.server.tool_call(self.pick(self.responses, n), f"call_{n}", "look", "{}")

    def do_finish(self, n: int) -> None:
        self.server.response_finished(self.pick(self.responses, n), None, {}, 0.0)

    def do_incomplete(self, n: int) -> None:
        self.server.response_finished(self.pick(self.responses, n), "content_filter", {}, 0.0)

    def do_fail(self, n: int) -> None:
        self.server.response_failed(self.pick(self.responses, n), "gone", "Gone", 0.0)

    def do_cancel(self, n: int) -> None:
        self.do_client({"type": "response.cancel", "response_id": self.pick(self.responses, n)})

    def do_delete(self, n: int) -> None:
        self.do_client({"type": "conversation.item.delete", "item_id": self.pick(self.items, n)})

    def do_retrieve(self, n: int) -> None:
        self.do_client({"type": "conversation.item.retrieve", "item_id": self.pick(self.items, n)})

    def do_truncate(self, n: int) -> None:
        self.do_client(
            {
                "type": "conversation.item.truncate",
                "item_id": self.pick(self.items, n),
                "content_index": 0,
                "audio_end_ms": 10,
            }
        )

    def do_insert(self, n: int) -> None:
        content = [{"type": "input_text", "text": "x"}]
        item = {"type": "message", "role": "user", "content": content}
        after = self.pick([*self.items, "root"], n)
        self.do_client(
            {"type": "conversation.item.create", "item": item, "previous_item_id": after}
        )

    def do_cut(self, n: int) -> None:
        self.book.heard_ms = n * 10

    def do_played(self, n: int) -> None:
        key = self.pick(list(self.book.playing), n)
        self.book.playing.pop(key, None)
        self.server.playback_finished(key, 0.0)

    def do_transcript(self, n: int) -> None:
        ids = [o.item_id for o in self.book.orders if isinstance(o, Transcribe)]
        self.server.transcript_completed(self.pick(ids, n), "said", 0.4)

    def do_hear(self, _: int) -> None:
        self.server.audio_received(SPEECH, 0.0)

    def do_start(self, n: int) -> None:
        self.server.speech_started(max(0, self.server._turns.heard_ms - 50 * n), 0.0)

    def do_stop(self, _: int) -> None:
        self.server.speech_stopped(self.server._turns.heard_ms, 0.0)

    def do_turn(self, n: int) -> None:
        self.do_hear(n)
        self.do_start(n)
        self.do_stop(n)

    def do_digit(self, n: int) -> None:
        self.server.digit(str(n), 1_790_000_000, as_turn=n > 2, now=0.0)

    def do_pump(self, _: int) -> None:
        self.book.pump()


class Observer:
    """A client that believes every event, and says so when one contradicts another."""

    def __init__(self) -> None:
        self.conversation: list[str] = []
        self.ids: set[str] = set()
        self.active: dict[str, bool] = {}
        self.done: set[str] = set()
        self.open: set[tuple[Any, ...]] = set()
        self.playing: set[str] = set()

    def see(self, event: dict[str, Any]) -> None:
        assert event["event_id"] not in self.ids
        self.ids.add(event["event_id"])
        name = event["type"]
        if name.startswith("response."):
            self._response(name, event)
        elif name.startswith("conversation.item."):
            self._item(name.rsplit(".", 1)[1], event)
        elif name.startswith("output_audio_buffer."):
            known = event["response_id"] in self.active or event["response_id"] in self.done
            assert known
            if name.endswith("started"):
                assert event["response_id"] not in self.playing
                self.playing.add(event["response_id"])
            else:
                self.playing.remove(event["response_id"])

    def _response(self, name: str, event: dict[str, Any]) -> None:
        if name == "response.created":
            response = event["response"]
            default = response["conversation_id"] is not None
            assert response["id"] not in self.active
            assert not (default and any(self.active.values()))
            self.active[response["id"]] = default
        elif name == "response.done":
            response = event["response"]
            del self.active[response["id"]]
            self.done.add(response["id"])
            assert not [key for key in self.open if key[0] == response["id"]]
        else:
            assert event["response_id"] in self.active
            self._part(name, event)

    def _part(self, name: str, event: dict[str, Any]) -> None:
        kind, _, verb = name.removeprefix("response.").partition(".")
        key = (event["response_id"], kind, event["output_index"])
        if verb == "added":
            assert key not in self.open
            self.open.add(key)
        elif verb == "done" and kind in ("output_item", "content_part"):
            self.open.remove(key)
        else:
            assert (event["response_id"], "output_item", event["output_index"]) in self.open

    def _item(self, verb: str, event: dict[str, Any]) -> None:
        if verb in ("added", "done"):
            item_id, previous = event["item"]["id"], event["previous_item_id"]
            if verb == "added":
                assert item_id not in self.conversation
                place = 0 if previous is None else self.conversation.index(previous) + 1
                self.conversation.insert(place, item_id)
            else:
                assert item_id in self.conversation
        elif verb == "deleted":
            self.conversation.remove(event["item_id"])
        elif verb == "truncated":
            assert event["audio_end_ms"] > 0
            assert event["item_id"] in self.conversation


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEPS, max_size=40), on_call=st.booleans(), lazily=st.booleans())
def test_every_history_is_one_a_client_can_believe(
    playbook: Any, steps: list[tuple[str, Any]], on_call: bool, lazily: bool
) -> None:
    book = playbook(on_call=on_call)
    play = Play(book)
    for what, value in steps:
        play.run(what, value)
        if not lazily:
            book.pump()
    book.pump()
    book.server.finish(0.0)
    book.pump()
    observer = Observer()
    for event in book.events:
        observer.see(event)
    assert not observer.active
    assert not observer.open
    assert observer.conversation == play.items
    if on_call:
        assert not observer.playing
    assert all(event["type"] in ("error", "session.created") for _, event in book.private)
