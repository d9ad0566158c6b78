"""The command line: serve and check."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from bridge import __version__, logs
from bridge.config import Config
from bridge.errors import BridgeError, ConfigError
from bridge.limits import allow_open_files
from bridge.settings import load, value_of

DESCRIPTION = "OpenAI's Realtime calls API, self-hosted: phones and browsers in, any model behind."

CHECK = """\
Validates the settings and says what they come to. With --invite it says what becomes of a call
instead: what its source, its password and its media are compared with, what matches, and the
verdict. It asks the code that takes live calls, so a line "INVITE refused" in the log and this
say the same. Nothing is sent, and the service need not run."""

CHECKED = """\
  bridge check --config bridge.toml --invite call.txt --from 198.51.100.7
  sngrep saves requests as text; lines before INVITE are skipped, lost line ends made good.

status: 0 settings are good, the call would be taken; 1 it would be refused, or met with silence;
2 settings or FILE cannot be read."""

TRANSPORTS = ("udp", "tcp", "tls", "ws", "wss")

# flag → setting it overrides
SHORTHANDS = {
    "http_host": "http.host",
    "http_port": "http.port",
    "sip_host": "sip.host",
    "backend": "session.backend",
    "log_level": "log.level",
}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="bridge", description=DESCRIPTION)
    top.add_argument("--version", action="version", version=f"bridge {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("serve", help="answer calls until stopped")
    check = commands.add_parser(
        "check",
        help="validate the settings and explain them, or what becomes of a captured INVITE",
        description=CHECK,
        epilog=CHECKED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for command in (run, check):
        command.add_argument("--config", type=Path, metavar="FILE", help="settings (TOML)")
        command.add_argument("--http-host", metavar="ADDRESS", help="http.host")
        command.add_argument("--http-port", type=int, metavar="PORT", help="http.port")
        command.add_argument("--sip-host", metavar="ADDRESS", help="sip.host, and rtp.host with it")
        command.add_argument(
            "--sip-port", type=int, metavar="PORT", help="sip.udp_port and sip.tcp_port"
        )
        command.add_argument("--backend", metavar="NAME", help="session.backend: cascade, echo")
        command.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error")
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="SECTION.KEY=VALUE",
            help="any other setting; may be repeated",
        )
    check.add_argument(
        "--invite", type=Path, metavar="FILE", help="an INVITE as text; - for standard input"
    )
    check.add_argument(
        "--from",
        dest="source",
        default="",
        metavar="IP[:PORT]",
        help="where it came from; by default what its Via says",
    )
    check.add_argument(
        "--transport",
        default="",
        choices=TRANSPORTS,
        metavar="|".join(TRANSPORTS),
        help="by default what its Via says",
    )
    return top


def settings(arguments: argparse.Namespace) -> Config:
    """Raises ConfigError."""
    overrides: dict[str, Any] = {}
    for flag, name in SHORTHANDS.items():
        value = getattr(arguments, flag)
        if value is not None:
            overrides[name] = value
    if arguments.sip_port is not None:
        overrides["sip.udp_port"] = overrides["sip.tcp_port"] = arguments.sip_port
    for assignment in arguments.set:
        name, equals, value = assignment.partition("=")
        if not equals or "." not in name:
            raise ConfigError(f"--set {assignment}: write section.key=value")
        overrides[name] = value_of(name, value)
    return load(arguments.config, overrides=overrides)


def explain(config: Config) -> str:
    sip = [f"udp {config.sip.udp_port}"] if config.sip.udp_port else []
    sip += [f"tcp {config.sip.tcp_port}"] if config.sip.tcp_port else []
    keys = len(config.auth.api_keys)
    lines = [
        f"http      {config.http.host}:{config.http.port}"
        + (" with TLS" if config.http.tls_certificate else ""),
        f"keys      {f'{keys} configured' if keys else 'none: development, any key is taken'}",
        f"sip       {config.sip.host}: {', '.join(sip)}; unknown sources "
        + ("may call" if config.admits_unknown_sources else "get silence"),
        f"rtp       {config.rtp.host or config.sip.host}: "
        f"{config.rtp.port_min}-{config.rtp.port_max}, {', '.join(config.rtp.codecs)}",
        "calls     "
        + (
            f"announced to {config.webhooks.url}"
            if config.webhooks.url
            else "answered at once with the default session (no webhooks.url)"
        ),
        f"session   backend {config.session.backend}"
        + (f", {config.cascade.llm.model}" if config.session.backend == "cascade" else ""),
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        config = settings(arguments)
        if arguments.command == "check" and arguments.invite is not None:
            return _rehearse(config, arguments)
        if arguments.command == "check":
            sys.stdout.write(explain(config) + "\n")
            return 0
        logs.configure(config.log.level, config.log.format)
        return _run(config)
    except BridgeError as error:
        sys.stderr.write(f"bridge: {error.message}\n")
        return 2


def _rehearse(config: Config, arguments: argparse.Namespace) -> int:
    from bridge.rehearsal import read_invite, rehearse

    invite = read_invite(arguments.invite)
    verdict = asyncio.run(rehearse(config, invite, arguments.source, arguments.transport))
    sys.stdout.write(verdict.text + "\n")
    return 0 if verdict.accepted else 1


def _announce(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _run(config: Config) -> int:
    from bridge.app import serve

    allow_open_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(serve(config, announce=_announce))
        except KeyboardInterrupt:
            return 130
    return 0
