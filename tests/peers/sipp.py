"""sipp: scenarios written step by step, played against a server or at its calls.

A scenario is one call. What sipp cannot send is not here: it trims lines and knows no TLS.
"""

import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import quoteattr

from tests.ports import free_port

WAIT_S = 10.0
Lines = Sequence[str]

AUDIO = "m=audio [media_port] RTP/AVP 0 101\na=rtpmap:101 telephone-event/8000\na=fmtp:101 0-15"
REST = "[[:print:]]*"
"""Of a line, in a regexp."""
CALLED = "sip:[service]@[remote_ip]:[remote_port]"
OURSELVES = "sip:sipp@[local_ip]:[local_port]"


def sdp(
    media: str = AUDIO, *, direction: str = "", version: int = 1, connection: str = "[media_ip]"
) -> str:
    lines = [
        "v=0",
        f"o=sipp 1 {version} IN IP[local_ip_type] [local_ip]",
        "s=-",
        f"c=IN IP[media_ip_type] {connection}",
        "t=0 0",
        media,
        *([f"a={direction}"] if direction else []),
    ]
    return "\n".join(lines)


@dataclass
class _Invite:
    """What CANCEL, ACK and copies need of the last INVITE."""

    uri: str = CALLED
    branch: str = ""
    cseq: int = 0


