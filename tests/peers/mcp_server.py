"""A tool server as its own process: MCP over streamable HTTP, by the official library."""

import os
import subprocess
import sys
import time
from typing import Self

TOKEN = "key-of-the-clock"


def serve(port: int) -> None:
    import asyncio

    import uvicorn
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.types import ToolAnnotations
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse

    server = MCPServer("clock", log_level="CRITICAL")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def opening_hours(day: str) -> str:
        """When the shop is open on a day of the week."""
        return f"On {day} we are open from nine to five."

    @server.tool()
    def book(day: str) -> str:
        """Book a table."""
        raise ToolError(f"{day} is full")

    @server.tool()
    async def think(seconds: float) -> str:
        """Answer late."""
        await asyncio.sleep(seconds)
        return "done"

    @server.tool()
    def crash() -> str:
        """Die."""
        os._exit(1)

    app = server.streamable_http_app()

    async def guarded(scope: dict, receive: object, send: object) -> None:  # type: ignore[type-arg]
        if scope["type"] == "http":
            request = Request(scope)
            if request.headers.get("authorization") != f"Bearer {TOKEN}":
                await PlainTextResponse("no", 401)(scope, receive, send)  # type: ignore[arg-type]
                return
        await app(scope, receive, send)  # type: ignore[arg-type]

    uvicorn.run(guarded, host="127.0.0.1", port=port, log_level="warning")


class McpProcess:
    """Use as a context; `url` is where it listens."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/mcp"

    def __enter__(self) -> Self:
        import httpx2

        self.process = subprocess.Popen([sys.executable, "-m", __name__, str(self.port)])
        deadline = time.monotonic() + 20
        while True:
            try:
                httpx2.get(self.url, trust_env=False)
                return self
            except httpx2.HTTPError:
                assert time.monotonic() < deadline, "the tool server does not start"
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
