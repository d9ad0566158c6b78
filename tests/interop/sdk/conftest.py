"""One server in the clear and one behind TLS for all clients, and the table of what they showed."""

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiortc import RTCPeerConnection

from tests.interop.judge import Judge
from tests.interop.sdk.peer import Bench, Told
from tests.interop.sdk.table import Table
from tests.peers import speech
from tests.peers.model import Model
from tests.peers.service import Service
from tests.ports import free_port
from tests.processes import say

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSB0ZXN0IHJ1bg=="
SENTENCE = "What are your opening hours?"

table_key: pytest.StashKey[Table] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[table_key] = Table()


def pytest_sessionfinish(session: pytest.Session) -> None:
    table = session.config.stash[table_key]
    if table.tried:
        for line in table.lines():
            say(session.config, line)


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Table:
    return request.config.stash[table_key]


@pytest.fixture(scope="session")
def model() -> Iterator[Model]:
    with Model() as model:
        yield model


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"]
    command += ["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@pytest.fixture(scope="session")
def offer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A browser's offer, for clients that only pass it on."""

    async def make() -> str:
        connection = RTCPeerConnection()
        connection.createDataChannel("oai-events")
        connection.addTransceiver("audio")
        await connection.setLocalDescription(await connection.createOffer())
        text = connection.localDescription.sdp
        await connection.close()
        return text

    path = tmp_path_factory.mktemp("offer") / "offer.sdp"
    path.write_text(asyncio.run(make()))
    return path


def serve(model: Model, **settings: Any) -> Iterator[Bench]:
    port, page = free_port(), free_port()
    with Service(
        http__cors_origins=json.dumps([f"http://127.0.0.1:{page}"]),
        cascade__llm__base_url=model.base_url,
        cascade__llm__model="test",
        webhooks__url=f"http://127.0.0.1:{port}/webhook",
        webhooks__secret=SECRET,
        **settings,
    ) as service:
        yield Bench(service, webhook_port=port, webhook_secret=SECRET, page_port=page)


@pytest.fixture(scope="session")
def plain(model: Model) -> Iterator[Bench]:
    yield from serve(model)


@pytest.fixture(scope="session")
def secure(model: Model, certificate: tuple[Path, Path]) -> Iterator[Bench]:
    path, key = map(str, certificate)
    yield from serve(model, http__tls_certificate=path, http__tls_private_key=key)


@pytest.fixture
def variables(certificate: tuple[Path, Path], offer: Path) -> Callable[[Bench], Mapping[str, str]]:
    def of(bench: Bench) -> Mapping[str, str]:
        trusted = str(certificate[0])
        return {
            "OPENAI_BASE_URL": bench.service.base_url,
            "OPENAI_API_KEY": "sk-test",
            "OPENAI_WEBHOOK_SECRET": bench.webhook_secret,
            "OPENAI_AGENTS_DISABLE_TRACING": "1",
            "SSL_CERT_FILE": trusted,
            "NODE_EXTRA_CA_CERTS": trusted,
            "PEER_WEBHOOK_PORT": str(bench.webhook_port),
            "PEER_PAGE_PORT": str(bench.page_port),
            "PEER_SPEECH": str(speech.wav(SENTENCE, rate=24000)),
            "PEER_OFFER": str(offer),
        }

    return of


@pytest.fixture
def show(
    judge: Judge, table: Table, variables: Callable[[Bench], Mapping[str, str]]
) -> Callable[..., Told]:
    """Run one client to its end: every feature of its row passed, every event valid."""

    def run(client: str, bench: Bench, command: Sequence[str], **extra: str) -> Told:
        table.tried.add(client)
        told = asyncio.run(bench.converse(command, {**variables(bench), **extra}))
        for feature in told.passed:
            table.passed(client, feature)
        judge.hear(told.events)
        assert told.status == 0, f"{client} failed:\n{told.complaints}"
        assert not table.missing(client)
        return told

    return run
