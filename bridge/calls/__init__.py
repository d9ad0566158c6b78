"""Calls: where a leg meets a session."""
