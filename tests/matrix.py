"""Which row of the conformance matrix which test shows, and a table of it after the run.

`@pytest.mark.matrix(12, 13, peer="sipp")` on a test names its rows. With --matrix=FILE the table
is written there too, and the run fails if a row that has to be shown was not.
"""

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

OURS = frozenset({"core", "phone"})
"""Peers that are: two of our own agents, and the phone of these tests."""
SHOWN_OF_P2 = frozenset({36, 38, 45, 46, 49, 50, 55, 59, 60})

ROWS = """
1 0 INVITE by UDP: 100, 180, 200 with SDP, ACK, BYE
2 0 the same by TCP; split and pipelined segments, CRLF keepalive
3 1 the same by TLS; a bad certificate is rejected
4 0 INVITE again before the answer: last 1xx again, one call
5 0 INVITE again after 200 and ACK: absorbed
6 0 200 or ACK lost: 200 again; no ACK for 64*T1: BYE
7 0 15 % loss, 50 calls each way, nothing left
8 0 4xx is repeated until the ACK
9 0 CANCEL while it rings; CANCEL that crosses the 200
10 0 CANCEL, BYE, INFO without match: 481; ACK without match: silence
11 0 INVITE with an unknown tag: 481; merged: 482
12 0 OPTIONS in and out of a call
13 0 unknown method: 405; CSeq mismatch, missing header: 400
14 0 420, 415, 416, 505; Max-Forwards 0 is fine
15 0 RFC 4475: 49 messages
16 1 mutated messages: one error type, under 1 ms
17 0 folding, compact forms, odd spacing and hosts, IPv6
18 0 BYE both ways, again, with a wrong tag, during re-INVITE
19 0 re-INVITE: hold in three ways, and resume
20 0 re-INVITE without SDP; a failed one keeps the call
21 0 INVITE without SDP; no usable answer: BYE
22 0 session refresh: same o=; empty UPDATE
23 1 Session-Expires: 422, both refreshers, expiry
24 1 outbound Session-Expires: 422 is heeded; peers without timer
25 1 glare: 491, later it works
26 0 lower CSeq: 500; a gap is fine
27 0 Record-Route twice: echoed, followed by our BYE
28 0 UAC: routes reversed, ACK and BYE go by them
29 1 strict routers, lr=on, r2=on
30 0 Kamailio dispatcher with two nodes, one killed
31 0 rport, received, private Contact behind NAT
32 0 UAC: INVITE repeated, given up; ringing may last
33 1 forking: ACK both, BYE the extra one
34 0 CANCEL only after a 1xx; 487 acknowledged
35 0 401, 407, MD5, SHA-256, stale, wrong password
36 2 digest asked of callers
37 1 REGISTER: refresh, 423, restart, failover, farewell
38 2 Path, Service-Route, CRLF keepalive
39 1 3xx is told; 305 and 380 are not followed
40 1 503: next target; ICMP unreachable: next target
41 0 183 with SDP, then 200 with the same or without
42 1 183, 180, 200; several 18x
43 1 100rel inbound: PRACK, repeats, 504 without PRACK
44 1 100rel outbound: PRACK once each
45 2 100rel without offer: no reliable response without SDP
46 2 UPDATE with SDP before the answer
47 1 REFER inbound by policy, else refused
48 1 REFER outbound: followed; on failure the call stays
49 2 Replaces, both ways
50 2 REFER outside of a call; Refer-Sub: false
51 1 INFO with keys; MESSAGE 405; SUBSCRIBE 489
52 0 RTP: codecs, payload types, ptime, each key once
53 1 SDES-SRTP both ways; wrong key; policy
54 1 SAVP in the clear: 488; AVP where SRTP is required: 488
55 2 DTLS-SRTP, ICE and Opus in SIP
56 0 T.38 and video at port 0; T.38 re-INVITE: 488
57 0 RTP follows the source; new port; silence: BYE
58 1 over 1300 bytes: TCP; 64 KiB: refused; large UDP
59 2 IPv6 and dual stack
60 2 WebSocket with JsSIP
61 1 flood: calls unharmed; strangers get silence
62 1 soak: memory flat, timers drain
63 0 PAI of the trusted only, X-, Diversion, injection refused
64 1 drain: 503, live calls finish, BYE at the deadline
"""


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    priority: int
    what: str

    @property
    def needs(self) -> str:
        """What has to be shown of it in a full run."""
        if self.priority < 2:
            return "a peer that is not ours"
        return "any" if self.number in SHOWN_OF_P2 else ""


