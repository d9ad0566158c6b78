from bridge.load import Load


def test_load_is_high_above_seven_tenths_until_it_is_well_below() -> None:
    load = Load()
    told = []
    for share in (0.1, 0.7, 0.71, 0.65, 0.56, 0.55, 0.6):
        load.judge(share)
        told.append(load.high)
    assert told == [False, False, True, True, True, False, False]
