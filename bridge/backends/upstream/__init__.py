"""A voice model elsewhere that speaks the Realtime protocol."""
