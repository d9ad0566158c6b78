"""The composition root: settings in, a running service out, and its orderly end."""

import asyncio
import contextlib
import logging
import random
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any

import uvicorn

from bridge import garbage, metrics
from bridge.api.server import ApiSettings, create_api
from bridge.backends.cascade.settings import (
    BACK_CHANNELS,
    CascadeSettings,
    SttSettings,
    TtsSettings,
)
from bridge.backends.mcp import McpServers
from bridge.backends.registry import Backends, make_backends
from bridge.backends.upstream.settings import UpstreamSettings
from bridge.calls.policy import CallPolicy
from bridge.calls.switchboard import Defaults, Limits, Switchboard
from bridge.calls.webhooks import WebhookSender
from bridge.certificates import Certificates, reload_chain
from bridge.config import Config
from bridge.errors import ConfigError
from bridge.ids import random_base62
from bridge.legs.sip import SipLegs
from bridge.legs.webrtc import WebRtcLegs
from bridge.legs.webrtc_path import Paths
from bridge.legs.webrtc_rungs import Rung, choose
from bridge.load import LOAD
from bridge.media import apm
from bridge.media.clock import ClockStats, MediaClock
from bridge.media.comfort import comfort_noise
from bridge.media.effort import EFFORT, LOOKED_AT
from bridge.media.plane import MediaPlane
from bridge.media.recorder import Recorder
from bridge.realtime.session_config import SessionConfig
from bridge.rtp.transport import RtpPoller
from bridge.settings import is_loopback
from bridge.sip.agent_config import AgentCounts
from bridge.tasks import TaskOwner
from bridge.telephony import call_policy, ice_servers, media_ports, registrations, sip_settings

log = logging.getLogger(__name__)

# 15 MiB of audio is 20 MiB of base64 in one message (OpenAI's limit for an append).
MAX_MESSAGE_BYTES = 21 * 1024 * 1024
FAREWELL_S = 1.0  # for clients to be told the end of their call


