"""Two processes for a whole run: tests with peers mostly wait, and the rest goes beside them.

`pytest -n 2 --dist loadscope` makes them. What a process has to tell after the run it tells by
`say`, whichever process that is.
"""

import os
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

PEERS, REST = "tests/interop/", "rest"
NICER = 5

_said: pytest.StashKey[dict[str, None]] = pytest.StashKey()


def say(config: pytest.Config, line: str) -> None:
    """After the run, and once however many processes say it."""
    config.stash[_said][line] = None


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_said] = {}


class _Halves(LoadScopeScheduling):  # type: ignore[misc]
    """Its own groups hang on names, which pytest 9.2 does not let it change."""

    def _split_scope(self, nodeid: str) -> str:
        return PEERS if nodeid.startswith(PEERS) else REST


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Halves | None:
    return _Halves(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    if hasattr(item.config, "workerinput") and not item.nodeid.startswith(PEERS):
        # Phones keep time, and must not wait for sums.
        os.nice(max(0, NICER - os.nice(0)))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
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
