from bridge.load import Load


def test_load_is_high_above_a_half_until_it_is_well_below() -> None:
    load = Load()
    told = []
    for share in (0.1, 0.5, 0.51, 0.45, 0.31, 0.3, 0.45):
        load.judge(share)
        told.append(load.high)
    assert told == [False, False, True, True, True, False, False]


def test_media_is_full_after_two_seconds_until_it_is_well_below() -> None:
    load = Load()
    told = []
    for share in (0.1, 0.9, 0.5, 0.81, 0.85, 0.79, 0.73, 0.72, 0.81, 0.81):
        load.judge_media(share, 0.8)
        told.append(load.full)
    assert told == [False, False, False, False, True, True, True, False, False, True]
    assert load.media == 0.81
    load.forget()
    assert (load.high, load.full, load.media) == (False, False, 0.0)


def test_nothing_is_full_without_a_limit() -> None:
    load = Load()
    for _ in range(5):
        load.judge_media(1.2, 1.0)
    assert not load.full
