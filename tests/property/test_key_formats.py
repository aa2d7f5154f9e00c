"""Key blobs and paper copies: what is written is read back, what was damaged is told from what is another's."""

from datetime import UTC, datetime

import pytest
from blake3 import blake3
from cryptography.exceptions import UnsupportedAlgorithm
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nacl.exceptions import RuntimeError as SodiumError

from engine.errors import Damaged, Failed, Refused, RokError, WrongKey
from engine.repo import keyblob
from engine.repo.derivation import TODAY, Argon2id, Blake3, CannotDerive, Scrypt, _by_openssl
from engine.repo.document import canonical, parse_object
from engine.repo.keyblob import (
    KEY_FILE_LIMIT,
    KeyKind,
    check_label,
    generate_key_file,
    key_file_secret,
    parse_key,
    passphrase_secret,
    unwrap_master,
    wrap_master,
)
from engine.repo.paper import PaperKey, paper_lines, paper_text, parse_paper
from engine.repo.seal import Keyring
from engine.units import GIB, KIB
from tests.counting_entropy import CountingEntropy

ID, NAME = "ab" * 16, "cd" * 16
TIME = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
KEYRING = Keyring(bytes(range(32)), encrypted=True)
CHEAP = Argon2id(m=8, t=1, p=1)
CHEAP_OF_OLD = Scrypt(n=16, r=1, p=1)


def wrapped(secret, *, label="", derivation=CHEAP, name=NAME):
    return wrap_master(
        KEYRING,
        secret,
        name=name,
        label=label,
        repository_id=ID,
        created=TIME,
        entropy=CountingEntropy(3),
        derivation=derivation,
    )


def with_sum(document):
    """A key blob that is whole as far as its sum says: anyone can write one."""
    rest = {key: value for key, value in document.items() if key != "sum"}
    return canonical({**rest, "sum": blake3(canonical(rest)).digest(length=16).hex()})


labels = st.text(st.characters(categories=("L", "N", "P", "S")), max_size=40)


@given(
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1) | st.binary(min_size=1),
    labels,
    st.sampled_from([CHEAP, CHEAP_OF_OLD]),
)
@settings(max_examples=50)
def test_a_key_opens_for_its_own_secret_alone(given_secret, label, derivation):
    is_text = isinstance(given_secret, str)
    secret = passphrase_secret(given_secret) if is_text else key_file_secret(given_secret)

    key = parse_key(NAME, wrapped(secret, label=label, derivation=derivation))

    assert (key.name, key.created, key.derivation, key.label(KEYRING)) == (NAME, TIME, derivation, label)
    assert key.kind is (KeyKind.PASSPHRASE if is_text else KeyKind.FILE)
    assert unwrap_master(key, secret, ID) == KEYRING.master
    other = passphrase_secret(given_secret + "x") if is_text else key_file_secret(given_secret + b"\n")
    for wrong_secret, wrong_id in ((other, ID), (secret, "00" * 16)):
        with pytest.raises(WrongKey):
            unwrap_master(key, wrong_secret, wrong_id)


def test_a_wrong_passphrase_is_told_from_a_damaged_key():
    blob = wrapped(passphrase_secret("correct horse"), label="home")
    with pytest.raises(WrongKey):
        unwrap_master(parse_key(NAME, blob), passphrase_secret("wrong"), ID)
    for position in range(len(blob)):
        flipped = bytearray(blob)
        flipped[position] ^= 1
        with pytest.raises(Damaged):
            parse_key(NAME, bytes(flipped))


def test_a_passphrase_and_a_key_file_of_the_same_bytes_are_two_secrets():
    assert passphrase_secret("secret").material != key_file_secret(b"secret").material
    assert key_file_secret(b"secret") != key_file_secret(b"secret\n"), "no line end is taken off"


def test_the_store_reads_no_label_and_cannot_move_it_to_another_key():
    blob = wrapped(passphrase_secret("p"), label="the safe in Berlin")
    assert b"safe" not in blob
    with pytest.raises(Damaged):
        parse_key("ef" * 16, blob).label(KEYRING)


