"""The page at `/`: a phone, its event stream and the calls of this server."""
