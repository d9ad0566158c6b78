"""Where the media of a stream is sent: what c= says, or, if that is of an IP version that we cannot
send by, another address that its writer says it has (RFC 6157).
"""

from collections.abc import Iterator
from ipaddress import ip_address

from bridge.errors import SdpError
from bridge.sdp.description import MediaDescription, SessionDescription
from bridge.sdp.dtls import MAX_CANDIDATES, Candidate

Endpoint = tuple[str, int]

MAX_ALTERNATES = 8


def ip_version(host: str | None) -> int | None:
    """4 or 6; None for a name, and for an address with a scope (`fe80::1%eth0`): it names an
    interface of the peer's, which means nothing here."""
    try:
        address = ip_address(host or "")
    except ValueError:
        return None
    return None if "%" in (host or "") else address.version


def is_unspecified(host: str) -> bool:
    return ip_version(host) is not None and ip_address(host).is_unspecified


def offered_hosts(offer: SessionDescription) -> dict[int, str]:
    """By IP version, where c= wants the audio; empty if that says nothing."""
    found: dict[int, str] = {}
    for line in offer.media:
        host = offer.host_of(line) if line.port and _is_audio(line) else None
        if host and not is_unspecified(host) and (version := ip_version(host)):
            found.setdefault(version, host)
    return found


def endpoints(
    line: MediaDescription, description: SessionDescription, ours: str | None
) -> tuple[Endpoint, Endpoint]:
    """RTP and RTCP, from `ours`. Raises SdpError when there is no way.

    Names are refused: looking one up would block, and let a caller choose whom we ask.
    """
    host = description.host_of(line)
    if host is None:
        raise SdpError("no c= line says where to send")
    if (theirs := ip_version(host)) is None:
        raise SdpError("the c= address is not an IP address")
    if not _is_one_host(host):
        raise SdpError("the c= address is not one host")
    version = ip_version(ours) or theirs
    if theirs == version or is_unspecified(host):
        return (host, line.port), control_endpoint(line, host)
    for endpoint, control in _others(line):
        if ip_version(endpoint[0]) == version and _is_one_host(endpoint[0]):
            return endpoint, control
    raise SdpError(
        f"the c= address is IPv{theirs}, and media here goes by IPv{version}",
        code="other_ip_version",
    )


def control_endpoint(line: MediaDescription, host: str) -> Endpoint:
    """`a=rtcp:53020 [IN IP4 126.16.64.4]` (RFC 3605), else the next port. Port 0: nowhere."""
    fields = (line.attribute("rtcp") or "").split()
    if fields and (port := _port(fields[0])) > 0:
        named = len(fields) > 3 and ip_version(fields[3]) is not None
        return fields[3] if named else host, port
    return _beside((host, line.port))


def _others(line: MediaDescription) -> Iterator[tuple[Endpoint, Endpoint]]:
    """Without ICE a candidate is what it says, an address where its writer listens; a=altc is the
    same for those who have no ICE (RFC 6947)."""
    alternates = [value or "" for name, value in line.attributes if name.lower() == "altc"]
    for value in alternates[:MAX_ALTERNATES]:
        fields = value.split()
        if len(fields) > 3 and (port := _port(fields[3].partition("/")[0])):
            yield (fields[2], port), _beside((fields[2], port))
    values = [value or "" for name, value in line.attributes if name.lower() == "candidate"]
    candidates = [found for each in values[:MAX_CANDIDATES] if (found := Candidate.parse(each))]
    controls = {each.host: each.port for each in candidates if each.component == 2}
    for each in sorted(candidates, key=lambda found: -found.priority):
        if each.usable:
            endpoint = each.host, each.port
            control = each.host, controls.get(each.host, _beside(endpoint)[1])
            yield endpoint, control


def _beside(endpoint: Endpoint) -> Endpoint:
    host, port = endpoint
    return host, port + 1 if port < 65535 else 0


def _port(text: str) -> int:
    """0 for what is none."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    return number if number <= 65535 else 0


def _is_one_host(host: str) -> bool:
    return not ip_address(host).is_multicast and host != "255.255.255.255"


def _is_audio(line: MediaDescription) -> bool:
    return line.kind.lower() == "audio"