def test_no_repr_shows_a_secret():
    shown = repr([passphrase_secret("hunter2"), key_file_secret(b"hunter2"), PaperKey(ID, KEYRING.master)])
    assert "hunter2" not in shown
    assert str(KEYRING.master) not in shown


@given(st.binary(min_size=32, max_size=32), st.text(" \r\n\t", max_size=4))
def test_a_generated_key_file_is_random_whatever_white_space_is_around_it(random, space):
    content = generate_key_file(lambda count: random[:count])
    secret = key_file_secret(content)
    assert secret.is_random
    assert key_file_secret(content.rstrip() + space.encode()) == secret
    assert key_file_secret(b"\xef\xbb\xbf" + space.encode() + content) == secret
    assert isinstance(secret.derivation, Blake3)
    key = parse_key(NAME, wrapped(secret, derivation=None))
    assert unwrap_master(key, secret, ID) == KEYRING.master


@given(st.data())
def test_a_generated_key_file_in_which_anything_was_changed_is_refused(data):
    content = generate_key_file(CountingEntropy(5))
    at = data.draw(st.integers(len(b"rokctl-key-file-1:"), len(content) - 2))
    with pytest.raises(Refused, match="not any more"):
        key_file_secret(b"# mine: " + content)
    changed = content[:at] + data.draw(st.binary(max_size=3)) + content[at + 1 :]
    if changed.rstrip() != content.rstrip():
        with pytest.raises(Refused, match="not any more") as caught:
            key_file_secret(changed)
        assert content[-60:-20].decode() not in caught.value.message


def test_two_generated_key_files_open_keys_of_different_names_which_tell_nothing_of_them():
    one, other = (generate_key_file(CountingEntropy(seed)) for seed in (1, 2))
    names = [key_file_secret(content).key_name for content in (one, other)]
    assert names[0] != names[1]
    assert all(
        len(name) == 32 and name.encode() not in content for name, content in zip(names, (one, other), strict=True)
    )
    assert passphrase_secret("p").key_name is None
    assert key_file_secret(b"p").key_name is None


def test_what_is_not_known_to_be_random_is_never_just_hashed():
    for secret in (passphrase_secret("p"), key_file_secret(bytes(32)), key_file_secret(b"rokctl-key-file-2:x")):
        assert secret.derivation == TODAY
    hashed = wrapped(passphrase_secret("p"), derivation=Blake3())
    with pytest.raises(Damaged, match="derivation"):
        parse_key(NAME, hashed)
    with pytest.raises(WrongKey):
        unwrap_master(parse_key(NAME, wrapped(key_file_secret(b"p"), derivation=Blake3())), key_file_secret(b"p"), ID)


@pytest.mark.parametrize("text", ["", "\udcff"], ids=["empty", "not UTF-8"])
def test_a_passphrase_that_cannot_be_one_is_refused(text):
    with pytest.raises(Refused) as caught:
        passphrase_secret(text)
    assert caught.value.hint
    assert "udcff" not in caught.value.message


@pytest.mark.parametrize("content", [b"", bytes(KEY_FILE_LIMIT + 1)], ids=["empty", "too large"])
def test_a_key_file_that_cannot_be_one_is_refused(content):
    with pytest.raises(Refused, match="key file"):
        key_file_secret(content)


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31m", "x" * 201, "\udcff"], ids=ascii)
def test_a_label_that_could_drive_a_terminal_or_fill_the_page_is_refused(text):
    with pytest.raises(Refused):
        check_label(text)


GOOD = parse_object(wrapped(passphrase_secret("p")), "it")
GOOD_OF_OLD = parse_object(wrapped(passphrase_secret("p"), derivation=CHEAP_OF_OLD), "it")

