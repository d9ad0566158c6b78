"""Media of a phone call by ICE and DTLS, as browsers have it: our end told in SDP, theirs followed.

Our candidates have to be found before an offer can be answered, so such a call begins a moment
later than others; its caller may be gone by then.
"""

import asyncio
import logging
from collections.abc import Callable

from bridge.errors import OverloadedError
from bridge.legs.webrtc_media import PathWire
from bridge.legs.webrtc_path import Lost, MediaPath, Paths, Remote
from bridge.media.stream import AudioStream
from bridge.sdp.dtls import LocalPath, RemotePath
from bridge.sip.events import UsageId
from bridge.tasks import TaskOwner

log = logging.getLogger(__name__)

# A phone that hangs up closes its DTLS as well, and its BYE may come later than that.
BYE_DUE_S = 1.0
FAREWELLS_S = 2.0


class SipPath:
    """Drops what is sent, and hears nothing, until it is `ready`."""

    def __init__(self, path: MediaPath, tasks: TaskOwner, *, offers: bool = False) -> None:
        """`offers`: the description is ours to offer, and ICE ours to control."""
        self.on_ready: Callable[[], None] | None = None
        self.on_lost: Callable[[Lost], None] | None = None
        self._path = path
        self._tasks = tasks
        self._offers = offers
        self._remote: RemotePath | None = None
        self._farewell: asyncio.TimerHandle | None = None
        self._closed = False
        path.on_lost = self._lost

    @property
    def local(self) -> LocalPath:
        return self._path.local

    @property
    def wire(self) -> PathWire:
        return self._path.wire

    @property
    def ready(self) -> bool:
        return self._path.connected

    def connect(self, remote: RemotePath, stream: AudioStream) -> None:
        """In the background, once both descriptions are on their way; repeating it is harmless."""
        if self._closed:
            return
        if self._remote is not None:
            if remote.restarts(self._remote):
                self.reconnect(remote)
        else:
            self._remote = remote
            self.wire.feed(stream, listens=True)
            self._tasks.spawn(self._connect(remote), name="connect")

    def restart(self) -> None:
        """Another `local`, for a remote that has another."""
        self._path.restart()

    def reconnect(self, remote: RemotePath) -> None:
        """ICE alone, after `restart`, as soon as the answer is on its way."""
        self._remote = remote
        self._tasks.spawn(self._reconnect(remote), name="reconnect")

    async def _reconnect(self, remote: RemotePath) -> None:
        if not await self._path.reconnect(Remote.of(remote, controlling=self._offers)):
            self._lost("connection_lost")

    async def _connect(self, remote: RemotePath) -> None:
        if not await self._path.connect(Remote.of(remote, controlling=self._offers)):
            self._lost("connection_lost")
        elif self.on_ready is not None and not self._closed:
            self.on_ready()

    def _lost(self, why: Lost) -> None:
        if self._closed or self._farewell is not None or self.on_lost is None:
            return
        loop = asyncio.get_running_loop()
        delay_s = BYE_DUE_S if why == "remote_hangup" else 0.0
        self._farewell = loop.call_later(delay_s, self._tell_lost, why)

    def _tell_lost(self, why: Lost) -> None:
        if self.on_lost is not None and not self._closed:
            self.on_lost(why)

    def close(self) -> None:
        """Idempotent; the other side is told in the background."""
        if self._closed:
            return
        self._closed = True
        if self._farewell is not None:
            self._farewell.cancel()
        self._tasks.spawn(self._path.close(), name="close")


Opened = SipPath | OverloadedError | None


class SipPaths:
    """Opens them for calls that may have ended meanwhile."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._tasks = TaskOwner("sip paths")
        self._waiting: dict[UsageId, Callable[[Opened], None]] = {}

    def open(self, usage: UsageId, then: Callable[[Opened], None], *, offers: bool = False) -> None:
        """`then` is called once; with None if the call is `gone` before."""
        self._waiting[usage] = then
        self._tasks.spawn(self._open(usage, offers=offers), name="open")

    async def _open(self, usage: UsageId, *, offers: bool) -> None:
        found: SipPath | OverloadedError
        try:
            found = await self.opened(offers=offers)
        except OverloadedError as error:
            found = error
        then = self._waiting.pop(usage, None)
        if then is not None:
            then(found)
        elif isinstance(found, SipPath):
            found.close()

    async def opened(self, *, offers: bool = False) -> SipPath:
        """Raises OverloadedError."""
        return SipPath(await self._paths.open(), self._tasks, offers=offers)

    def gone(self, usage: UsageId) -> None:
        """The call is over."""
        if (then := self._waiting.pop(usage, None)) is not None:
            then(None)

    async def close(self) -> None:
        self._waiting.clear()
        await self._tasks.settle(FAREWELLS_S)
        await self._tasks.close()
