"""Key blobs and paper copies of format 1 are read for ever.

A file of `tests/golden` holds a key for a passphrase, one for a key file, and a paper copy of the same master key;
`keys-v1.json` with keys that scrypt derived, as were written first, `keys-v1-argon2id.json` with Argon2id, and
`keys-v1-salt16.json` with the shorter salt of today. They were written by `make`, which is kept to show how (the first two with
salts of 32 bytes); it writes no file that exists. `keys-v1-generated.json` holds a key for a key file that was generated.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.errors import WrongKey
from engine.repo import keyblob
from engine.repo.derivation import Argon2id, Derivation, Scrypt
from engine.repo.keyblob import (
    Secret,
    generate_key_file,
    key_file_secret,
    parse_key,
    passphrase_secret,
    unwrap_master,
    wrap_master,
)
from engine.repo.paper import PaperKey, paper_lines, paper_text, parse_paper
from engine.repo.seal import Keyring
from tests.counting_entropy import CountingEntropy

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent.parent / "golden"
DERIVATIONS = {
    "keys-v1": Scrypt(n=65536, r=8, p=1),
    "keys-v1-argon2id": Argon2id(m=65536, t=2, p=1),
    "keys-v1-salt16": Argon2id(m=65536, t=2, p=1),
}
SALTS = {"keys-v1": 32, "keys-v1-argon2id": 32}  # bytes, where they were more than today's
ID = "142ec0ee756c1d516251371b7bb56cd7"
MASTER = bytes(range(100, 132))
PASSPHRASE = "correct horse 🐴 battery staple"
KEY_FILE = bytes(range(48)) + b"\r\n"
TIME = datetime(2026, 11, 24, 8, 0, 0, 1234, tzinfo=UTC)
URL = "s3://backups/rok?endpoint=https://s3.example.org"
NAMES = {"passphrase": "00" * 16, "key file": "ff" * 16}
SECRETS = {"passphrase": passphrase_secret(PASSPHRASE), "key file": key_file_secret(KEY_FILE)}


def blob(kind: str, derivation: Derivation) -> bytes:
    return wrapped(SECRETS[kind], NAMES[kind], "ключ 🔑", derivation)


def wrapped(secret: Secret, name: str, label: str, derivation: Derivation | None = None) -> bytes:
    return wrap_master(
        Keyring(MASTER, encrypted=True),
        secret,
        name=name,
        label=label,
        repository_id=ID,
        created=TIME,
        entropy=CountingEntropy(7),
        derivation=derivation,
    )


def make(derivation: Derivation) -> dict[str, object]:
    return {
        "passphrase": blob("passphrase", derivation).decode(),
        "key file": blob("key file", derivation).decode(),
        "paper": paper_text(PaperKey(ID, MASTER), URL, TIME).splitlines(),
    }


GENERATED = GOLDEN / "keys-v1-generated.json"


def make_generated() -> dict[str, str]:
    content = generate_key_file(CountingEntropy(8))
    secret = key_file_secret(content)
    name = str(secret.key_name)
    return {"file": content.decode(), "name": name, "blob": wrapped(secret, name, "node").decode()}


if __name__ == "__main__":
    if not GENERATED.exists():
        GENERATED.write_text(json.dumps(make_generated(), indent=1), encoding="ascii")
    for name, derivation in DERIVATIONS.items():
        if not (path := GOLDEN / f"{name}.json").exists():
            path.write_text(json.dumps(make(derivation), indent=1), encoding="ascii")


@pytest.fixture(scope="module", params=DERIVATIONS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="ascii"))


@pytest.mark.parametrize("kind", SECRETS)
def test_a_key_of_format_1_opens(name, golden, kind):
    key = parse_key(NAMES[kind], golden[kind].encode())
    assert (key.kind.value, key.created, key.derivation) == (kind, TIME, DERIVATIONS[name])
    assert key.label(Keyring(MASTER, encrypted=True)) == "ключ 🔑"
    assert unwrap_master(key, SECRETS[kind], ID) == MASTER
    with pytest.raises(WrongKey):
        unwrap_master(key, key_file_secret(KEY_FILE.strip()), ID)


def test_a_paper_copy_of_format_1_is_read(golden):
    assert parse_paper("\n".join(golden["paper"])) == PaperKey(ID, MASTER)


def test_today_s_program_writes_what_it_wrote_then(name, golden, monkeypatch):
    monkeypatch.setattr(keyblob, "_SALT", SALTS.get(name, keyblob._SALT))
    for kind in SECRETS:
        assert blob(kind, DERIVATIONS[name]).decode() == golden[kind]
    printed = [line.strip() for line in golden["paper"]]
    assert [line for line in printed if line[:2] in {f"{n}:" for n in range(10)}] == paper_lines(PaperKey(ID, MASTER))


def test_a_key_file_is_the_hash_that_the_manual_says():
    expected = "77e722c730293c14f4d47a09aaf8ca60c1c7e750cab9dae3207e985b9fe623f4"
    assert key_file_secret(KEY_FILE).material.hex() == expected


def test_a_generated_key_file_of_format_1_opens_the_key_that_it_names():
    golden = json.loads(GENERATED.read_text(encoding="ascii"))
    secret = key_file_secret(golden["file"].encode())
    assert secret.key_name == golden["name"]
    assert unwrap_master(parse_key(golden["name"], golden["blob"].encode()), secret, ID) == MASTER
    assert make_generated() == golden