@dataclass
class Scenario:
    """Steps are added in the order they are played. `from_name` is the user part of From."""

    from_name: str = "sipp"
    via: str = "[local_ip]:[local_port]"
    contact: str = f"<{OURSELVES};transport=[transport]>"
    steps: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._variables: list[str] = []
        self._invite = _Invite()
        self._cseq = 0
        self._branches = 0
        self._in_dialog = False
        self._last = ""

    # What sipp sends as the caller

    def invite(
        self,
        body: str | None = None,
        headers: Lines = (),
        *,
        uri: str = "",
        version: str = "SIP/2.0",
        retransmits: bool = True,
    ) -> "Scenario":
        """The first one, or a re-INVITE once there is a dialog; `body` None is plain audio."""
        text = sdp() if body is None else body
        self.request("INVITE", text, headers, uri=uri, version=version, retransmits=retransmits)
        self._invite = _Invite(self._uri(uri), self._branch(), self._cseq)
        return self

    def request(
        self,
        method: str,
        body: str = "",
        headers: Lines = (),
        *,
        uri: str = "",
        to: str = "",
        cseq: int | None = None,
        cseq_method: str = "",
        content_type: str = "application/sdp",
        version: str = "SIP/2.0",
        max_forwards: int = 70,
        retransmits: bool = True,
    ) -> "Scenario":
        """With the next CSeq and a branch of its own, unless told otherwise."""
        self._branches += 1
        self._cseq = self._cseq + 1 if cseq is None else max(self._cseq, cseq)
        number = self._cseq if cseq is None else cseq
        if method == "INVITE":
            self._invite = _Invite(self._uri(uri), self._branch(), number)
        lines = [
            f"{method} {self._uri(uri)} {version}",
            *self._common(to, self._branch()),
            f"CSeq: {number} {cseq_method or method}",
            f"Contact: {self.contact}",
            f"Max-Forwards: {max_forwards}",
        ]
        return self._send(lines, body, headers, content_type, retransmits=retransmits)

    def copy_of_invite(self, body: str | None = None, headers: Lines = ()) -> "Scenario":
        """The last INVITE again as it was."""
        return self._like_invite("INVITE", sdp() if body is None else body, headers)

    def merged_invite(self) -> "Scenario":
        """The last INVITE by another way: all but the branch is the same."""
        return self._like_invite("INVITE", sdp(), (), branch=f"{self._invite.branch}-fork")

    def cancel(self) -> "Scenario":
        return self._like_invite("CANCEL", "", ())

    def ack(self, body: str = "") -> "Scenario":
        """For a 2xx."""
        self._branches += 1
        lines = [
            f"ACK {self._uri('')} SIP/2.0",
            *self._common("", self._branch()),
            f"CSeq: {self._invite.cseq} ACK",
            "Max-Forwards: 70",
        ]
        return self._send(lines, body, (), "application/sdp", retransmits=False)

    def ack_refusal(self, branch_suffix: str = "") -> "Scenario":
        """For 300 to 699: in the transaction of the INVITE."""
        to = f"<{CALLED}>[peer_tag_param]"
        branch = self._invite.branch + branch_suffix
        return self._like_invite("ACK", "", (), to=to, branch=branch)

    def bye(self) -> "Scenario":
        return self.request("BYE").expect(200)

    def again(self) -> "Scenario":
        """The last message once more."""
        self.steps.append(self._last.replace(' retrans="500"', ""))
        return self

    def say(self, text: str) -> "Scenario":
        """A message as it is, but for the variables of sipp's."""
        self._last = f"<send><![CDATA[\n{text}\n]]></send>"
        self.steps.append(self._last)
        return self

    # What sipp gets

    def expect(
        self,
        status: int,
        *matches: str,
        optional: bool = False,
        early: bool = False,
        timeout_ms: int = 0,
        log: str = "",
        capture: tuple[str, str] = ("", ""),
        timed: bool = False,
    ) -> "Scenario":
        """A response; each of `matches` is found in it. `log` is a regexp: what it found is
        written to the scenario's log. `capture` keeps a group of another one as a variable.
        `timed`: how long it took from the first request on is a response time of sipp's."""
        actions = self._checks(matches, log) + self._captures([capture] if capture[0] else [])
        extra = ""
        if (early or status // 100 == 2) and self._invite.branch and not self._in_dialog:
            self._in_dialog = True
            extra = ' rrs="true"'
            actions.append(
                '<ereg regexp=";tag=.*" search_in="hdr" header="To:" assign_to="remote"/>'
            )
            self._variables.append("remote")
        if optional:
            extra += ' optional="true"'
        if timed:
            extra += ' rtd="true"'
        if timeout_ms:
            extra += f' timeout="{timeout_ms}"'
        return self._receive(f'response="{status}"{extra}', actions)

    def ringing(self) -> "Scenario":
        return self.expect(100, optional=True).expect(180, optional=True)

    def call(self, body: str | None = None, headers: Lines = (), *matches: str) -> "Scenario":
        """INVITE, 200, ACK."""
        return self.invite(body, headers).ringing().expect(200, *matches).ack()

    def receive(
        self,
        method: str,
        *matches: str,
        timeout_ms: int = 0,
        optional: bool = False,
        log: str = "",
        captures: Sequence[tuple[str, str]] = (),
    ) -> "Scenario":
        """A request."""
        extra = f' timeout="{timeout_ms}"' if timeout_ms else ""
        extra += ' optional="true"' if optional else ""
        actions = self._checks(matches, log) + self._captures(captures)
        return self._receive(f'request="{method}"{extra}', actions)

    def receive_invite(self, *matches: str) -> "Scenario":
        """One that `reply_to_invite` can answer later."""
        kept = [(name.lower(), f"{name}: ({REST})") for name in ("Via", "To", "CSeq")]
        return self.receive("INVITE", *matches, captures=kept)

    def reply_to_invite(
        self,
        status: str,
        body: str = "",
        headers: Lines = (),
        *,
        tag: str = "uas",
        contact: str = "",
    ) -> "Scenario":
        """To the INVITE that came by `receive_invite`, after other requests."""
        return self.reply(
            status,
            body,
            headers,
            tag=tag,
            contact=contact,
            via="[$via]",
            to="[$to]",
            cseq="[$cseq]",
            retransmits=not status.startswith("1"),
        )

    def reply(
        self,
        status: str = "200 OK",
        body: str = "",
        headers: Lines = (),
        *,
        tag: str = "uas",
        contact: str = "",
        cseq: str = "",
        via: str = "",
        to: str = "",
        retransmits: bool = False,
    ) -> "Scenario":
        """To the last request. `tag` goes behind To; empty for requests in a dialog."""
        lines = [
            f"SIP/2.0 {status}",
            f"Via: {via}" if via else "[last_Via:]",
            "[last_From:]",
            (f"To: {to}" if to else "[last_To:]")
            + (f";tag=[pid]{tag}[call_number]" if tag else ""),
            "[last_Call-ID:]",
            f"CSeq: {cseq}" if cseq else "[last_CSeq:]",
            f"Contact: {contact or self.contact}",
        ]
        return self._send(lines, body, headers, "application/sdp", retransmits=retransmits)

    def answer_bye(self) -> "Scenario":
        return self.receive("BYE").reply(tag="")

    def pause(self, milliseconds: int) -> "Scenario":
        self.steps.append(f'<pause milliseconds="{milliseconds}"/>')
        return self

    def execute(self, what: str) -> "Scenario":
        """An `exec` action: rtp_stream, play_pcap_audio."""
        self.steps.append(f"<nop><action><exec {what}/></action></nop>")
        return self

    # The file

    def __str__(self) -> str:
        head = '<?xml version="1.0" encoding="UTF-8"?>\n<scenario name="scenario">\n'
        used = sorted(set(self._variables))
        tail = f'\n<Reference variables="{",".join(used)}"/>' if used else ""
        return head + "\n".join(self.steps) + tail + "\n</scenario>\n"

    def _uri(self, uri: str) -> str:
        return uri or ("[next_url]" if self._in_dialog else CALLED)

    def _branch(self) -> str:
        return f"z9hG4bK-[pid]-[call_number]-{self._branches}"

    def _common(self, to: str, branch: str) -> list[str]:
        tag = "[$remote]" if self._in_dialog else ""
        return [
            f"Via: SIP/2.0/[transport] {self.via};branch={branch};rport",
            *(["[routes]"] if self._in_dialog else []),
            f"From: <sip:{self.from_name}@[local_ip]:[local_port]>;tag=[pid]sipp[call_number]",
            f"To: {to or f'<{CALLED}>{tag}'}",
            "Call-ID: [call_id]",
        ]

    def _like_invite(
        self, method: str, body: str, headers: Lines, *, to: str = "", branch: str = ""
    ) -> "Scenario":
        was = self._in_dialog
        self._in_dialog = False
        lines = [
            f"{method} {self._invite.uri} SIP/2.0",
            *self._common(to, branch or self._invite.branch),
            f"CSeq: {self._invite.cseq} {method}",
            f"Contact: {self.contact}",
            "Max-Forwards: 70",
        ]
        self._in_dialog = was
        return self._send(lines, body, headers, "application/sdp", retransmits=False)

    def _send(
        self, lines: list[str], body: str, headers: Lines, content_type: str, *, retransmits: bool
    ) -> "Scenario":
        lines = [*lines, *headers]
        lines += [f"Content-Type: {content_type}"] if body else []
        text = "\n".join([*lines, "Content-Length: [len]", "", body])
        timer = ' retrans="500"' if retransmits else ""
        self._last = f"<send{timer}><![CDATA[\n{text}\n]]></send>"
        self.steps.append(self._last)
        return self

    def _receive(self, attributes: str, actions: list[str]) -> "Scenario":
        inside = f"<action>{''.join(actions)}</action>" if actions else ""
        self.steps.append(f"<recv {attributes}>{inside}</recv>")
        return self

    def _checks(self, matches: Sequence[str], log: str) -> list[str]:
        found = [self._check(match) for match in matches]
        if log:
            found.append(self._check(log))
            found.append(f'<log message="[${self._variables[-1]}]"/>')
        return found

    def _captures(self, captures: Sequence[tuple[str, str]]) -> list[str]:
        actions = []
        for name, group in captures:
            self._variables += [name, f"{name}_all"]
            actions.append(
                f'<ereg regexp={quoteattr(group)} search_in="msg" check_it="true" '
                f'assign_to="{name}_all,{name}"/>'
            )
        return actions

    def _check(self, match: str) -> str:
        name = f"v{len(self._variables) + 1}"
        self._variables.append(name)
        return (
            f'<ereg regexp={quoteattr(match)} search_in="msg" check_it="true" assign_to="{name}"/>'
        )


class Player:
    """One sipp process."""

    def __init__(self, folder: Path, command: Sequence[str], port: int) -> None:
        self.port = port
        self._folder = folder
        self._process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.output = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    def finish(self, timeout_s: float = WAIT_S, *, fails: bool = False) -> "Player":
        """Every call must have gone as the scenario says, or `fails`: some."""
        self.output, _ = self._process.communicate(timeout=timeout_s)
        good = (0, 1) if fails else (0,)
        assert self._process.returncode in good, self.errors() or self.output[-1500:]
        return self

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def errors(self) -> str:
        return "".join(path.read_text() for path in sorted(self._folder.glob(f"*{self.port}.err")))

    def logged(self) -> list[str]:
        path = self._folder / f"{self.port}.log"
        return path.read_text().splitlines() if path.exists() else []

    def statistic(self, name: str) -> float:
        names, *rows = (self._folder / f"{self.port}.csv").read_text().splitlines()
        return float(dict(zip(names.split(";"), rows[-1].split(";"), strict=False))[name])


@contextmanager
def playing(
    scenario: Scenario | Path,
    folder: Path,
    *options: str,
    to: tuple[str, int] | None = None,
    host: str = "127.0.0.1",
    transport: str = "u1",
    calls: int = 1,
    timeout_s: float = WAIT_S,
    recv_timeout_ms: int = 8000,
    fails: bool = False,
) -> Iterator[Player]:
    """Calls `to`, or waits to be called without it; at the end of the block it is waited for.

    `fails`: some calls may go otherwise than the scenario.
    """
    port = free_port()
    if isinstance(scenario, Scenario):
        path = folder / f"{port}.xml"
        path.write_text(str(scenario))
    else:
        path = scenario
    command = ["sipp", "-sf", str(path), "-nostdin", "-m", str(calls), "-s", "agent"]
    command += ["-i", host, "-mi", host, "-p", str(port), "-mp", str(_media_port(port))]
    command += ["-t", transport, "-recv_timeout", str(recv_timeout_ms)]
    command += ["-trace_err", "-error_file", f"{port}.err"]
    command += ["-trace_logs", "-log_file", f"{port}.log"]
    command += ["-trace_stat", "-stf", f"{port}.csv", "-fd", "1", *options]
    if to is not None:
        name, number = to
        command.append(f"[{name}]:{number}" if ":" in name else f"{name}:{number}")
    player = Player(folder, command, port)
    try:
        _until_bound(port)
        yield player
        player.finish(timeout_s, fails=fails)
    finally:
        player.kill()


def play(scenario: Scenario | Path, folder: Path, *options: str, **how: object) -> Player:
    """From its beginning to its end."""
    with playing(scenario, folder, *options, **how) as player:  # type: ignore[arg-type]
        pass
    return player


def _until_bound(port: int) -> None:
    deadline = time.monotonic() + WAIT_S
    taken = re.compile(rf"^ *\d+: [0-9A-F]+:{port:04X} ", re.MULTILINE)
    tables = [Path(f"/proc/net/{name}") for name in ("udp", "tcp", "udp6", "tcp6")]
    while not any(taken.search(table.read_text()) for table in tables):
        assert time.monotonic() < deadline, f"sipp did not take port {port}"
        time.sleep(0.01)


def _media_port(port: int) -> int:
    """Even, with room behind it, as sipp takes its neighbours too; nobody's but who has `port`."""
    return 6000 + 2 * (port % 10_000)
