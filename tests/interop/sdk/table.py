"""Which client showed which feature: the table at the end of a run."""

from collections.abc import Mapping, Sequence

FEATURES = (
    "connect",
    "voice turn",
    "tool",
    "barge-in",
    "out-of-band",
    "client_secrets",
    "create",
    "accept",
    "reject",
    "refer",
    "hangup",
    "webhook",
    "guardrail",
    "handoff",
    "approval",
)
SESSION = ("connect", "voice turn", "tool", "barge-in")
REST = ("client_secrets", "create", "accept", "reject", "refer", "hangup", "webhook")
AGENT = ("guardrail", "handoff", "approval")

CLIENTS: Mapping[str, Sequence[str]] = {
    "openai-python 3.51": (*SESSION, "out-of-band", *REST),
    "openai-python 2.8": (*SESSION, "out-of-band", *REST),
    "openai-node 7.55": (*SESSION, "out-of-band", *REST),
    "agents-python, WebSocket": (*SESSION, *AGENT),
    "agents-python, SIP": (*SESSION, "accept", "hangup"),
    "agents-realtime, WebSocket": (*SESSION, *AGENT),
    "agents-realtime, SIP": (*SESSION, "accept", "hangup"),
    "agents-realtime, WebRTC": (*SESSION, "client_secrets", "create", "hangup"),
    "pipecat": SESSION,
    "livekit-plugins-openai": SESSION,
    "gllm-inference": ("connect", "voice turn"),
}
"""The features each client has and a test shows."""


class Table:
    def __init__(self) -> None:
        self.tried: set[str] = set()
        self._passed: set[tuple[str, str]] = set()

    def passed(self, client: str, feature: str) -> None:
        assert feature in CLIENTS[client], f"{client} is not said to have {feature}"
        self.tried.add(client)
        self._passed.add((client, feature))

    def missing(self, client: str) -> list[str]:
        self.tried.add(client)
        return [name for name in CLIENTS[client] if (client, name) not in self._passed]

    def cell(self, client: str, feature: str) -> str:
        if feature not in CLIENTS[client]:
            return "-"
        if client not in self.tried:
            return "absent"
        return "yes" if (client, feature) in self._passed else "FAILED"

    def lines(self) -> list[str]:
        width = max(map(len, CLIENTS))
        head = " | ".join([" " * width, *FEATURES])
        rows = [head, "-" * len(head)]
        for client in CLIENTS:
            cells = [self.cell(client, name).center(len(name)) for name in FEATURES]
            rows.append(" | ".join([client.ljust(width), *cells]))
        return rows
