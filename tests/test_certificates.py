"""When certificates are read again."""

import pytest

from bridge.certificates import Certificates
from bridge.errors import ConfigError


def test_everyone_reads_again() -> None:
    read: list[str] = []
    certificates = Certificates()
    certificates.add("sip.tls_certificate", lambda: read.append("sip"))
    certificates.add("http.tls_certificate", lambda: read.append("http"))
    assert read == []
    certificates.reload()
    assert read == ["sip", "http"]


def test_who_asks_while_the_service_starts_is_not_forgotten() -> None:
    """The file may have changed between the first reading and the news that it can be reread."""
    read: list[str] = []
    certificates = Certificates()
    certificates.reload()
    certificates.add("sip.tls_certificate", lambda: read.append("sip"))
    assert read == ["sip"]


def test_a_bad_file_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def bad() -> None:
        raise ConfigError("no certificate in a.pem")

    read: list[str] = []
    certificates = Certificates()
    certificates.add("sip.tls_certificate", bad)
    certificates.add("http.tls_certificate", lambda: read.append("http"))
    certificates.reload()
    (line,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert vars(line)["why"] == "no certificate in a.pem"
    assert read == ["http"]
