"""Key blobs and paper copies of format 1 are read for ever.

`tests/golden/keys-v1.json` holds a key for a passphrase, one for a key file, and a paper copy of the same master key. It was
written by `make`, which is kept to show how; running it anew where the file exists is refused.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.errors import WrongKey
from engine.repo.keyblob import Cost, key_file_secret, parse_key, passphrase_secret, unwrap_master, wrap_master
from engine.repo.paper import PaperKey, paper_lines, paper_text, parse_paper
from engine.repo.seal import Keyring
from tests.counting_entropy import CountingEntropy

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent.parent / "golden" / "keys-v1.json"
ID = "142ec0ee756c1d516251371b7bb56cd7"
MASTER = bytes(range(100, 132))
PASSPHRASE = "correct horse 🐴 battery staple"
KEY_FILE = bytes(range(48)) + b"\r\n"
TIME = datetime(2026, 11, 24, 8, 0, 0, 1234, tzinfo=UTC)
URL = "s3://backups/rok?endpoint=https://s3.example.org"
NAMES = {"passphrase": "00" * 16, "key file": "ff" * 16}
SECRETS = {"passphrase": passphrase_secret(PASSPHRASE), "key file": key_file_secret(KEY_FILE)}


def blob(kind: str) -> bytes:
    return wrap_master(
        Keyring(MASTER, encrypted=True),
        SECRETS[kind],
        name=NAMES[kind],
        label="ключ 🔑",
        repository_id=ID,
        created=TIME,
        entropy=CountingEntropy(7),
        cost=Cost(n=65536, r=8, p=1),
    )


def make() -> dict[str, object]:
    return {
        "passphrase": blob("passphrase").decode(),
        "key file": blob("key file").decode(),
        "paper": paper_text(PaperKey(ID, MASTER), URL, TIME).splitlines(),
    }


if __name__ == "__main__":
    with GOLDEN.open("x", encoding="ascii") as file:
        json.dump(make(), file, indent=1)


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text(encoding="ascii"))


@pytest.mark.parametrize("kind", SECRETS)
def test_a_key_of_format_1_opens(golden, kind):
    key = parse_key(NAMES[kind], golden[kind].encode())
    assert (key.kind.value, key.created) == (kind, TIME)
    assert key.label(Keyring(MASTER, encrypted=True)) == "ключ 🔑"
    assert unwrap_master(key, SECRETS[kind], ID) == MASTER
    with pytest.raises(WrongKey):
        unwrap_master(key, key_file_secret(KEY_FILE.strip()), ID)


def test_a_paper_copy_of_format_1_is_read(golden):
    assert parse_paper("\n".join(golden["paper"])) == PaperKey(ID, MASTER)


def test_today_s_program_writes_what_it_wrote_then(golden):
    for kind in SECRETS:
        assert blob(kind).decode() == golden[kind]
    printed = [line.strip() for line in golden["paper"]]
    assert [line for line in printed if line[:2] in {f"{n}:" for n in range(10)}] == paper_lines(PaperKey(ID, MASTER))


def test_a_key_file_is_the_hash_that_the_manual_says():
    expected = "77e722c730293c14f4d47a09aaf8ca60c1c7e750cab9dae3207e985b9fe623f4"
    assert key_file_secret(KEY_FILE).material.hex() == expected