def _rows() -> Iterator[Row]:
    for line in ROWS.strip().splitlines():
        number, priority, what = line.split(" ", 2)
        yield Row(int(number), int(priority), what)


@dataclass(frozen=True, slots=True)
class Claim:
    row: int
    peer: str


class Matrix:
    """How the tests went that claim to show a row."""

    def __init__(self) -> None:
        self.rows = {row.number: row for row in _rows()}
        self._outcomes: dict[int, dict[str, bool]] = defaultdict(dict)

    def heard(self, claims: Iterable[Claim], *, passed: bool) -> None:
        for claim in claims:
            for peer in claim.peer.split(", "):
                peers = self._outcomes[claim.row]
                peers[peer] = peers.get(peer, True) and passed

    @property
    def ran(self) -> bool:
        """Whether somebody else's software was there."""
        return any(set(peers) - OURS for peers in self._outcomes.values())

    def lacking(self) -> list[int]:
        """Rows that have to be shown, and were not."""
        return [number for number, row in self.rows.items() if self._lacks(row)]

    def _lacks(self, row: Row) -> bool:
        peers = self._outcomes.get(row.number, {})
        good = {peer for peer, passed in peers.items() if passed}
        if row.priority < 2:
            good -= OURS
        return bool(row.needs) and not (good and all(peers.values()))

    def table(self) -> list[str]:
        width = max(len(row.what) for row in self.rows.values())
        lines = [f"{'row':>3}  P  {'what':{width}}  {'result':9}  peers"]
        for row in self.rows.values():
            peers = self._outcomes.get(row.number, {})
            failed = sorted(peer for peer, passed in peers.items() if not passed)
            result = "not shown" if not peers else "FAIL" if failed else "pass"
            named = ", ".join(f"{p} FAIL" if p in failed else p for p in sorted(peers))
            lines.append(
                f"{row.number:>3}  {row.priority}  {row.what:{width}}  {result:9}  {named}".rstrip()
            )
        return lines


KEY: pytest.StashKey[Matrix] = pytest.StashKey()
PROPERTY = "matrix"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--matrix", metavar="FILE", help="write the conformance matrix there")


def _claims(item: pytest.Item) -> Iterator[Claim]:
    for marker in item.iter_markers("matrix"):
        for row in marker.args:
            yield Claim(row, marker.kwargs["peer"])


class _Listener:
    """Reports of this process, or with pytest-xdist of all."""

    def __init__(self, matrix: Matrix) -> None:
        self._matrix = matrix

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, claims in report.user_properties:
            if name == PROPERTY and isinstance(claims, list):
                self._matrix.heard((Claim(*claim) for claim in claims), passed=report.passed)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "matrix(*rows, peer): rows of the conformance matrix that this shows"
    )
    matrix = config.stash[KEY] = Matrix()
    config.pluginmanager.register(_Listener(matrix))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    rows = config.stash[KEY].rows
    for item in items:
        for claim in _claims(item):
            if claim.row not in rows:
                raise pytest.UsageError(f"{item.nodeid}: no row {claim.row} in the matrix")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" or report.failed:
        claims: Any = [(claim.row, claim.peer) for claim in _claims(item)]
        report.user_properties.append((PROPERTY, claims))
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--matrix")
    if hasattr(session.config, "workerinput"):
        return
    matrix = session.config.stash[KEY]
    if path:
        Path(path).write_text("\n".join(matrix.table()) + "\n", encoding="utf-8")
        if matrix.lacking() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    matrix = terminalreporter.config.stash[KEY]
    wanted = terminalreporter.config.getoption("--matrix")
    if not (matrix.ran and (wanted or terminalreporter.config.getoption("verbose") >= 0)):
        return
    terminalreporter.section("conformance matrix")
    for line in matrix.table():
        terminalreporter.write_line(line)
    if wanted and (lacking := matrix.lacking()):
        named = ", ".join(map(str, lacking))
        terminalreporter.write_line(f"has to be shown, and was not: {named}", red=True)
