"""Every event of the whole run, held at its end to the types of the official clients.

With pytest-xdist the workers write down what they hear, and the controller judges.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import ledger

_folder: pytest.StashKey[Path] = pytest.StashKey()
_verdict: pytest.StashKey["Verdict"] = pytest.StashKey()


@dataclass(frozen=True, slots=True)
class Verdict:
    lines: tuple[str, ...]
    faults: tuple[str, ...]


def judge(folder: Path) -> Verdict | None:
    """None if nobody heard an event."""
    told, shapes = ledger.read(folder, "told")
    heard, shapes_heard = ledger.read(folder, "heard")
    if not told:
        return None
    # The types of the clients take seconds to import.
    from tests import clients

    events = [*shapes, *shapes_heard]
    ours = [event for event in events if event["type"].startswith(clients.OURS)]
    official = [event for event in events if not event["type"].startswith(clients.OURS)]
    faults = [f"without an id: {event['type']}" for event in ours if not event.get("event_id")]
    faults += filter(None, map(_fault, official))
    judges = "openai-python, openai-agents"
    if clients.zod_is_here():
        judges += " and agents-realtime (zod)"
        current = [event for event in official if event["type"] not in clients.BETA]
        dropped = clients.dropped_by_zod(current, folder / "zod.jsonl")
        faults += [f"dropped by agents-realtime: {event}" for event in dropped]
    pictures = sum(1 for event in official if clients.shows_picture(event))
    exceptions = {
        "not OpenAI's, for who asked": _named(told, lambda kind: kind.startswith(clients.OURS)),
        "the beta's": _named(told, clients.BETA.__contains__),
        "unknown to zod": _named(told, clients.UNKNOWN_TO_ZOD.__contains__)
        + [f"a user's input_image ({pictures} shapes)"] * bool(pictures),
    }
    lines = [
        f"{told.total()} events of {len(told)} types told, {heard.total()} of them seen to arrive, "
        f"{len(events)} shapes: {'INVALID' if faults else 'valid'} for {judges}"
    ]
    lines += [f"  {why}: {', '.join(names)}" for why, names in exceptions.items() if names]
    return Verdict(tuple(lines), tuple(faults))


def _named(told: Mapping[str, int], matches: Callable[[str], bool]) -> list[str]:
    return [f"{kind} ({told[kind]})" for kind in sorted(told) if matches(kind)]


def _fault(event: dict[str, Any]) -> str:
    from tests.clients import conforms

    try:
        conforms(event)
    except (AssertionError, LookupError, ValueError) as error:
        # pydantic explains itself for each of 46 types.
        return f"{event}: {str(error)[:400]}"
    return ""


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.stash[_folder] = Path(tempfile.mkdtemp(prefix="events-"))
        os.environ[ledger.FOLDER] = str(config.stash[_folder])
    ledger.listen(Path(os.environ[ledger.FOLDER]))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if _folder not in config.stash or (verdict := judge(config.stash[_folder])) is None:
        return
    config.stash[_verdict] = verdict
    if verdict.faults and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if verdict := terminalreporter.config.stash.get(_verdict, None):
        for line in verdict.lines:
            terminalreporter.write_line(line)
        for fault in verdict.faults:
            terminalreporter.write_line(f"  {fault}", red=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _folder in config.stash:
        shutil.rmtree(config.stash[_folder], ignore_errors=True)
