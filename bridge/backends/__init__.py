"""Voice models behind a session."""
