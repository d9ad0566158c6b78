"""Two processes for a whole run: tests with peers mostly wait, and the rest goes beside them.

`pytest -n 2 --dist loadscope` makes them. Tests that time sound come when the rest is over. What a
process has to tell after the run it tells by `say`, whichever process that is.
"""

import fcntl
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

PEERS, REST = "tests/interop/", "rest"
NICER = 5
ALONE = tuple(
    f"tests/{name}.py"
    for name in (
        "bench/test_wire",
        "e2e/test_hostile_events",
        "e2e/test_upstream",
        "e2e/test_upstream_fallback",
        "interop/test_baresip",
        "interop/test_barge_in",
        "interop/test_browser_phone",
        "interop/test_chromium",
        "interop/test_dtls_phones",
        "interop/test_full",
        "interop/test_hangup",
        "interop/test_linphone",
        "interop/test_media_truth",
        "interop/test_openai_python",
        "interop/test_phone_features",
        "interop/test_sipp_media",
        "interop/test_softphones",
        "interop/test_torture",
    )
)
"""How late a packet is, or how long something takes, hangs on what else the machine does."""

_rest: pytest.StashKey[int] = pytest.StashKey()
_said: pytest.StashKey[dict[str, None]] = pytest.StashKey()


def say(config: pytest.Config, line: str) -> None:
    """After the run, and once however many processes say it."""
    config.stash[_said][line] = None


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_said] = {}


class _Halves(LoadScopeScheduling):  # type: ignore[misc]
    """Its own groups hang on names, which pytest 9.2 does not let it change."""

    def _split_scope(self, nodeid: str) -> str:
        return PEERS if nodeid.startswith((PEERS, *ALONE)) else REST


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Halves | None:
    return _Halves(config, log) if _halves(config) else None


def _halves(config: pytest.Config) -> bool:
    return bool(config.getvalue("dist") == "loadscope")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    if _halves(node.config):
        node.workerinput["halves"] = True


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.nodeid.startswith(ALONE))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Ahead of what watches how long a test takes: the wait is not its own."""
    config = item.config
    rest = not item.nodeid.startswith((PEERS, *ALONE))
    # A process that runs both has no one to wait for.
    if "halves" in getattr(config, "workerinput", {}) and _rest not in config.stash:
        if rest:
            _hold(config)
        elif item.nodeid.startswith(ALONE):
            _hold(config)
            _let_go(config)
    if rest and hasattr(config, "workerinput"):
        # Phones keep time, and must not wait for sums.
        os.nice(max(0, NICER - os.nice(0)))
    return (yield)


def _lock(config: pytest.Config) -> Path:
    """Held by the process that runs the rest, to its end."""
    run: str = config.workerinput["testrunuid"]  # type: ignore[attr-defined]
    return Path(tempfile.gettempdir()) / f"bridge-tests-{run}"


def _hold(config: pytest.Config) -> None:
    config.stash[_rest] = held = os.open(_lock(config), os.O_CREAT | os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)


def _let_go(config: pytest.Config) -> None:
    _lock(config).unlink(missing_ok=True)
    os.close(config.stash[_rest])
    del config.stash[_rest]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _rest in session.config.stash:
        _let_go(session.config)
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        said = session.config.stash[_said]
        output["said"] = list(said)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for line in getattr(node, "workeroutput", {}).get("said", ()):
        say(node.config, line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in terminalreporter.config.stash[_said]:
        terminalreporter.write_line(line)
