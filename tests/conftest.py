"""What tests share: the official clients as judges of our events, and a session to play."""

import itertools
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import numpy as np
import pytest

from bridge.realtime.outputs import (
    ClearPlayout,
    Output,
    Pcm,
    Play,
    Send,
    StartResponse,
)
from bridge.realtime.server import Policy, RealtimeServer
from bridge.realtime.session_config import SessionConfig

pytest_plugins = ("tests.processes", "tests.matrix", "tests.verdict")

Event = dict[str, Any]
Check = Callable[[Event], None]


@pytest.fixture(scope="session")
def conforms() -> Check:
    """Raises unless openai-python, openai-agents and agents-realtime take this server event."""
    from tests.clients import conforms

    return conforms


def pcm(ms: int) -> Pcm:
    return (np.arange(24 * ms) % 2000).astype(np.int16)


class Playbook:
    """`book >> event` is what client "a" sends; `book.types()` what came of all since last asked.

    The playout has played `heard_ms` of each message whenever it is cleared.
    """

    def __init__(
        self,
        conforms: Check,
        *,
        on_call: bool = False,
        session: Event | None = None,
        policy: Policy | None = None,
    ) -> None:
        count = itertools.count(1)
        config = SessionConfig.create({"type": "realtime", **(session or {})})
        self.conforms = conforms
        self.heard_ms = 0
        self.playing: dict[str, int] = {}
        self.events: list[Event] = []
        self.private: list[tuple[str, Event]] = []
        self.orders: list[Output] = []
        self.server = RealtimeServer(
            session_id="sess_1",
            config=config,
            on_call=on_call,
            expires_at=1_800_000_000,
            now=0.0,
            new_id=lambda prefix: f"{prefix}_{next(count):021}",
            policy=policy or Policy(),
        )
        self.server.attach("a", 0.0)
        self.pump()
        self.private.clear()

    def __rshift__(self, event: Event) -> "Playbook":
        return self.say("a", event)

    def say(self, client: str, event: Event) -> "Playbook":
        self.server.receive(client, msgspec.json.encode(event), 0.0)
        self.pump()
        while self.server.go_on(client, 0.0):
            self.pump()
        return self

    def pump(self) -> None:
        while outputs := self.server.take():
            for output in outputs:
                self._act(output)

    def _act(self, output: Output) -> None:
        match output:
            case Send(event, to):
                if event["type"].startswith("transport."):
                    assert to is not None
                    assert to in self.server._extras, "private types are for those who asked"
                    assert event["event_id"]
                else:
                    self.conforms(event)
                if to is None:
                    self.events.append(event)
                else:
                    self.private.append((to, event))
                return
            case Play(key, sound):
                if key not in self.playing:
                    self.server.playback_started(key)
                self.playing[key] = self.playing.get(key, 0) + len(sound) // 24
            case ClearPlayout():
                cut, self.playing = self.playing, {}
                for key in cut:
                    self.server.playback_cut(key, self.heard_ms, 0.0)
                self.server.playout_cleared(0.0)
            case _:
                pass
        self.orders.append(output)

    def types(self) -> list[str]:
        """Types of the public events since the last look."""
        self.pump()
        seen = [event["type"] for event in self.events]
        self.events.clear()
        return seen

    def error(self, client: str = "a") -> Event:
        """The one error that `client` got since the last look; nobody else heard of it."""
        self.pump()
        assert not self.events
        [(to, event)] = self.private
        self.private.clear()
        assert to == client
        assert event["type"] == "error"
        error: Event = event["error"]
        return error

    def order(self, kind: type[Any]) -> Any:
        """The only order of this kind since the last look at it."""
        self.pump()
        [found] = [order for order in self.orders if isinstance(order, kind)]
        self.orders.remove(found)
        return found

    def started(self) -> str:
        """The response that the model was told to produce."""
        response_id: str = self.order(StartResponse).response_id
        return response_id

    def speak(self, ms: int = 1000, *, start_ms: int = 200) -> None:
        """The caller says something of `ms` after `start_ms` of silence."""
        begin = self.server._turns.heard_ms
        self.server.audio_received(pcm(start_ms + ms), 0.0)
        self.server.speech_started(begin + start_ms, 0.0)
        self.pump()
        self.server.speech_stopped(begin + start_ms + ms, 0.0)
        self.pump()

    def answer(self, *, text: str = "Hello there.", ms: int = 1000) -> str:
        """The model answers the open order with words and sound, and is not done yet."""
        response_id = self.started()
        self.server.text_delta(response_id, text)
        self.server.audio_delta(response_id, pcm(ms))
        self.pump()
        return response_id

    def finish(self, response_id: str) -> None:
        self.server.response_finished(response_id, None, {}, 0.0)
        self.pump()

    def play_out(self) -> None:
        for key in list(self.playing):
            del self.playing[key]
            self.server.playback_finished(key, 0.0)
        self.pump()


class MakePlaybook(Protocol):
    def __call__(
        self,
        *,
        on_call: bool = False,
        session: Event | None = None,
        policy: Policy | None = None,
    ) -> Playbook: ...


@pytest.fixture
def playbook(conforms: Check) -> MakePlaybook:
    def make(
        *, on_call: bool = False, session: Event | None = None, policy: Policy | None = None
    ) -> Playbook:
        return Playbook(conforms, on_call=on_call, session=session, policy=policy)

    return make
