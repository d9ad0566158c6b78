"""Every event that reached a client: held to openai-python's and openai-agents' types, then zod."""

import json
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

NODE = Path(__file__).parent / "sdk" / "node"
# Known to the API and to openai-python, and to agents-realtime only as "any other event".
UNKNOWN_TO_ZOD = frozenset(
    ("input_audio_buffer.dtmf_event_received", "input_audio_buffer.timeout_triggered")
)


class Judge:
    def __init__(self, conforms: Callable[[dict[str, Any]], None], record: Path) -> None:
        self._conforms = conforms
        self._record = record
        self.count = 0
        self.kinds: set[str] = set()

    def hear(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Raises when an event is not what the clients' types say."""
        with self._record.open("a", encoding="utf-8") as file:
            for event in events:
                self._conforms(dict(event))
                self.count += 1
                self.kinds.add(event["type"])
                file.write(json.dumps(event) + "\n")

    def zod(self) -> str:
        """Raises when agents-realtime would drop an event; says what was checked."""
        if not self.count or not (NODE / "node_modules").is_dir():
            return f"{self.count} events of {len(self.kinds)} types valid; zod absent"
        command = ["node", str(NODE / "zod.mjs"), str(self._record)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        dropped = set(json.loads(answer)["dropped"]) - UNKNOWN_TO_ZOD
        assert not dropped, f"agents-realtime drops {sorted(dropped)}"
        return f"{self.count} events of {len(self.kinds)} types valid for pydantic and zod"
