"""A user agent of ours that answers every call, for peers that come over any transport.

It has a loop in a thread of its own. There is no media: what it shows is signalling.
"""

import asyncio
import random
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar, Unpack

from bridge.errors import SdpError
from bridge.sdp.description import SessionDescription
from bridge.sdp.negotiation import answer
from bridge.sip.agent import UserAgent
from bridge.sip.agent_config import AgentConfig
from bridge.sip.body import session_description
from bridge.sip.events import CallConfirmed, CallEnded, Event, IncomingCall
from bridge.sip.tls import TlsFiles
from bridge.sip.transport import Listeners, SipTransport

WAIT_S = 15.0
T = TypeVar("T")


class Answering:
    """Use as a context. `seen` is what the agent told, in order."""

    def __init__(self, *, tls_files: TlsFiles | None = None, **listen: Unpack[Listeners]) -> None:
        self.seen: list[Event] = []
        self._changed = threading.Condition()
        self._tls_files = tls_files
        self._listen = listen
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "Answering":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.transport.close(), self._loop).result(WAIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()

    async def _start(self) -> None:
        self.agent = UserAgent(AgentConfig(), random.Random())
        self.transport = SipTransport[Event](
            self.agent,
            on_event=self._on_event,
            flow_in_use=self.agent.flow_in_use,
            tls_files=self._tls_files,
            **self._listen,
        )
        await self.transport.start()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, IncomingCall):
            self._answer(event)
        with self._changed:
            self.seen.append(event)
            self._changed.notify_all()

    def _answer(self, call: IncomingCall) -> None:
        now = self._loop.time()
        self.agent.provisional(call.usage, 180, now)
        body = (session_description(call.request) or b"").decode()
        try:
            made = answer(
                SessionDescription.parse(body),
                address=call.flow.local[0],
                port=40000,
                session_id=1,
                version=1,
            )
        except SdpError as error:
            self.agent.reject(call.usage, error.sip_status, now)
        else:
            self.agent.answer(call.usage, str(made.description).encode(), now)

    def run(self, work: Callable[[float], T]) -> T:
        """In the loop's thread, with its time; what came of it goes out."""

        async def step() -> T:
            done = work(self._loop.time())
            self.transport.kick()
            return done

        return asyncio.run_coroutine_threadsafe(step(), self._loop).result(WAIT_S)

    def wait(self, kind: type[T], count: int = 1) -> list[T]:
        """Until `count` such events were seen."""
        with self._changed:
            met = self._changed.wait_for(lambda: len(self._of(kind)) >= count, WAIT_S)
            assert met, f"{self.seen}"
            return self._of(kind)

    def _of(self, kind: type[T]) -> list[T]:
        return [event for event in self.seen if isinstance(event, kind)]

    def calls(self) -> Sequence[tuple[str, bool, str]]:
        """Of each call its transport, whether its ACK came, and how it ended."""
        made = []
        for call in self._of(IncomingCall):
            own = [e for e in self.seen if getattr(e, "usage", None) == call.usage]
            confirmed = any(isinstance(event, CallConfirmed) for event in own)
            how = own[-1].cause if isinstance(own[-1], CallEnded) else type(own[-1]).__name__
            made.append((call.flow.transport, confirmed, how))
        return made
