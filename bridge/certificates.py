"""Certificates that are read again while the service runs."""

import logging
import ssl
from collections.abc import Callable

from bridge.errors import ConfigError

log = logging.getLogger(__name__)


class Certificates:
    """Whoever has read one says here how to read it again; before, there is nothing to do."""

    def __init__(self) -> None:
        self._readers: dict[str, Callable[[], None]] = {}
        self._asked = False

    def add(self, setting: str, read: Callable[[], None]) -> None:
        """`read` raises ConfigError for files that cannot be used, and changes nothing then. Who
        has asked before may have asked after it was read first: then it is read again at once."""
        self._readers[setting] = read
        if self._asked:
            _read(setting, read)

    def reload(self) -> None:
        self._asked = True
        for setting, read in self._readers.items():
            _read(setting, read)
        if not self._readers:
            log.info("no certificate to read again")


def _read(setting: str, read: Callable[[], None]) -> None:
    try:
        read()
    except ConfigError as error:
        fields = {"setting": setting, "why": error.message}
        log.error("certificate not read again; the old one stays", extra=fields)
    else:
        log.info("certificate read again", extra={"setting": setting})


def reload_chain(context: ssl.SSLContext, certificate: str, private_key: str) -> None:
    """For connections to come; raises ConfigError and keeps what is there when a file is bad."""
    try:
        # Tried elsewhere first: half a chain would be worse than an old one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, private_key or None)
        context.load_cert_chain(certificate, private_key or None)
    except OSError as error:
        raise ConfigError(f"{certificate} with {private_key}: {error}") from None
