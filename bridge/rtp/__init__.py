"""RTP and RTCP (RFC 3550); only transport.py does IO."""