def unix_time() -> float:
    return datetime.now(UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Running:
    switchboard: Switchboard
    sip: SipLegs
    http_url: str
    sip_uris: tuple[str, ...]
    degraded: tuple[str, ...]


class HttpServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._finished = asyncio.Event()

    async def main_loop(self) -> None:
        """uvicorn's own looks ten times a second whether to stop, and each time wakes the process;
        what it keeps up to date is the second of the Date header, at every tenth look."""
        counter = 0
        while not await self.on_tick(counter):
            counter += 10
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._finished.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals are the service's own: a stop drains calls before HTTP goes away.
        yield

    async def finish(self) -> None:
        """Stop when clients have heard the end of their calls, or in FAREWELL_S: what uvicorn would
        tell them is that the service restarts."""
        if listening := set(self.server_state.tasks):
            await asyncio.wait(listening, timeout=FAREWELL_S)
        self.should_exit = True
        self._finished.set()


def _warn(config: Config) -> None:
    cascade = config.cascade
    embedded = cascade.stt.kind == "pocketsphinx" and not cascade.llm.model.startswith("scripted:")
    if config.session.backend == "cascade" and embedded:
        log.warning(
            "the embedded recogniser gets about half of the words of free speech wrong",
            extra={"stt": cascade.stt.kind, "model": cascade.llm.model},
        )


def _cascade(config: Config) -> CascadeSettings:
    cascade = config.cascade
    return CascadeSettings(
        vad=cascade.vad,
        stt=SttSettings(**cascade.stt.model_dump()),
        tts=TtsSettings(**cascade.tts.model_dump()),
        turn_model=cascade.turn.model,
        echo_gate=cascade.turn.echo_gate,
        pause_first=cascade.turn.pause_first,
        back_channels=tuple(cascade.turn.back_channels) or BACK_CHANNELS,
        llm_base_url=cascade.llm.base_url,
        llm_model=cascade.llm.model,
        llm_api_key=cascade.llm.api_key,
        llm_timeout_s=cascade.llm.timeout_s,
        script_path=cascade.llm.script,
        voice=config.session.voice,
        greeting=config.session.greeting,
        apology=cascade.apology,
        fillers=tuple(cascade.fillers),
        filler_after_s=cascade.filler_after_s,
    )


def _upstream(config: Config) -> UpstreamSettings | None:
    upstream = config.upstream
    return UpstreamSettings(**upstream.model_dump()) if upstream.url else None


def _default_session(config: Config) -> SessionConfig:
    session = config.session
    own = {"cascade": config.cascade.llm.model, "upstream": config.upstream.model or "upstream"}
    model = session.model or own.get(session.backend, "echo")
    wanted: dict[str, Any] = {
        "type": "realtime",
        "model": model,
        "instructions": session.instructions,
        "audio": {"output": {"voice": session.voice}, "input": {}},
    }
    if session.noise_reduction != "off":
        wanted["audio"]["input"]["noise_reduction"] = {"type": session.noise_reduction}
    if session.backend == "cascade":
        stt = config.cascade.stt
        wanted["audio"]["input"]["transcription"] = {"model": stt.model or stt.kind}
    return SessionConfig.create(wanted, defaults=None)


@asynccontextmanager
async def running(
    config: Config, certificates: Certificates | None = None
) -> AsyncIterator[Running]:
    """Everything started; leaving the context drains calls and stops. `certificates` learn how to
    read those in use again.

    Raises:
        ConfigError: a port is taken, or a file or package is missing.
    """
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        kind = config.session.backend
        _warn(config)
        backends = make_backends(_cascade(config), upstream=_upstream(config))
        stack.push_async_callback(backends.close)
        await backends.start({kind, config.upstream.fallback} if kind == "upstream" else {kind})

        poller = RtpPoller()
        stack.callback(poller.close)
        ports, other_ports = media_ports(config)
        plane = MediaPlane(comfort=comfort_noise(config.rtp.comfort_noise_dbfs))
        clock = MediaClock(plane, poller, loop)
        clock.start()
        stack.push_async_callback(clock.close)
        _watch(clock, plane, loop, stack, config.limits.max_load)

        rung = await _way()
        browsers = WebRtcLegs(
            plane=plane,
            poller=poller,
            ice_servers=ice_servers(config),
            advertised_address=config.webrtc.advertised_address or None,
            loopback=is_loopback(config.http.host),
            rung=rung,
        )
        stack.push_async_callback(browsers.close)
        policy = call_policy(config, loop.time)
        switchboard = _switchboard(config, browsers, backends, policy, stack)
        sip = SipLegs(
            sip_settings(config),
            plane=plane,
            poller=poller,
            ports=ports,
            policy=policy,
            on_incoming=switchboard.incoming,
            rng=random.SystemRandom(),
            registrations=registrations(config),
        )
        sip.use_other_ports(other_ports)
        _use_paths(sip, config, rung)
        switchboard.use_phones(sip)
        for part in fields(AgentCounts):
            count = attrgetter(f"counts.{part.name}")
            metrics.sip_state.labels(part.name).set_function(partial(count, sip.agent))
        await sip.start()
        certificates = certificates or Certificates()
        if config.sip.tls_certificate or config.sip.tls_ca:
            certificates.add("sip.tls_certificate", sip.reload_tls)
        stack.push_async_callback(sip.close)
        stack.push_async_callback(switchboard.close)

        listener = stack.enter_context(_listen(config))
        started = Running(switchboard, sip, _http_url(config, listener), sip.uris, _degraded(rung))
        await _serve_http(config, started, listener, stack, certificates)
        stack.push_async_callback(switchboard.drain, config.limits.drain_timeout_s)
        stack.callback(sip.drain)
        yield started


def _watch(
    clock: MediaClock,
    plane: MediaPlane,
    loop: asyncio.AbstractEventLoop,
    stack: AsyncExitStack,
    max_load: float,
) -> None:
    metrics.media_tick_late_p99_s.set_function(lambda: clock.stats.percentile(0.99) / 1000)
    metrics.media_ticks_skipped.set_function(lambda: clock.stats.skipped)
    metrics.opus_sparing.set_function(lambda: EFFORT.sparing)
    metrics.load_high.set_function(lambda: LOAD.high)
    metrics.media_load.set_function(lambda: LOAD.media)
    metrics.tasks.set_function(lambda: len(asyncio.all_tasks(loop)))
    tasks = TaskOwner("media clock")
    tasks.spawn(_judge(clock.stats, loop, max_load), name="effort")
    tasks.spawn(garbage.look(lambda: not len(plane)), name="garbage")
    stack.callback(EFFORT.forget)
    stack.callback(LOAD.forget)
    stack.push_async_callback(tasks.close)


async def _judge(stats: ClockStats, loop: asyncio.AbstractEventLoop, max_load: float) -> None:
    seen, worked, now, busy_s = stats.slots, time.thread_time(), loop.time(), stats.busy_s
    while True:
        await asyncio.sleep(1.0)
        before, work_before, busy_before = now, worked, busy_s
        worked, now, busy_s = time.thread_time(), loop.time(), stats.busy_s
        LOAD.judge((worked - work_before) / (now - before))
        LOAD.judge_media((busy_s - busy_before) / (now - before), max_load)
        latest, seen = stats.slots - seen, stats.slots
        EFFORT.judge(list(islice(reversed(stats.late_ms), min(latest, LOOKED_AT))), now)


async def _way() -> Rung:
    """That of WebRTC."""
    rung = await choose()
    for each in Rung:
        metrics.webrtc_rung.labels(each).set(each is rung)
    return rung


def _use_paths(sip: SipLegs, config: Config, rung: Rung) -> None:
    if rung is not Rung.PUBLIC:
        sip.use_paths(
            Paths(
                ice_servers=ice_servers(config),
                advertised_address=config.webrtc.advertised_address or None,
                loopback=is_loopback(config.sip.host),
                direct=rung is Rung.DIRECT,
            )
        )


def _degraded(rung: Rung) -> tuple[str, ...]:
    if rung is Rung.DIRECT:
        return ()
    return (f"WebRTC goes the way {rung.value}: this aiortc is not the tested one",)


def _switchboard(
    config: Config,
    browsers: WebRtcLegs,
    backends: Backends,
    policy: CallPolicy,
    stack: AsyncExitStack,
) -> Switchboard:
    kind = config.session.backend
    webhooks = None
    if config.webhooks.url:
        webhooks = WebhookSender(config.webhooks.url, config.webhooks.secret)
        stack.push_async_callback(webhooks.close)
    board = Switchboard(
        node_tag=random_base62(4),
        browsers=browsers,
        new_backend=lambda: backends.new(kind),
        defaults=Defaults(
            _default_session(config),
            greeting=config.session.greeting,
            strict_voice=config.session.voice_changes == "strict",
            tool_servers=McpServers(config.tools.mcp_hosts).open,
            cleaning=_cleaning(config),
        ),
        webhooks=webhooks,
        policy=policy,
        unix_time=unix_time,
        limits=Limits(
            max_calls=config.limits.max_calls,
            is_full=lambda: LOAD.full,
            ring_timeout_s=config.limits.ring_timeout_s,
            max_duration_s=config.session.max_duration_s,
            webhook_events=tuple(config.webhooks.events),
        ),
    )
    every_call = config.store.recording == "wav"
    if every_call or (kind == "cascade" and backends.takes_messages):
        board.message_recorder = recorder = Recorder(Path(config.store.recordings_path))
        board.recorder = recorder if every_call else None
        stack.callback(recorder.close)
    return board


def _cleaning(config: Config) -> apm.Wanted:
    """What every call is wanted, loaded before there is one. Raises ConfigError."""
    always = apm.Wanted(level=config.apm.gain_control, echo=config.apm.echo_control)
    if always != apm.NOTHING:
        apm.load()
    return always


def _listen(config: Config) -> socket.socket:
    host, port = config.http.host, config.http.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"http.port {port} on {host} cannot be opened: {error.strerror}; "
            "is another service using it?",
            param="http.port",
        ) from None


