"""Real-time audio of all calls: one clock, one batched plane."""
