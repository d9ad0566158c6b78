"""A self-hosted server for OpenAI's Realtime calls API."""

__version__ = "0.1.0"
