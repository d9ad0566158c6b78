"""Settings as given: a TOML file, then the environment, then flags; contradictions are refused."""

import difflib
import ipaddress
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bridge.config import Cascade, Config, Rtp, Sip, registration_transport
from bridge.errors import ConfigError

ENVIRONMENT_PREFIX = "BRIDGE_"


def load(
    path: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Merge file, environment and flags (dotted names in `overrides`), later ones winning.

    Raises:
        ConfigError: unreadable file, unknown key, bad value, or settings that contradict.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        tree = _read(path)
    for name, value in _from_environment(os.environ if environment is None else environment):
        _put(tree, name, value)
    for name, value in (overrides or {}).items():
        _put(tree, name, value)
    try:
        config = Config.model_validate(tree, strict=False)
    except ValidationError as error:
        raise _explain(error) from None
    _check(config)
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    for key, text in sorted(environment.items()):
        if not key.startswith(ENVIRONMENT_PREFIX) or "__" not in key:
            continue
        name = key.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
        yield name, value_of(name, text)


def value_of(name: str, text: str) -> Any:
    """Lists and objects are JSON; everything else is read by the schema. Raises ConfigError."""
    if text[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ConfigError(f"{name}: not valid JSON: {error}", param=name) from None
    return text


def _put(tree: dict[str, Any], name: str, value: Any) -> None:
    *parents, leaf = name.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{parent} is a section, not a value", param=parent)
        tree = child
    tree[leaf] = value


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from known_keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _explain(error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        secret = "key" in name or "secret" in name
        got = "" if secret else f" (got {first['input']!r})"
        return ConfigError(f"{name}: {first['msg']}{got}", param=name)
    sections = {key.rpartition(".")[0] for key in known_keys()}
    near = difflib.get_close_matches(name, [*known_keys(), *sorted(sections)], n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return ConfigError(f"unknown setting {name}{hint}", param=name)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check(config: Config) -> None:
    rtp_host = config.rtp.host or config.sip.host
    if config.development:
        for name, host in (
            ("http.host", config.http.host),
            ("sip.host", config.sip.host),
            ("rtp.host", rtp_host),
            ("rtp.alternate_host", config.rtp.alternate_host),
        ):
            if host and not is_loopback(host):
                raise ConfigError(
                    f"{name} is {host}, reachable from outside, but auth.api_keys is empty: "
                    'set auth.api_keys = ["…"] or listen on 127.0.0.1',
                    param="auth.api_keys",
                )
    if config.rtp.port_max - config.rtp.port_min < 1:
        raise ConfigError("rtp.port_max must be above rtp.port_min", param="rtp.port_max")
    if bool(config.http.tls_certificate) != bool(config.http.tls_private_key):
        raise ConfigError(
            "http.tls_certificate and http.tls_private_key go together",
            param="http.tls_certificate",
        )
    if config.webhooks.url and not config.webhooks.secret:
        raise ConfigError(
            "webhooks.url needs webhooks.secret, so that receivers can verify it",
            param="webhooks.secret",
        )
    sip = config.sip
    if not (sip.udp_port or sip.tcp_port or sip.tls_port or sip.ws_port or sip.wss_port):
        raise ConfigError("all of sip's ports are 0: nobody could call", param="sip.udp_port")
    for name in ("tls_port", "wss_port"):
        if getattr(sip, name) and not (sip.tls_certificate and sip.tls_private_key):
            raise ConfigError(
                f"sip.{name} needs sip.tls_certificate and sip.tls_private_key",
                param="sip.tls_certificate",
            )
    _check_cascade(config.cascade)
    _check_upstream(config)
    _check_trunks(sip)
    _check_addresses(config)


def _check_cascade(cascade: Cascade) -> None:
    for name, part in (("stt", cascade.stt), ("tts", cascade.tts)):
        if part.kind.startswith("openai") and not part.base_url.startswith(("http://", "https://")):
            raise ConfigError(
                f'cascade.{name}.kind = "{part.kind}" needs cascade.{name}.base_url, '
                'such as "http://127.0.0.1:8000/v1"',
                param=f"cascade.{name}.base_url",
            )


def _check_upstream(config: Config) -> None:
    upstream = config.upstream
    if config.session.backend == "upstream" and not upstream.url:
        raise ConfigError(
            'session.backend = "upstream" needs upstream.url, such as '
            '"wss://api.openai.com/v1/realtime"',
            param="upstream.url",
        )
    if upstream.fallback == "transfer" and not upstream.fallback_target:
        raise ConfigError(
            'upstream.fallback = "transfer" needs upstream.fallback_target',
            param="upstream.fallback_target",
        )


def _check_trunks(sip: Sip) -> None:
    for name, trunk in sip.trunks.items():
        setting = f"sip.trunks.{name}"
        if not trunk.registers:
            continue
        if not (trunk.username and (trunk.registrar or trunk.uri)):
            raise ConfigError(
                f"{setting}.register needs {setting}.username and {setting}.uri or registrar",
                param=f"{setting}.register",
            )
        transport = registration_transport(trunk)
        if not getattr(sip, f"{transport}_port", 0):
            raise ConfigError(
                f"{setting}.register needs sip.{transport}_port: calls come to us there",
                param=f"{setting}.register",
            )


def _check_alternate(rtp: Rtp, host: str) -> None:
    """Each is an address, of the other IP version than rtp.host."""
    for name in ("alternate_host", "alternate_advertised_address"):
        if not (value := getattr(rtp, name)):
            continue
        try:
            other = ipaddress.ip_address(value)
        except ValueError:
            raise ConfigError(
                f"rtp.{name} {value} is not an address", param=f"rtp.{name}"
            ) from None
        if (other.version == 6) == (":" in host):
            raise ConfigError(
                f"rtp.{name} {value} is of the same IP version as {host}", param=f"rtp.{name}"
            )


def _check_addresses(config: Config) -> None:
    for section, host, advertised in (
        ("sip", config.sip.host, config.sip.advertised_address),
        ("rtp", config.rtp.host or config.sip.host, config.rtp.advertised_address),
    ):
        wildcard = host in {"0.0.0.0", "::"}
        if wildcard and not (advertised or config.sip.advertised_address):
            raise ConfigError(
                f"{section}.host is {host}: peers need an address to send to; "
                "set sip.advertised_address",
                param="sip.advertised_address",
            )
    _check_alternate(config.rtp, config.rtp.host or config.sip.host)
    registrar = config.sip.registrar
    for name, sources in (
        ("sip.trusted_sources", config.sip.trusted_sources),
        ("sip.registrar.addresses", registrar.addresses),
    ):
        for source in sources:
            try:
                ipaddress.ip_network(source)
            except ValueError as error:
                raise ConfigError(f"{name}: {error}", param=name) from None
    if registrar.min_expires_s > registrar.max_expires_s:
        raise ConfigError(
            "sip.registrar.min_expires_s is above max_expires_s",
            param="sip.registrar.min_expires_s",
        )
