"""A switchboard with everything around it: phones that ring, browsers, a webhook, puppets."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from bridge.backends.base import Capabilities
from bridge.calls.policy import CallPolicy, SourcePolicy
from bridge.calls.switchboard import Defaults, Limits, Switchboard
from bridge.calls.trunks import Trunk, Trunks
from bridge.calls.webhooks import WebhookEvent, WebhookSender
from bridge.errors import BackendError
from bridge.ids import CallId
from bridge.legs.base import Leg
from bridge.realtime.session_config import SessionConfig
from tests.backends.puppet import Puppet
from tests.legs.extension import Extension

SESSION = {"type": "realtime", "model": "m-1", "instructions": "Be brief."}
ANSWER_SDP = "v=0\r\nanswer"


class Announced(WebhookSender):
    """The receiver takes every event; `events` says which."""

    def __init__(self) -> None:
        super().__init__("http://receiver.example/", "secret")
        self.events: list[WebhookEvent] = []

    async def deliver(self, event: WebhookEvent, *, while_: Callable[[], bool]) -> bool:
        if while_():
            self.events.append(event)
        return while_()


class Browsers:
    """`legs` in the order of their offers; each takes its time to be gathered."""

    def __init__(self) -> None:
        self.legs: list[Extension] = []

    async def offer(self, sdp: str) -> tuple[Leg, str]:
        leg = Extension("webrtc")
        # Media is negotiated by the time the connection is up.
        leg.stream = None
        self.legs.append(leg)
        await asyncio.sleep(0)
        return leg, ANSWER_SDP


class Desk:
    """`unreachable`: models do not start until their `reachable` is set."""

    def __init__(
        self,
        *,
        webhook: bool = False,
        greeting: str = "",
        capabilities: Capabilities | None = None,
        failure: BackendError | None = None,
        unreachable: bool = False,
        limits: Limits | None = None,
        trunks: Sequence[Trunk] = (),
        is_full: bool = False,
    ) -> None:
        self.models: list[Puppet] = []
        self.webhooks = Announced() if webhook else None
        self.browsers = Browsers()
        self.clock = 1_700_000_000.0
        self.is_full = is_full
        self._model = capabilities, failure, unreachable
        self.board = Switchboard(
            node_tag="test",
            browsers=self.browsers,
            new_backend=self._new_model,
            defaults=Defaults(
                SessionConfig.create({"type": "realtime", "model": "default"}), greeting=greeting
            ),
            webhooks=self.webhooks,
            policy=CallPolicy(
                SourcePolicy((), admits_unknown=True), Trunks(trunks), now=lambda: self.clock
            ),
            unix_time=lambda: self.clock,
            limits=replace(limits or Limits(), is_full=lambda: self.is_full),
        )

    def _new_model(self) -> Puppet:
        capabilities, failure, unreachable = self._model
        model = Puppet(capabilities=capabilities, failure=failure)
        if unreachable:
            model.reachable.clear()
        self.models.append(model)
        return model

    @property
    def model(self) -> Puppet:
        (model,) = self.models
        return model

    def call(self, leg: Extension | None = None) -> tuple[Extension, CallId]:
        """A phone rings."""
        leg = leg or Extension()
        self.board.incoming(leg)
        return leg, CallId(self.board.live()[-1]["id"])

    async def answered(self, session: dict[str, Any] | None = None) -> tuple[Extension, CallId]:
        """A phone that was accepted by webhook, and sent its ACK."""
        leg, call_id = self.call()
        await self.board.accept(call_id, session or SESSION)
        leg.acknowledges()
        return leg, call_id

    def state(self, call_id: CallId) -> str:
        record = self.board.record(call_id)
        reason = record["end_reason"]
        return f"{record['state']}: {reason}" if reason else str(record["state"])

    async def close(self) -> None:
        """Nothing may be left: every model that began is closed, once."""
        await self.board.close()
        if self.webhooks is not None:
            await self.webhooks.close()
        assert len(self.board) == 0
        assert [model.closed for model in self.models] == [1] * len(self.models)
