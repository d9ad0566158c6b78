"""The example of config/upstream.toml."""

from pathlib import Path

from bridge.backends.upstream.dial import url_for
from bridge.backends.upstream.dialects import dialect_by
from bridge.backends.upstream.session import format_name
from bridge.backends.upstream.settings import UpstreamSettings
from bridge.settings import load

EXAMPLE = Path(__file__).parents[3] / "config" / "upstream.toml"


def test_it_loads_and_leads_to_a_server() -> None:
    config = load(EXAMPLE, environment={"BRIDGE_UPSTREAM__API_KEY": "sk-1"})
    settings = UpstreamSettings(**config.upstream.model_dump())
    dialect = dialect_by(settings.dialect)
    assert config.session.backend == "upstream"
    assert settings.api_key == "sk-1"
    assert url_for(settings, dialect) == "wss://api.openai.com/v1/realtime?model=gpt-realtime"
    assert format_name(settings, dialect) == "audio/pcmu"
    # Calls outlive sessions.
    assert 0 < dialect.session_limit_s < config.session.max_duration_s


def test_the_servers_it_names_have_a_dialect() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    named = [part.split('"')[1] for part in text.split("dialect = ")[1:]]
    assert len(named) == 4
    for name in named:
        assert dialect_by(name).name == name