def _http_url(config: Config, listener: socket.socket) -> str:
    scheme = "https" if config.http.tls_certificate else "http"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.http.host, config.http.host)
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{listener.getsockname()[1]}"


async def _serve_http(
    config: Config,
    started: Running,
    listener: socket.socket,
    stack: AsyncExitStack,
    certificates: Certificates,
) -> None:
    api = create_api(
        started.switchboard,
        config=ApiSettings(
            api_keys=tuple(config.auth.api_keys),
            cors_origins=tuple(config.http.cors_origins),
            session_defaults=_default_session(config),
        ),
        ready=lambda: not started.switchboard.draining,
        degraded=started.degraded,
        sip_uris=lambda: started.sip_uris,
    )
    settings = uvicorn.Config(
        api,
        ssl_certfile=config.http.tls_certificate or None,
        ssl_keyfile=config.http.tls_private_key or None,
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    try:
        settings.load()
    except OSError as error:
        raise ConfigError(
            f"http.tls_certificate or http.tls_private_key cannot be used: {error}",
            param="http.tls_certificate",
        ) from None
    if settings.ssl is not None:
        files = config.http.tls_certificate, config.http.tls_private_key
        certificates.add("http.tls_certificate", partial(reload_chain, settings.ssl, *files))
    server = HttpServer(settings)
    tasks = TaskOwner("http")
    tasks.spawn(server.serve(sockets=[listener]), name="server")
    stack.push_async_callback(tasks.close)
    while not server.started:
        if not len(tasks):
            raise ConfigError("the HTTP server did not start; the log says why", param="http.port")
        await asyncio.sleep(0.01)

    async def stop() -> None:
        await server.finish()
        await tasks.settle(timeout_s=6.0)

    stack.push_async_callback(stop)


async def serve(config: Config, *, announce: Callable[[str], None]) -> None:
    """Run until SIGINT or SIGTERM; a second one stops without waiting for calls."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    main = asyncio.current_task()
    assert main is not None

    def stop() -> None:
        if stopping.is_set():
            main.cancel()
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    certificates = Certificates()
    loop.add_signal_handler(signal.SIGHUP, certificates.reload)
    try:
        async with running(config, certificates) as service:
            garbage.keep_off()
            announce(_where_to_call(config, service))
            await stopping.wait()
            if len(service.switchboard):
                log.info("draining", extra={"calls": len(service.switchboard)})
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise
        log.info("stopped without waiting")


def _where_to_call(config: Config, service: Running) -> str:
    lines = ["ready", f"  browser  {service.http_url}/"]
    lines += [f"  phone    {uri}" for uri in service.sip_uris]
    lines += [f"  API      {service.http_url}/v1  (set OPENAI_BASE_URL to this)"]
    if config.development:
        lines += ["  no auth.api_keys: development mode, any key is accepted, loopback only"]
    return "\n".join(lines) + "\n"
