"""SIP without a socket (RFC 3261 and friends); only transport.py does IO."""
