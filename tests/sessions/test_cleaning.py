import numpy as np

from bridge.audio.frames import MODEL_FRAME, Pcm
from bridge.media import apm
from bridge.sessions.cleaning import Cleaning
from tests import virtual
from tests.backends.puppet import Puppet
from tests.sessions.stage import Stage, send

HISS = np.random.default_rng(4).normal(0, 300, 200 * MODEL_FRAME).astype(np.int16)
NEAR = {"type": "near_field"}


class Listens(Puppet):
    def __init__(self) -> None:
        super().__init__()
        self.told = 0
        self.words: list[Pcm] = []

    def played(self, pcm: Pcm, /) -> None:
        self.told += 1

    def cleaned(self, pcm: Pcm, /) -> None:
        self.words.append(pcm)


def changed(cleaning: Cleaning) -> bool:
    """Whether the model hears something else than was said."""
    frames = HISS.reshape(-1, MODEL_FRAME)
    return any(words is not frame for frame in frames for _, words in [cleaning.hear(frame)])


def test_a_session_that_does_not_ask_hears_the_very_frames() -> None:
    cleaning = Cleaning(Listens(), apm.NOTHING)
    cleaning.configure(None)
    assert not changed(cleaning)


def test_a_session_may_ask_and_take_it_back() -> None:
    apm.load()
    cleaning = Cleaning(Listens(), apm.NOTHING)
    cleaning.configure(NEAR)
    assert changed(cleaning)
    cleaning.configure(None)
    assert not changed(cleaning)
    cleaning.configure(NEAR)
    cleaning.close()
    assert not changed(cleaning)


def test_a_model_with_a_noise_reduction_of_its_own_is_left_to_it() -> None:
    apm.load()
    cleaning = Cleaning(Puppet(), apm.NOTHING)
    cleaning.configure(NEAR)
    assert not changed(cleaning)


def test_every_call_may_have_its_echo_cancelled() -> None:
    apm.load()
    backend = Listens()
    cleaning = Cleaning(backend, apm.Wanted(echo=True))
    cleaning.configure(None)
    assert cleaning.on_read is not None
    left = []
    for frame in HISS.reshape(-1, MODEL_FRAME):
        cleaning.on_read(20 * frame)
        turns, words = cleaning.hear(2 * frame)
        assert turns is words
        left.append(np.abs(words).mean())
    assert np.mean(left[-50:]) < np.abs(2 * HISS).mean() / 4
    assert backend.told == 200


def test_nobody_is_told_of_what_is_played_who_does_not_listen() -> None:
    assert Cleaning(Puppet(), apm.NOTHING).on_read is None


def test_whether_somebody_speaks_is_judged_by_the_sound_as_it_came() -> None:
    apm.load()
    backend = Listens()
    cleaning = Cleaning(backend, apm.NOTHING)
    cleaning.configure(NEAR)
    for frame in HISS.reshape(-1, MODEL_FRAME):
        turns, words = cleaning.hear(frame)
        assert turns is frame
        assert words is backend.words[-1]


def test_a_model_that_is_far_away_hears_one_sound_at_one_level() -> None:
    apm.load()
    cleaning = Cleaning(Puppet(), apm.Wanted(level=True))
    cleaning.configure(None)
    turns, words = cleaning.hear(HISS[:MODEL_FRAME])
    assert turns is words
    assert words is not HISS


def test_the_field_of_a_session_is_honoured_from_the_next_frame_on() -> None:
    async def scenario() -> None:
        asked = {"audio": {"input": {"noise_reduction": NEAR}}}
        model = Listens()
        stage = await Stage(model=model, session=asked).open()
        client = stage.session.attach()
        frames = list(HISS.reshape(-1, MODEL_FRAME))
        for frame in frames:
            stage.stream.deliver(frame)
        assert len(model.words) == len(frames)
        assert np.abs(model.words[-1]).mean() < np.abs(frames[-1]).mean() / 2
        assert model.heard_samples == len(HISS)
        nothing = {"audio": {"input": {"noise_reduction": None}}}
        session = {"type": "realtime", **nothing}
        send(stage.session, client, {"type": "session.update", "session": session})
        stage.stream.deliver(frames[0])
        assert len(model.words) == len(frames)
        await stage.session.close()

    apm.load()
    virtual.run(scenario())
