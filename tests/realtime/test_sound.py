import numpy as np
from hypothesis import given, strategies as st

from bridge.realtime.sound import MANY, Sound


@given(st.lists(st.integers(0, 50)), st.integers(0, 400))
def test_it_is_what_came_up_to_where_it_is_cut(sizes: list[int], most: int) -> None:
    whole = np.arange(sum(sizes), dtype=np.int16)
    sound, begin = Sound(), 0
    for size in sizes:
        sound.add(whole[begin : begin + size])
        begin += size
    assert len(sound) == len(whole)
    assert sound.pcm.tolist() == whole.tolist()
    assert sound.cut(most) == max(0, len(whole) - most)
    assert sound.pcm.tolist() == whole[:most].tolist()
    assert len(sound) == len(sound.pcm)


def test_crumbs_take_no_more_room_than_slices() -> None:
    sound = Sound()
    for number in range(10 * MANY):
        sound.add(np.full(1, number, np.int16))
    assert len(sound._pieces) <= MANY
    assert sound.pcm.tolist() == list(range(10 * MANY))
