"""Writing behind: in which memory, in which thread, and what becomes of errors."""

import os
import signal
import threading
from dataclasses import dataclass

import pytest

from engine.writebehind import WriteBehind


@dataclass
class Finished:
    """Something in a buffer, all of which is to be written."""

    buffer: memoryview

    def finish(self) -> memoryview:
        return self.buffer


def test_a_buffer_is_used_again_before_another_is_made():
    behind = WriteBehind(lambda item, body: None, threads=0, buffers=3, size=4096)
    first = behind.acquire()
    behind.submit(Finished(first))
    assert behind.acquire() is first
    assert behind.acquire() is not first


def test_what_is_submitted_is_written_beside_and_all_of_it_before_drain_returns():
    written = []

    def write(item, body):
        written.append((bytes(body[:1]), threading.current_thread() is threading.main_thread()))

    behind = WriteBehind(write, threads=2, buffers=3, size=4096)
    for number in range(50):
        buffer = behind.acquire()
        buffer[0] = number
        behind.submit(Finished(buffer))
    behind.drain()
    behind.stop()
    assert sorted(written) == [(bytes([number]), False) for number in range(50)]


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_is_raised_by_every_later_call_and_nothing_is_written_after_it(threads):
    written = []

    def write(item, body):
        written.append(body)
        raise OSError("the disk is on fire")

    behind = WriteBehind(write, threads=threads, buffers=2, size=4096)
    buffer = behind.acquire()

    def write_all():
        behind.submit(Finished(buffer))
        behind.drain()

    for again in (write_all, behind.acquire, behind.drain, lambda: behind.submit(Finished(memoryview(b"")))):
        with pytest.raises(OSError, match="on fire"):
            again()
    behind.stop()
    assert len(written) == 1


def a_write_under_way(threads):
    """Something that is being written, what lets that end, and what tells that it has."""
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def write(item, body):
        begun.set()
        may_end.wait()
        ended.set()

    behind = WriteBehind(write, threads=threads, buffers=threads, size=4096)
    behind.submit(Finished(behind.acquire()))
    begun.wait()
    return behind, may_end, ended


def test_a_write_under_way_has_ended_when_all_is_stopped():
    behind, may_end, ended = a_write_under_way(threads=1)
    behind.stop(parting=0.01)
    assert not ended.is_set(), "it was not waited for any longer"
    threading.Timer(0.05, may_end.set).start()
    behind.stop()
    assert ended.is_set()


class Interruption(Exception):
    """What the handler of a signal raises."""


def test_a_signal_while_all_is_stopped_is_raised_when_the_write_has_ended():
    behind, may_end, ended = a_write_under_way(threads=2)

    def interrupt(*_):
        may_end.set()
        raise Interruption

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(Interruption):
            behind.stop()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert ended.is_set()