FIELDS = [
    {"salt": ""}, {"salt": "zz"}, {"nonce": "00"}, {"wrapped": "00" * 47}, {"created": "yesterday"},
    {"created": "2026-11-24T08:00:00"}, {"label": "00" * 1000}, {"label": None},
]  # fmt: skip
PARAMETERS = [
    {"m": 7}, {"m": 15, "p": 2}, {"m": 0}, {"m": -8}, {"m": True}, {"m": "8"}, {"m": 8.0}, {"m": (1 << 20) + 1}, {"t": 0},
    {"t": 1 << 40}, {"m": 1 << 20, "t": 9}, {"p": 0}, {"m": 512, "t": 16384, "p": 64}, {"m": 1 << 20, "t": 1, "p": 1025},
]  # fmt: skip
PARAMETERS_OF_OLD = [
    {"n": 3}, {"n": 1}, {"n": 0}, {"n": -2}, {"n": True}, {"n": "16"}, {"n": 16.0}, {"n": 1 << 22, "r": 8}, {"r": 0}, {"p": 0},
    {"p": 1 << 40},
]  # fmt: skip


@pytest.mark.parametrize(
    ("good", "change"),
    [*((GOOD, change) for change in FIELDS + PARAMETERS), *((GOOD_OF_OLD, change) for change in PARAMETERS_OF_OLD)],
    ids=str,
)
def test_what_no_program_writes_is_damage_and_takes_no_memory(good, change):
    with pytest.raises(Damaged):
        parse_key(NAME, with_sum({**good, **change}))


@pytest.mark.parametrize("change", [{"kdf": "balloon"}, {"kind": "token"}], ids=str)
def test_what_a_newer_program_wrote_is_not_called_damage(change):
    with pytest.raises(Refused, match="newer"):
        parse_key(NAME, with_sum({**GOOD, **change}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner),
    max_leaves=3,
)


@given(st.sampled_from([name for name in GOOD if name != "sum"]), json_values)
def test_a_key_with_any_field_of_any_value_is_an_error_or_a_key(name, value):
    try:
        parse_key(NAME, with_sum({**GOOD, name: value}))
    except RokError:
        return


@given(st.binary(max_size=300))
@example(b'{"n":NaN,"sum":""}')
@example(b'{"a":"\\ud800","sum":""}')
@example(b"[" * 100_000)
@example(b'{"n":' + b"9" * 5000 + b"}")
def test_arbitrary_bytes_are_no_key(blob):
    with pytest.raises(Damaged):
        parse_key(NAME, blob)


