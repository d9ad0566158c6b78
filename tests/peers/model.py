"""A language model to test with: chat completions over HTTP that do what the last words ask.

"story" is told slowly, a sentence every `PACE_S`; words that name an offered tool call it; what a
tool gave is said; everything else is repeated.
"""

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PACE_S = 0.25
STORY = [f"This is sentence number {n} of a very long story." for n in range(1, 41)]

Message = Mapping[str, Any]


def words_of(message: Message) -> str:
    content = message.get("content") or ""
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content)
    return str(content)


def spoken(name: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", name.lower()))


def asked_tool(text: str, tools: Sequence[Any], choice: Any) -> Any:
    """The tool that `text` names, or that may not be avoided."""
    if choice == "none":
        return None
    functions = [tool["function"] for tool in tools]
    if isinstance(choice, dict):
        wanted = choice["function"]["name"]
        return next(function for function in functions if function["name"] == wanted)
    for function in functions:
        if spoken(function["name"]) in spoken(text):
            return function
    return functions[0] if choice == "required" and functions else None


def arguments_for(function: Message, text: str) -> str:
    properties = function.get("parameters", {}).get("properties", {})
    strings = [name for name, schema in properties.items() if schema.get("type") == "string"]
    return json.dumps(dict.fromkeys(strings, text))


def deltas(request: Message) -> Iterator[dict[str, Any]]:
    """What the model says, piece by piece."""
    messages = request["messages"]
    instructions = messages[:1] if messages and messages[0]["role"] == "system" else []
    last = messages[-1] if len(messages) > len(instructions) else {"role": "user", "content": ""}
    text = words_of(last)
    if last["role"] == "tool":
        yield {"content": f"The tool says: {text}."}
        return
    function = asked_tool(text, request.get("tools") or (), request.get("tool_choice", "auto"))
    if function is not None:
        call = {"name": function["name"], "arguments": arguments_for(function, text)}
        yield {"tool_calls": [{"index": 0, "id": f"call_{len(messages)}", "function": call}]}
    elif "story" in text.lower():
        for sentence in STORY:
            yield {"content": f"{sentence} "}
    else:
        yield {"content": f"You said: {text}." if text else "Hello, how can I help?"}


class _Exchange(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        size = int(self.headers.get("content-length", "0"))
        request = json.loads(self.rfile.read(size))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        assert isinstance(self.server, Model)
        reason = "stop"
        try:
            for number, delta in enumerate(deltas(request)):
                if number and self.server.stopped.wait(PACE_S):
                    return
                reason = "tool_calls" if "tool_calls" in delta else "stop"
                self._say({"delta": delta})
            self._say({"delta": {}, "finish_reason": reason})
            self.wfile.write(b"data: [DONE]\n\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the answer was cancelled

    def _say(self, choice: Mapping[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


class Model(ThreadingHTTPServer):
    """Serves on a free loopback port in a thread of its own. Use as a context."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Exchange)
        self.stopped = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> "Model":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.shutdown()
        self._thread.join(2)
        self.server_close()
