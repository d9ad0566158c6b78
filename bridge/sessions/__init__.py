"""The model side of calls: conversations and the clients that watch and drive them."""
