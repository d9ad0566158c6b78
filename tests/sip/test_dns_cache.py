from bridge.sip.dns_cache import MAX_ENTRIES, RECHECK_S, STALE_S, Cached, DnsCache, parse_hosts
from bridge.sip.resolver import Question

ONE = Question("one.example", "A")


def test_fresh_then_stale_then_gone() -> None:
    cache = DnsCache()
    assert cache.get(ONE, 0.0) is None
    cache.put(ONE, ("192.0.2.1",), 30.0, 0.0)
    assert cache.get(ONE, 29.9) == Cached(("192.0.2.1",), True)
    assert cache.get(ONE, 30.0) == Cached(("192.0.2.1",), False)
    assert cache.get(ONE, 29.9 + STALE_S) == Cached(("192.0.2.1",), False)
    assert cache.get(ONE, 30.0 + STALE_S) is None
    assert len(cache) == 0


def test_silent_name_servers_are_not_asked_for_each_call() -> None:
    cache = DnsCache()
    cache.extend(ONE, 0.0)
    assert cache.get(ONE, 0.0) is None
    cache.put(ONE, ("192.0.2.1",), 10.0, 0.0)
    cache.extend(ONE, 20.0)
    assert cache.get(ONE, 19.9 + RECHECK_S) == Cached(("192.0.2.1",), True)
    assert cache.get(ONE, 20.0 + RECHECK_S) == Cached(("192.0.2.1",), False)
    cache.put(ONE, ("192.0.2.2",), 10.0, 60.0)
    assert cache.get(ONE, 70.0) == Cached(("192.0.2.2",), False)


def test_ttls_are_kept_within_reason() -> None:
    cache = DnsCache()
    cache.put(ONE, ("192.0.2.1",), 0.0, 0.0)
    assert cache.get(ONE, 0.9) == Cached(("192.0.2.1",), True)
    cache.put(ONE, (), 86400.0, 0.0)
    assert cache.get(ONE, 299.0) == Cached((), True)
    assert cache.get(ONE, 300.0) == Cached((), False)


def test_the_oldest_make_room() -> None:
    cache = DnsCache()
    for number in range(MAX_ENTRIES + 1):
        cache.put(Question(f"{number}.example", "A"), ("192.0.2.1",), 60.0, 0.0)
    assert len(cache) == MAX_ENTRIES
    assert cache.get(Question("0.example", "A"), 0.0) is None


def test_hosts_file() -> None:
    text = "# ours\n127.0.0.1 localhost Proxy # old\n\n::1\tlocalhost\n192.0.2.1\n"
    assert parse_hosts(text) == {"localhost": ["127.0.0.1", "::1"], "proxy": ["127.0.0.1"]}
