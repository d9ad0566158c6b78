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

    def add(self, setting: str, read: Callable[[], None]) -> None:
        """`read` raises ConfigError for files that cannot be used, and changes nothing then."""
        self._readers[setting] = read

    def reload(self) -> None:
        for setting, read in self._readers.items():
            try:
                read()
            except ConfigError as error:
                fields = {"setting": setting, "why": error.message}
                log.error("certificate not read again; the old one stays", extra=fields)
            else:
                log.info("certificate read again", extra={"setting": setting})
        if not self._readers:
            log.info("no certificate to read again")


def reload_chain(context: ssl.SSLContext, certificate: str, private_key: str) -> None:
    """For connections to come; raises ConfigError and keeps what is there when a file is bad."""
    try:
        # Tried elsewhere first: half a chain would be worse than an old one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, private_key or None)
        context.load_cert_chain(certificate, private_key or None)
    except OSError as error:
        raise ConfigError(f"{certificate} with {private_key}: {error}") from None
