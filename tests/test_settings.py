from pathlib import Path

import pytest

from bridge.config import Config
from bridge.errors import ConfigError
from bridge.settings import is_loopback, known_keys, load

ROOT = Path(__file__).parent.parent


def test_defaults_are_development_on_loopback() -> None:
    config = load(environment={})
    assert config.development
    assert config.admits_unknown_sources
    assert config == Config()


def test_the_commented_file_shows_every_key_with_its_default() -> None:
    path = ROOT / "config" / "bridge.toml"
    assert load(path, environment={}) == Config()
    text = path.read_text(encoding="utf-8")
    for key in known_keys():
        assert f"\n{key.rpartition('.')[2]} = " in text, key


def test_environment_wins_over_the_file_and_flags_over_both(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[http]\nport = 1\n[session]\nbackend = "echo"\n[log]\nlevel = "debug"\n')
    config = load(
        path,
        environment={"BRIDGE_HTTP__PORT": "2", "BRIDGE_LOG__LEVEL": "error", "BRIDGE_X": "y"},
        overrides={"http.port": 3},
    )
    assert (config.http.port, config.session.backend, config.log.level) == (3, "echo", "error")


def test_lists_in_the_environment_are_json() -> None:
    config = load(environment={"BRIDGE_AUTH__API_KEYS": '["sk-a", "sk-b"]'})
    assert config.auth.api_keys == ["sk-a", "sk-b"]
    assert not config.development
    assert not config.admits_unknown_sources


def test_nested_sections_in_the_environment() -> None:
    config = load(environment={"BRIDGE_CASCADE__LLM__MODEL": "llama"})
    assert config.cascade.llm.model == "llama"


def test_a_part_of_the_cascade_may_be_its_kind_alone() -> None:
    server = {"kind": "openai", "base_url": "http://127.0.0.1:8000/v1"}
    config = load(environment={}, overrides={"cascade.stt": "pocketsphinx", "cascade.tts": server})
    assert (config.cascade.stt.kind, config.cascade.tts.kind) == ("pocketsphinx", "openai")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"sipp.host": "x"}, "did you mean sip?"),
        ({"sip.hots": "x"}, "did you mean sip.host?"),
        ({"http.port": 99999}, "less than or equal to 65535"),
        ({"session.backend": "chorus"}, "'cascade', 'upstream' or 'echo'"),
        ({"http.host": "0.0.0.0"}, "auth.api_keys is empty"),
        ({"rtp.host": "192.0.2.1"}, "auth.api_keys is empty"),
        ({"rtp.alternate_host": "2001:db8::1"}, "auth.api_keys is empty"),
        ({"rtp.alternate_host": "127.0.0.2"}, "the same IP version as 127.0.0.1"),
        ({"rtp.alternate_advertised_address": "sip.example"}, "is not an address"),
        ({"auth.api_keys": ["a"], "sip.host": "0.0.0.0"}, "set sip.advertised_address"),
        ({"webhooks.url": "http://127.0.0.1/"}, "needs webhooks.secret"),
        ({"cascade.stt.kind": "openai"}, "needs cascade.stt.base_url"),
        ({"cascade.tts": "openai"}, "needs cascade.tts.base_url"),
        ({"cascade.stt.kind": "chorus"}, "'pocketsphinx', 'openai', 'openai-realtime' or 'sherpa'"),
        ({"sip.trunks": {"a": {"register": True, "uri": "sip:b"}}}, "a.username and"),
        (
            {"sip.trunks": {"a": {"register": True, "username": "u", "uri": "sips:b"}}},
            "needs sip.tls_port",
        ),
        ({"sip.wss_port": 5063}, "sip.wss_port needs sip.tls_certificate"),
        ({"http.tls_certificate": "a.pem"}, "go together"),
        ({"rtp.port_min": 30000}, "must be above rtp.port_min"),
        ({"sip.udp_port": 0, "sip.tcp_port": 0}, "all of sip's ports are 0"),
        ({"sip.trusted_sources": ["10.0.0.0/33"]}, "sip.trusted_sources"),
        ({"session.backend": "upstream"}, "needs upstream.url"),
        ({"upstream.fallback": "transfer"}, "needs upstream.fallback_target"),
        ({"http": 3, "http.port": 1}, "is a section"),
    ],
)
def test_bad_settings_say_what_to_change(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=None) as caught:
        load(environment={}, overrides=overrides)
    assert message in caught.value.message


def test_bad_json_in_the_environment() -> None:
    with pytest.raises(ConfigError, match="not valid JSON"):
        load(environment={"BRIDGE_AUTH__API_KEYS": "[sk"})


def test_a_secret_is_not_repeated_in_the_message() -> None:
    with pytest.raises(ConfigError) as caught:
        load(environment={}, overrides={"webhooks.secret": ["whsec_abc"]})
    assert "whsec_abc" not in caught.value.message


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "missing.toml", environment={})
    broken = tmp_path / "broken.toml"
    broken.write_text("[http\n")
    with pytest.raises(ConfigError, match=r"broken\.toml"):
        load(broken, environment={})


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_is_loopback(host: str, *, expected: bool) -> None:
    assert is_loopback(host) is expected
