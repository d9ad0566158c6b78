from bridge.audio.frames import MODEL_FRAME, MODEL_RATE, samples_per_frame, samples_to_ms


def test_a_frame_is_20_ms() -> None:
    assert samples_per_frame(8000) == 160
    assert samples_per_frame(MODEL_RATE) == MODEL_FRAME == 480
    assert samples_to_ms(480) == 20
    assert samples_to_ms(479) == 19
    assert samples_to_ms(160, 8000) == 20
