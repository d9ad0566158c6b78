import asyncio
import json
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import connect

from bridge.app import FAREWELL_S, HttpServer, Running, running
from bridge.config import Config
from bridge.errors import ConfigError
from bridge.settings import load
from tests.peers.phone import Phone
from tests.ports import HOST, free_port
from tests.virtual import VirtualLoop


def config(**more: object) -> Config:
    settings = {
        "session.backend": "echo",
        "http.port": 0,
        "sip.udp_port": free_port(),
        "sip.tcp_port": 0,
        "limits.drain_timeout_s": 0,
    }
    return load(environment={}, overrides=settings | more)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Nothing that the service began may outlive it."""

    async def main() -> None:
        async with asyncio.timeout(20):
            await scenario
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


async def phone_for(settings: Config) -> Phone:
    return await Phone((HOST, settings.sip.udp_port)).open()


def attach(service: Running, query: str) -> connect:
    return connect(
        f"{service.http_url.replace('http', 'ws', 1)}/v1/realtime?{query}",
        additional_headers={"Authorization": "Bearer any"},
    )


def test_a_call_from_start_to_stop() -> None:
    async def scenario() -> None:
        settings = config()
        async with running(settings) as service:
            phone = await (await phone_for(settings)).call()
            (record,) = service.switchboard.live()
            async with attach(service, f"call_id={record['id']}") as sideband:
                created = json.loads(await sideband.recv())
                assert created["type"] == "session.created"
                assert created["session"]["id"] == record["session_id"]
                await sideband.send('{"type": "response.create"}')
                types = set()
                while "output_audio_buffer.stopped" not in types:
                    types.add(json.loads(await sideband.recv())["type"])
                phone.hangup()
                async for _ in sideband:
                    pass
                assert sideband.close_code == 1000
            assert max(packet.peak for packet in phone.packets) > 1000
            assert (len(service.switchboard), len(service.sip)) == (0, 0)
            await phone.close()

    run(scenario())


async def _no_app(*_: Any) -> None: ...


@pytest.mark.parametrize("told_after_s", [0.4, FAREWELL_S + 1])
def test_http_goes_when_its_clients_have_heard_the_end(told_after_s: float) -> None:
    async def scenario() -> None:
        server = HttpServer(uvicorn.Config(_no_app))
        loop = asyncio.get_running_loop()
        began = loop.time()
        telling = asyncio.ensure_future(asyncio.sleep(told_after_s))
        server.server_state.tasks.add(telling)
        await server.finish()
        assert server.should_exit
        assert telling.done() == (told_after_s < FAREWELL_S)
        assert loop.time() - began == pytest.approx(min(told_after_s, FAREWELL_S))
        telling.cancel()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


def test_an_idle_http_server_wakes_once_a_second_and_stops_at_once() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        began, ticks = loop.time(), 0

        class Counting(HttpServer):
            async def on_tick(self, counter: int) -> bool:
                nonlocal ticks
                ticks += 1
                return await super().on_tick(counter)

        server = Counting(uvicorn.Config(_no_app))
        serving = asyncio.ensure_future(server.main_loop())
        await asyncio.sleep(4.5)
        server.server_state.default_headers = []
        await asyncio.sleep(1)
        assert ticks == 6
        ((name, _), *_) = server.server_state.default_headers
        assert name == b"date"
        await server.finish()
        await serving
        assert loop.time() - began == pytest.approx(5.5)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


def test_stopping_hangs_up_and_lets_every_client_go() -> None:
    async def scenario() -> None:
        settings = config()
        async with running(settings) as service:
            phone = await (await phone_for(settings)).call()
            (record,) = service.switchboard.live()
            sideband = await attach(service, f"call_id={record['id']}")
            plain = await attach(service, "model=echo")
            await sideband.recv()
            await plain.recv()
        await asyncio.wait_for(phone.ended.wait(), 1)
        for client in (sideband, plain):
            await client.wait_closed()
            assert client.close_code == 1000
        await phone.close()

    run(scenario())


@pytest.mark.parametrize(
    ("kind", "setting"), [(socket.SOCK_STREAM, "http.port"), (socket.SOCK_DGRAM, "sip.udp_port")]
)
def test_a_port_that_is_taken(kind: socket.SocketKind, setting: str) -> None:
    async def scenario() -> None:
        with socket.socket(socket.AF_INET, kind) as taken:
            taken.bind((HOST, 0))
            if kind is socket.SOCK_STREAM:
                taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(ConfigError, match=str(port)) as raised:
                async with running(config(**{setting: port})):
                    pass
        assert raised.value.param == setting

    run(scenario())


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        file = tmp_path / "certificate.pem"
        file.write_text("not a certificate")
        tls = {"http.tls_certificate": str(file), "http.tls_private_key": str(file)}
        with pytest.raises(ConfigError) as raised:
            async with running(config(**tls)):
                pass
        assert raised.value.param == "http.tls_certificate"

    run(scenario())


def test_a_service_may_be_started_again_in_the_same_place() -> None:
    async def scenario() -> None:
        settings = config(**{"http.port": free_port()})
        for _ in range(2):
            async with running(settings) as service:
                assert service.http_url == f"http://{HOST}:{settings.http.port}"

    run(scenario())
