"""What a client of the REST API does with calls: makes them, asks about them, ends them."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx2

from tests.peers.service import Service

WAIT_S = 8.0


def lab(**trunk: Any) -> dict[str, str]:
    """The settings of one trunk, lab, that may call anybody."""
    settings = {"prefixes": ["*"], "private_hosts": True, **trunk}
    return {"sip__trunks": json.dumps({"lab": settings})}


def calling(**trunk: Any) -> Service:
    """A service with the trunk."""
    return Service(session__backend="echo", **lab(**trunk))


def dial(service: Service, destination: str, **transport: Any) -> str:
    answer = httpx2.post(
        f"{service.base_url}/realtime/calls",
        json={
            "transport": {"type": "sip", "trunk": "lab", "destination": destination, **transport}
        },
        timeout=5,
    )
    assert answer.status_code == 201, answer.text
    record = answer.json()
    assert (record["direction"], record["state"]) == ("outbound", "ringing")
    assert answer.headers["location"].endswith(f"/{record['id']}")
    return str(record["id"])


def record(service: Service, call_id: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = httpx2.get(
        f"{service.base_url}/realtime/calls/{call_id}", timeout=5
    ).json()
    return found


def until(
    service: Service,
    call_id: str,
    condition: Callable[[Mapping[str, Any]], object],
    timeout_s: float = WAIT_S,
) -> Mapping[str, Any]:
    deadline = time.monotonic() + timeout_s
    while not condition(found := record(service, call_id)):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def one_call(service: Service, timeout_s: float = WAIT_S) -> Mapping[str, Any]:
    """The only one that is up; waited for."""
    deadline = time.monotonic() + timeout_s
    while not (active := [call for call in service.calls() if call["state"] == "active"]):
        assert time.monotonic() < deadline, service.calls()
        time.sleep(0.02)
    (call,) = active
    return call


def in_state(state: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda found: found["state"] == state


def post(service: Service, call_id: str, verb: str, **body: Any) -> None:
    url = f"{service.base_url}/realtime/calls/{call_id}/{verb}"
    answer = httpx2.post(url, json=body, timeout=5)
    assert answer.status_code == 200, answer.text