def test_a_cost_below_today_s_is_weak_in_memory_or_in_work():
    assert not TODAY.is_weak
    assert not Argon2id(m=TODAY.m, t=3, p=4).is_weak
    assert Argon2id(m=TODAY.m, t=1, p=1).is_weak
    assert Argon2id(m=TODAY.m // 2, t=4, p=1).is_weak, "the same work in half the memory"
    assert TODAY.is_sound
    assert Argon2id(m=GIB // KIB, t=8, p=64).is_sound


def test_a_cost_of_scrypt_is_held_against_the_same_memory_and_work():
    assert not Scrypt(n=65536, r=8, p=1).is_weak
    assert Scrypt(n=32768, r=8, p=1).is_weak
    assert Scrypt(n=32768, r=8, p=2).is_weak, "the same work in half the memory"
    assert not Scrypt(n=GIB // 1024, r=16, p=1).is_sound


@given(st.binary(max_size=80), st.binary(min_size=16, max_size=16), st.integers(8, 96), st.integers(1, 4))
def test_both_libraries_derive_the_same_key(secret, salt, memory, passes):
    derivation = Argon2id(m=memory, t=passes, p=1)
    assert derivation.derive(secret, salt) == _by_openssl(derivation, secret, salt)


@pytest.mark.parametrize("salt", [16, 32])
def test_a_key_is_opened_whatever_length_its_salt_has(salt, monkeypatch):
    monkeypatch.setattr(keyblob, "_SALT", salt)
    key = parse_key(NAME, wrapped(passphrase_secret("p")))
    assert len(key.salt) == salt
    assert unwrap_master(key, passphrase_secret("p"), ID) == KEYRING.master


class WithoutMemory:
    def __init__(self, **_):
        pass

    def derive(self, _):
        raise MemoryError


def without_memory(error):
    def lacks(*_, **__):
        raise error

    return lacks


@pytest.mark.parametrize(
    ("derivation", "function", "instead"),
    [
        (CHEAP, "nacl.bindings.crypto_pwhash_alg", without_memory(SodiumError("no memory"))),
        (Argon2id(m=8, t=1, p=2), "cryptography.hazmat.primitives.kdf.argon2.Argon2id", WithoutMemory),
        (Scrypt(n=64, r=1, p=1), "hashlib.scrypt", without_memory(ValueError("malloc failure"))),
    ],
    ids=["sodium", "openssl", "scrypt"],
)
def test_a_key_that_takes_more_memory_than_there_is_says_so(derivation, function, instead, monkeypatch):
    monkeypatch.setattr(function, instead)
    with pytest.raises(CannotDerive, match=r"8\.00 KiB of memory") as caught:
        wrapped(passphrase_secret("never derived before"), derivation=derivation)
    assert "limit of memory" in caught.value.hint


def test_a_key_that_this_machine_cannot_derive_says_what_to_install(monkeypatch):
    def lacks(**_):
        raise UnsupportedAlgorithm("no Argon2 here")

    monkeypatch.setattr("cryptography.hazmat.primitives.kdf.argon2.Argon2id", lacks)
    with pytest.raises(Failed, match="has no Argon2") as caught:
        wrapped(passphrase_secret("p"), derivation=Argon2id(m=8, t=1, p=2))
    assert "install cryptography" in caught.value.hint


masters = st.binary(min_size=32, max_size=32)
ids = st.binary(min_size=16, max_size=16).map(bytes.hex)
papers = st.builds(PaperKey, ids, masters)


@given(papers, st.text(max_size=60))
def test_the_printed_page_and_its_lines_alone_are_read_back(paper, url):
    page = paper_text(paper, "s3://bucket/" + "".join(url.split()), TIME)
    assert parse_paper(page) == paper
    assert len(page.splitlines()) < 50, "it is one page"
    lines = paper_lines(paper)
    assert parse_paper("\n".join(lines)) == paper
    assert parse_paper("\r\n".join(f"\t{line.replace(' ', '').upper()} " for line in reversed(lines))) == paper


@given(papers, st.integers(1, 6), st.integers(0, 15), st.sampled_from("0123456789abcdef"))
def test_a_mistyped_digit_is_refused_and_its_line_named(paper, number, position, digit):
    lines = paper_lines(paper)
    head, body = lines[number - 1].split(":")
    typed = list(body.replace(" ", ""))
    if typed[position] == digit:
        return
    typed[position] = digit
    lines[number - 1] = f"{head}: {''.join(typed)}"
    with pytest.raises(Refused, match=rf"line [{number}-6] of the paper copy is mistyped"):
        parse_paper("\n".join(lines))  # with 16 bits one slip in 65536 is found a line later


def test_each_kind_of_slip_is_named():
    lines = paper_lines(PaperKey(ID, KEYRING.master))
    with pytest.raises(Refused, match="lacks line 3"):
        parse_paper("\n".join(lines[:2] + lines[3:]))
    with pytest.raises(Refused, match="line 4 of the paper copy is not 20 hexadecimal digits \\(19 were typed\\)"):
        parse_paper("\n".join([*lines[:3], lines[3][:-1], *lines[4:]]))
    with pytest.raises(Refused, match="line 5 of the paper copy is not 20 hexadecimal"):
        parse_paper("\n".join([*lines[:4], "5: " + "o" * 20, lines[5]]))


def test_lines_of_two_papers_do_not_mix():
    one, other = paper_lines(PaperKey(ID, KEYRING.master)), paper_lines(PaperKey(ID, bytes(32)))
    with pytest.raises(Refused, match="line 4"):
        parse_paper("\n".join(one[:3] + other[3:]))


@given(st.text(max_size=200))
def test_any_text_is_no_paper_and_no_traceback(text):
    with pytest.raises(Refused):
        parse_paper(text)
