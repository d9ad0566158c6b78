"""Clients that cannot share our environment have one each, made by scripts/install-peers."""

import os
from pathlib import Path

FOLDER = Path(os.environ.get("BRIDGE_PEERS") or Path.home() / ".cache" / "bridge-peers")
HEAVY = frozenset(("pipecat", "livekit", "gllm"))
"""Half a gigabyte each: installed only when asked for."""
NAMES = HEAVY | {"openai-2.8"}


def python_of(name: str) -> str:
    return str(FOLDER / name / "bin" / "python")


def is_here(name: str) -> bool:
    return (FOLDER / name / ".installed").is_file()
