"""Format 1 is kept for ever: a small repository, made once and never changed, must open and restore.

`tests/golden/repository-v1.json` holds its blobs. It was written by `make`, which is kept to show how; running it anew
where the file exists is refused, because the point of the file is that no later program wrote it.
"""

import base64
import json
from pathlib import Path

import pytest
from blake3 import blake3

from engine.errors import WrongKey
from engine.repo.keyblob import passphrase_secret
from engine.repo.naming import parse_reference
from engine.repo.repository import open_repository
from engine.repo.seal import Keyring
from engine.store.memory import MemoryStore
from engine.units import KIB, MIB
from tests.counting_entropy import CountingEntropy
from tests.repositories import (
    CLOCK,
    PASSPHRASE,
    content,
    discard,
    findings,
    new_pool,
    new_repository,
    push_snapshots,
    restore,
    snapshot,
    write,
)

GOLDEN = Path(__file__).parent.parent / "golden" / "repository-v1.json"
SIZE = 64 * MIB + 5 * 4096 + 512


def stream(seed: str, length: int) -> bytes:
    """Bytes that BLAKE3 gives for a seed; half of each 4 KiB is text, so that zstd has something to do."""
    body = bytearray(blake3(seed.encode()).digest(length=length))
    for start in range(0, length, 4096):
        body[start : start + 2048] = (b"the quick brown fox %d " % start * 200)[: min(2048, length - start)]
    return bytes(body)


def history(pool):
    """What the volume went through; yields after each period."""
    pool.create_volume("volume", SIZE)
    write(pool, "volume", (0, stream("a", 30 * KIB + 100)), (40 * MIB, stream("b", 70 * KIB)), (SIZE - 512, b"e" * 512))
    yield "first"
    write(pool, "volume", (8 * KIB, stream("c", 5000)), (64 * MIB, stream("d", 3 * 4096)))
    discard(pool, "volume", 40 * MIB, 64 * KIB)
    yield "second"


def make(encrypted: bool) -> dict[str, str]:
    store, pool = MemoryStore(CLOCK), new_pool()
    repository = new_repository(store, encrypted=encrypted)
    for name in history(pool):
        push_snapshots(repository, snapshot(pool, name, "volume"), workers=1)
    return {blob.key: base64.b64encode(store.get(blob.key)).decode() for blob in store.list("")}


if __name__ == "__main__":
    with GOLDEN.open("x", encoding="ascii") as file:
        json.dump({"encrypted": make(True), "clear": make(False)}, file, indent=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["encrypted", "clear"])
def test_a_repository_of_format_1_opens_checks_and_restores(kind):
    store = MemoryStore(CLOCK)
    for key, body in json.loads(GOLDEN.read_text(encoding="ascii"))[kind].items():
        store.put(key, base64.b64decode(body))

    repository = open_repository(store, lambda: passphrase_secret(PASSPHRASE), clock=CLOCK, entropy=CountingEntropy(9))

    assert findings(repository) == ()
    pool = new_pool()
    for name, manifest in zip(history(pool), repository.versions(), strict=True):
        restore(repository, manifest, pool, f"restored-{name}")
        assert content(pool, f"restored-{name}") == content(pool, "volume")
    CLOCK.advance(3600)  # the versions in the file must be older
    write(pool, "volume", (MIB, b"later"))
    report = push_snapshots(repository, snapshot(pool, "third", "volume"), full=True)
    assert report.new_chunks == 1, "today's program finds the chunks of the first one, so it cuts and names as that did"
    assert repository.resolve(parse_reference("bucket/object")).version == report.version
    if kind == "encrypted":
        with pytest.raises(WrongKey):
            open_repository(store, lambda: passphrase_secret("wrong"), clock=CLOCK, entropy=CountingEntropy(9))


def test_keys_are_derived_as_ever():
    keyring = Keyring(bytes(range(32)), encrypted=True)
    assert keyring.subkey("chunk id").hex() == "e6491df03692ce69e2723fe9aae1a6e2dc6a8ff2457d36e5b92fb2a8aad83eef"
    assert (
        keyring.subkey("pack", "ab" * 16 + "-00000007").hex()
        == "6c1aca1608f07c4a0f5a33ef20b2e5de140ad4184483b913b7bc1e3235889e18"
    )
    assert keyring.cut_seed == 3111060187318995608
    sealed = bytearray(21)
    keyring.cipher("pack", "x").seal_into(bytes(12), b"hello", memoryview(sealed))
    assert sealed.hex() == "380b6edc02b69208f8387781b4f53cbacc75e80d4b"
