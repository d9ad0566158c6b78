"""The Realtime protocol without a socket."""
