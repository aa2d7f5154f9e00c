"""Random bytes for tests."""

from blake3 import blake3


class CountingEntropy:
    """Bytes that look random, are the same in every run, and never the same twice in one."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._count = 0

    def __call__(self, size: int) -> bytes:
        self._count += 1
        return blake3(f"{self._seed} {self._count}".encode()).digest(length=size)
