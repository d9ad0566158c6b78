"""TLS as a layer over any byte stream: whom to trust, what to show, and the records; no socket."""

import contextlib
import ssl
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import ConfigError, PeerError

_CHUNK = 65536
_NAME_KINDS = ("DNS", "IP Address")


class TlsError(PeerError):
    """The handshake failed, or the stream is not TLS any more."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. Without a certificate we can only call, not be called."""

    certificate: Path | None = None
    private_key: Path | None = None
    authority: Path | None = None
    """Who vouches for the servers we call; the system's authorities otherwise."""
    client_authority: Path | None = None
    """Set: those who call us are asked for a certificate, and one shown must be vouched for."""


class TlsContexts:
    """Both directions' contexts; connections take the one that is current when they begin."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises ConfigError, naming the file."""
        self.files = files
        self.server, self.client = _server(files), _client(files)

    def reload(self) -> None:
        """Read the files again. Raises ConfigError and keeps what was there when one is bad."""
        server, client = _server(self.files), _client(self.files)
        self.server, self.client = server, client


class TlsLayer:
    """One end of one connection. Write what `data_to_send` gives after every call."""

    def __init__(self, context: ssl.SSLContext, *, server_name: str | None = None) -> None:
        """With a `server_name` it is the calling end, and that is what the peer must prove to be.

        Raises TlsError for a name that no certificate can bear.
        """
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._unsent = bytearray()
        self.established = False
        self.finished = False
        """The peer has said that it will send no more."""
        try:
            self._ends = context.wrap_bio(
                self._incoming,
                self._outgoing,
                server_side=server_name is None,
                server_hostname=server_name,
            )
        except ValueError as error:
            raise TlsError(f"no name for a certificate: {error}") from None
        if server_name is not None:
            self._handshake()

    @property
    def peer_names(self) -> frozenset[str]:
        """DNS names and addresses in the verified certificate, lower case; none without one."""
        certificate = self._ends.getpeercert() if self.established else None
        if not certificate:
            return frozenset()
        names = certificate.get("subjectAltName", ())
        return frozenset(str(name[1]).lower() for name in names if name[0] in _NAME_KINDS)

    def receive(self, data: bytes) -> bytes:
        """What the records hold. Raises TlsError; an alert may be there to send."""
        self._incoming.write(data)
        if not self.established and not self._handshake():
            return b""
        plain = bytearray()
        try:
            while chunk := self._ends.read(_CHUNK):
                plain += chunk
            self.finished = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.finished = True
        except ssl.SSLError as error:
            raise TlsError(_reason(error)) from None
        return bytes(plain)

    def send(self, data: bytes) -> None:
        """Kept until the handshake is over."""
        if not self.established:
            self._unsent += data
        elif data:
            try:
                self._ends.write(data)
            except ssl.SSLError as error:
                raise TlsError(_reason(error)) from None

    @property
    def unsent(self) -> int:
        return len(self._unsent)

    def close(self) -> None:
        """Say that no more comes."""
        if self.established:
            # The peer's own goodbye is not waited for.
            with contextlib.suppress(ssl.SSLError):
                self._ends.unwrap()

    def data_to_send(self) -> bytes:
        return self._outgoing.read()

    def _handshake(self) -> bool:
        try:
            self._ends.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise TlsError(_reason(error)) from None
        self.established = True
        data = bytes(self._unsent)
        self._unsent.clear()
        self.send(data)
        return True


def _server(files: TlsFiles) -> ssl.SSLContext | None:
    if files.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    _show(context, files)
    if files.client_authority is not None:
        _trust(context, files.client_authority, "sip.tls_client_ca")
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _client(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    if files.authority is not None:
        _trust(context, files.authority, "sip.tls_ca")
    else:
        context.load_default_certs()
    if files.certificate is not None:
        _show(context, files)
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION


def _show(context: ssl.SSLContext, files: TlsFiles) -> None:
    try:
        # Without a password the library would ask for one at the terminal.
        context.load_cert_chain(str(files.certificate), files.private_key, password="")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"TLS certificate {files.certificate} with key {files.private_key}: {_reason(error)}",
            param="sip.tls_certificate",
        ) from None


def _trust(context: ssl.SSLContext, authority: Path, setting: str) -> None:
    try:
        context.load_verify_locations(authority)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{authority}: {_reason(error)}", param=setting) from None


def _reason(error: OSError | ValueError) -> str:
    """Why, without the library's source lines."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return getattr(error, "strerror", None) or str(error)
