"""Virtual time: threads take turns, time moves when all wait, and a thread that nothing will wake is an error."""

from __future__ import annotations

import threading

import pytest

from launchers.testing.clock import Stuck, VirtualClock


def test_a_day_of_three_threads_takes_no_time_and_always_the_same_order():
    def once() -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []
        with VirtualClock(start=0.0, limit=1e6) as clock:

            def work(name: str, pause: float) -> None:
                for _ in range(3):
                    clock.sleep(pause)
                    seen.append((name, clock.now()))

            clock.start(lambda: work("a", 28800), "a")
            clock.start(lambda: work("b", 28800), "b")
            clock.start(lambda: work("c", 10000), "c")
            clock.sleep(86401)
        return seen

    first = once()
    assert first == once()
    assert [name for name, _ in first] == ["c", "c", "a", "b", "c", "a", "b", "a", "b"]
    assert first[-1] == ("b", 86400.0)


def test_an_event_wakes_at_the_time_of_its_setting():
    event = threading.Event()
    with VirtualClock(start=0.0) as clock:
        clock.call_at(5.0, event.set)
        assert clock.wait(event, 60)
        assert clock.now() == 5.0
        assert clock.wait(event, 60)
        event.clear()
        assert not clock.wait(event, 60)
        assert clock.now() == 65.0


def test_a_wait_that_nothing_will_end_is_an_error():
    with VirtualClock() as clock, pytest.raises(Stuck, match="nothing will wake main"):
        clock.wait(threading.Event())


def test_a_launch_that_never_ends_is_an_error():
    with VirtualClock(limit=100.0) as clock:
        for _ in range(100):
            clock.sleep(1.0)
        with pytest.raises(Stuck, match="still waiting"):
            clock.sleep(1.0)


def test_threads_that_still_sleep_end_with_the_clock():
    before = threading.active_count()
    with VirtualClock() as clock:
        for _ in range(5):
            clock.start(lambda: clock.sleep(1e6), "sleeper")
        clock.sleep(1.0)
    assert threading.active_count() == before


def test_a_thread_that_waits_for_a_lock_of_a_sleeping_one_does_not_stop_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("launchers.testing.clock.STALLED_S", 0.2)
    lock, seen = threading.Lock(), []
    with VirtualClock(start=0.0) as clock:

        def hold() -> None:
            with lock:
                clock.sleep(10.0)

        def want() -> None:
            with lock:
                seen.append(clock.now())

        clock.start(hold, "hold")
        clock.start(want, "want")
        clock.sleep(20.0)
    assert seen == [10.0]
