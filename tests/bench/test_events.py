from tests.bench import events


def test_every_event_has_a_cost() -> None:
    found = list(events.lines(batches=1))
    assert len(found) == 5
    assert all(0 < float(line.split()[-2]) < 10_000 for line in found)
