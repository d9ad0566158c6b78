"""What the HTTP edge asks of the switchboard and of a session; nothing else is reached for."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from bridge.ids import CallId


class ClientPort(Protocol):
    """One connection's bounded view of a session's events."""

    @property
    def close_code(self) -> int | None: ...

    @property
    def close_reason(self) -> str | None: ...

    async def next(self) -> str | None:
        """The next event as JSON text; None when the session is over or this client is dropped."""
        ...


class SessionPort(Protocol):
    def attach(self, *, extras: bool = False) -> ClientPort: ...

    def detach(self, client: Any, /) -> None:
        """Idempotent."""
        ...

    def receive(self, client: Any, text: str, /) -> None:
        """Never raises for what a client wrote: it gets an `error` event."""
        ...

    def go_on(self, client: Any, /) -> bool:
        """Do more of what it wrote, if that was long; whether there was more."""
        ...


class SwitchboardPort(Protocol):
    async def offer(self, sdp: str, session: Mapping[str, object] | None) -> tuple[CallId, str]: ...

    async def accept(self, call_id: CallId, session: Mapping[str, object]) -> None: ...

    async def reject(self, call_id: CallId, status: int) -> None: ...

    async def refer(
        self, call_id: CallId, target_uri: str, *, after: str = "", replaces: str = ""
    ) -> None: ...

    async def dial(
        self, transport: Mapping[str, Any], session: Mapping[str, object] | None
    ) -> CallId: ...

    async def hangup(self, call_id: CallId) -> None: ...

    def live(self) -> Sequence[Mapping[str, Any]]: ...

    def record(self, call_id: CallId) -> Mapping[str, Any]: ...

    def session(self, call_id: CallId) -> SessionPort: ...

    async def open_session(
        self, model: str, session: Mapping[str, object] | None
    ) -> SessionPort: ...
