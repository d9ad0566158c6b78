import subprocess
import sys

import pytest

from bridge.cli import explain, main, parser, settings
from bridge.settings import load


def test_check_explains_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--backend", "echo", "--sip-port", "5070"]) == 0
    said = capsys.readouterr().out
    assert "udp 5070, tcp 5070" in said
    assert "backend echo" in said


def test_a_bad_setting_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--set", "sip.hots=x"]) == 2
    assert capsys.readouterr().err == ("bridge: unknown setting sip.hots; did you mean sip.host?\n")


def test_set_needs_a_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--set", "nonsense"]) == 2
    assert "write section.key=value" in capsys.readouterr().err


def test_flags_become_settings() -> None:
    arguments = parser().parse_args(
        ["serve", "--http-port", "81", "--set", 'auth.api_keys=["a"]', "--log-level", "debug"]
    )
    config = settings(arguments)
    assert (config.http.port, config.auth.api_keys, config.log.level) == (81, ["a"], "debug")


def test_explain_names_the_webhook() -> None:
    config = load(
        environment={},
        overrides={"webhooks.url": "http://127.0.0.1:9/x", "webhooks.secret": "whsec_YQ=="},
    )
    assert "announced to http://127.0.0.1:9/x" in explain(config)


def test_nothing_slow_comes_before_the_signals() -> None:
    """Who reloads a service that is being started would end it."""
    said = "import sys, bridge.__main__; print(sorted({'asyncio', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
