"""Whatever clients, model and playout do, and in whatever order, the protocol holds."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from hypothesis import HealthCheck, given, settings, strategies as st

from bridge.realtime.outputs import FinishPlay, StartResponse, Transcribe
from bridge.realtime.server import Policy
from tests.conftest import MakePlaybook

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
    {
        "type": "session.update",
        "session": {
            "type": "realtime",
            "truncation": {"type": "retention_ratio", "retention_ratio": 0.3},
            "audio": {
                "input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5_000}}
            },
        },
    },
    {"type": "session.update", "session": {"type": "realtime", "truncation": "disabled"}},
    {"type": "session.update", "session": {"type": "realtime", "max_output_tokens": 3}},
    {"type": "session.update", "session": {"type": "realtime", "max_output_tokens": "inf"}},
    {"type": "session.update", "session": {"type": "transcription"}},
    {"type": "transcription_session.update", "session": {"turn_detection": None}},
    {"type": "transport.dtmf.send", "event": "12#"},
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
    st.tuples(st.sampled_from(["start", "stop", "hear", "pump", "digit", "turn", "wait"]), NUMBERS),
    st.tuples(st.sampled_from(["reply", "reply", "cut", "played", "start"]), NUMBERS),
)


class Play:
    """Carries out the steps, keeping what it saw to aim the next ones."""

    def __init__(self, book: Any) -> None:
        self.book = book
        self.server = book.server
        self.now = 0.0

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
        client = "b" if event["type"].startswith("transport.") else "a"
        self.server.receive(client, msgspec.json.encode(event), self.now)

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
        self.server.response_finished(self.pick(self.responses, n), None, {}, self.now)

    def do_incomplete(self, n: int) -> None:
        self.server.response_finished(self.pick(self.responses, n), "content_filter", {}, self.now)

    def do_fail(self, n: int) -> None:
        self.server.response_failed(self.pick(self.responses, n), "gone", "Gone", self.now)

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
        # A playout finishes what was written to its end, nothing else.
        written = {o.key for o in self.book.orders if isinstance(o, FinishPlay)}
        key = self.pick([key for key in self.book.playing if key in written], n)
        self.book.playing.pop(key, None)
        self.server.playback_finished(key, self.now)

    def do_transcript(self, n: int) -> None:
        ids = [o.item_id for o in self.book.orders if isinstance(o, Transcribe)]
        self.server.transcript_completed(self.pick(ids, n), "said", 0.4)

    def do_hear(self, _: int) -> None:
        self.server.audio_received(SPEECH, self.now)

    def do_start(self, n: int) -> None:
        self.server.speech_started(max(0, self.server._turns.heard_ms - 50 * n), self.now)

    def do_stop(self, _: int) -> None:
        self.server.speech_stopped(self.server._turns.heard_ms, self.now)

    def do_turn(self, n: int) -> None:
        self.do_hear(n)
        self.do_start(n)
        self.do_stop(n)

    def do_digit(self, n: int) -> None:
        self.server.digit(str(n), 1_790_000_000, as_turn=n > 2, now=self.now)

    def do_wait(self, n: int) -> None:
        self.now += 2 * n
        due = self.server.next_timer()
        if due is not None and due <= self.now:
            self.server.handle_timer(self.now)
            assert self.server.next_timer() is None

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
        self.committing: str | None = None

    def see(self, event: dict[str, Any]) -> None:
        assert event["event_id"] not in self.ids
        self.ids.add(event["event_id"])
        name = event["type"]
        if name.startswith("response."):
            self._response(name, event)
        elif name.startswith("input_audio_buffer."):
            self._heard(name.removeprefix("input_audio_buffer."), event)
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

    def _heard(self, name: str, event: dict[str, Any]) -> None:
        if name == "timeout_triggered":
            self.committing = event["item_id"]
            assert event["audio_start_ms"] <= event["audio_end_ms"]
            assert not any(self.active.values())
            assert not self.playing
        elif name == "committed":
            assert event["item_id"] not in self.conversation
            assert self.committing in (None, event["item_id"])
            self.committing = None

    def _response(self, name: str, event: dict[str, Any]) -> None:
        if name == "response.created":
            response = event["response"]
            default = response["conversation_id"] is not None
            assert response["id"] not in self.active
            assert response["id"] not in self.done
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


# BRIDGE_STEPS=50000 is the long run.
STEPS_WANTED = int(os.environ.get("BRIDGE_STEPS", "2400"))
FEWEST, LONGEST = 40, 60
SESSIONS: list[dict[str, Any]] = [{}, {}, {}, {"type": "transcription"}]


@dataclass(frozen=True, slots=True)
class Scene:
    on_call: bool
    lazily: bool
    session: dict[str, Any]


SCENES = st.builds(Scene, st.booleans(), st.booleans(), st.sampled_from(SESSIONS))


def live(playbook: MakePlaybook, steps: Sequence[tuple[str, Any]], scene: Scene) -> int:
    """One session from its beginning to its end; returns how many events came of it."""
    policy = Policy(max_input_tokens=40)
    book = playbook(on_call=scene.on_call, session=scene.session, policy=policy)
    book.server.attach("b", 0.0, extras=True)
    play = Play(book)
    for what, value in steps:
        play.run(what, value)
        if not scene.lazily:
            book.pump()
    book.pump()
    book.server.finish(play.now, reason="remote_hangup")
    book.pump()
    observer = Observer()
    for event in book.events:
        observer.see(event)
    assert not observer.active
    assert not observer.open
    assert observer.conversation == play.items
    assert not (scene.session and observer.done)
    if scene.on_call:
        assert not observer.playing
        assert book.private[-1][1]["type"] == "transport.ended"
    for to, event in book.private:
        known = ("error", "session.created", "transcription_session.updated")
        assert event["type"] in known or to == "b"
    return len(book.events) + len(book.private)


def test_every_history_is_one_a_client_can_believe(playbook: MakePlaybook) -> None:
    counted = {"steps": 0, "events": 0}

    @settings(
        max_examples=STEPS_WANTED // FEWEST,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(steps=st.lists(STEPS, min_size=FEWEST, max_size=LONGEST), scene=SCENES)
    def history(steps: list[tuple[str, Any]], scene: Scene) -> None:
        counted["events"] += live(playbook, steps, scene)
        counted["steps"] += len(steps)

    history()
    sys.stdout.write(f"{counted}\n")
    assert counted["steps"] >= STEPS_WANTED
