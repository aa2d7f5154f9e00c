"""Sending packs in the background: how much memory it takes."""

from dataclasses import dataclass

from engine.repo.upload import Uploads


@dataclass
class Finished:
    """As much of a pack as is asked for here."""

    buffer: memoryview

    def finish(self) -> memoryview:
        return self.buffer


def test_a_buffer_is_used_again_before_another_is_made():
    uploads = Uploads(lambda pack, blob: None, threads=0, buffers=3, size=4096)
    first = uploads.acquire()
    uploads.submit(Finished(first))
    assert uploads.acquire() is first
    assert uploads.acquire() is not first
