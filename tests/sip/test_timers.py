from bridge.sip.timers import GIVE_UP, Timer, TimerQueue


class Owner:
    def __init__(self, queue: TimerQueue) -> None:
        self.queue = queue
        self.fired: list[tuple[Timer, float]] = []
        self.again: float | None = None

    def timer_fired(self, timer: Timer, now: float) -> None:
        self.fired.append((timer, now))
        if self.again is not None:
            self.queue.start(self, timer, self.again)
            self.again = None


def test_fires_in_order_of_deadline() -> None:
    queue = TimerQueue()
    owner = Owner(queue)
    queue.start(owner, Timer.B, 2.0)
    queue.start(owner, Timer.A, 1.0)
    assert queue.next_deadline() == 1.0
    queue.fire(0.9)
    assert owner.fired == []
    queue.fire(2.0)
    assert owner.fired == [(Timer.A, 2.0), (Timer.B, 2.0)]
    assert queue.next_deadline() is None
    assert len(queue) == 0


def test_starting_again_moves_the_deadline() -> None:
    queue = TimerQueue()
    owner = Owner(queue)
    queue.start(owner, Timer.A, 1.0)
    queue.start(owner, Timer.A, 3.0)
    queue.fire(2.0)
    assert owner.fired == []
    queue.fire(3.0)
    assert owner.fired == [(Timer.A, 3.0)]


def test_stopped_timers_do_not_fire() -> None:
    queue = TimerQueue()
    owner = Owner(queue)
    queue.start(owner, Timer.A, 1.0)
    queue.start(owner, Timer.B, 1.0)
    queue.stop(owner, Timer.A)
    queue.stop(owner, Timer.A)
    queue.fire(1.0)
    assert owner.fired == [(Timer.B, 1.0)]
    queue.start(owner, Timer.A, 2.0)
    queue.stop_all(owner)
    queue.stop(owner, Timer.A)
    assert queue.next_deadline() is None
    assert len(queue) == 0


def test_a_timer_may_set_itself_again() -> None:
    queue = TimerQueue()
    owner = Owner(queue)
    owner.again = 1.5
    queue.start(owner, Timer.A, 1.0)
    queue.fire(2.0)
    assert owner.fired == [(Timer.A, 2.0), (Timer.A, 2.0)]


def test_values_of_the_rfc() -> None:
    assert GIVE_UP == 32.0
