"""A stopped clock lets nobody sleep."""

import threading
import time

from engine.clock import StoppableClock


def test_a_sleeper_wakes_in_its_time():
    clock = StoppableClock()
    begun = time.monotonic()
    clock.sleep(0.3)
    assert 0.3 <= time.monotonic() - begun < 5


def test_stopping_wakes_who_sleeps_and_lets_nobody_sleep_again():
    clock = StoppableClock()
    sleeper = threading.Thread(target=clock.sleep, args=(60,), daemon=True)
    sleeper.start()
    clock.stop()
    sleeper.join(5)
    assert not sleeper.is_alive()
    begun = time.monotonic()
    clock.sleep(60)
    assert time.monotonic() - begun < 5
