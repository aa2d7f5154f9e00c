"""The keys of a repository: any number of them, one master key, and never none."""

from datetime import timedelta

import pytest

from engine.device.base import Outcome
from engine.errors import Busy, Damaged, NotFound, Refused, WrongKey
from engine.ops.keys import Keys, KeyState
from engine.repo import keyblob
from engine.repo.derivation import TODAY, CannotDerive, Scrypt
from engine.repo.keyblob import KeyKind, generate_key_file, key_file_secret, passphrase_secret, wrap_master
from engine.repo.paper import PaperKey
from engine.repo.repository import initialise, open_repository
from engine.store.faulty import CRASH_BEFORE, Crashed, Faulty
from engine.store.memory import MemoryStore
from tests.counting_entropy import CountingEntropy
from tests.repositories import CLOCK, new_repository

pytestmark = pytest.mark.slow  # each key derivation takes a tenth of a second

FIRST, SECOND = passphrase_secret("first"), passphrase_secret("second")
FILE = key_file_secret(bytes(range(32)))
GENERATED, ANOTHER = (key_file_secret(generate_key_file(CountingEntropy(seed))) for seed in (100, 101))


@pytest.fixture
def store():
    return MemoryStore(CLOCK)


@pytest.fixture
def keys(store):
    """The keys of a new repository, which was made with FIRST."""
    return Keys(initialise(store, FIRST, clock=CLOCK, entropy=CountingEntropy(1)))


def opened(store, secret, seed=2):
    return open_repository(store, lambda: secret, clock=CLOCK, entropy=CountingEntropy(seed))


def likely_opened(store, secret):
    return open_repository(store, lambda: secret, clock=CLOCK, entropy=CountingEntropy(2), likely=secret.key_name)


def lack_scrypt(monkeypatch):
    """Let this machine lack the memory for scrypt."""
    derive = keyblob._derive

    def lacking(secret, salt, derivation):
        if isinstance(derivation, Scrypt):
            raise CannotDerive("no memory")
        return derive(secret, salt, derivation)

    monkeypatch.setattr(keyblob, "_derive", lacking)


def add_cheap_key(store, repository, secret, name=None):
    """A key as a program of long ago might have written it: weak."""
    name = name or repository.entropy(16).hex()
    blob = wrap_master(
        repository.keyring,
        secret,
        name=name,
        label="old",
        repository_id=repository.id,
        created=CLOCK.now() - timedelta(days=4000),
        entropy=repository.entropy,
        derivation=Scrypt(n=16, r=1, p=1),
    )
    store.create(f"keys/{name}", blob)
    return name


def test_a_passphrase_and_a_key_file_open_the_same_repository(store, keys):
    for secret, label in ((SECOND, "people"), (FILE, "nodes")):
        made = keys.add(secret, label=label)
        assert (made.outcome, made.item.label, made.item.kind) == (Outcome.CREATED, label, secret.kind)
        there = opened(store, secret)
        assert there.key == made.item.id
        assert there.keyring.master == keys.paper().master

    assert [(entry.kind, entry.label, entry.in_use) for entry in Keys(opened(store, SECOND)).entries()] == [
        (KeyKind.PASSPHRASE, "", False),
        (KeyKind.PASSPHRASE, "people", True),
        (KeyKind.FILE, "nodes", False),
    ]


def test_a_key_that_cannot_be_derived_here_keeps_no_other_one_from_opening(store, keys, monkeypatch):
    own = keys._repository.key
    add_cheap_key(store, keys._repository, FIRST, name="00" * 16)  # they are tried in the order of their names
    lack_scrypt(monkeypatch)
    assert opened(store, FIRST).key == own
    store.delete(f"keys/{own}")
    with pytest.raises(CannotDerive):
        opened(store, FIRST)


def test_a_key_that_was_changed_while_a_person_typed_opens(store, keys):
    def ask():
        keys.change(SECOND)
        return SECOND

    there = open_repository(store, ask, clock=CLOCK, entropy=CountingEntropy(2))
    assert there.keyring.master == keys.paper().master


def test_whether_a_secret_opens_a_key_is_not_guessed_where_it_cannot_be_derived(store, keys, monkeypatch):
    add_cheap_key(store, keys._repository, SECOND)
    lack_scrypt(monkeypatch)
    with pytest.raises(CannotDerive):
        keys.add(SECOND)
    assert len(keys.entries()) == 2


def test_opening_derives_for_no_key_of_another_kind(store, keys, monkeypatch):
    for number in range(3):
        add_cheap_key(store, keys._repository, key_file_secret(bytes([number])))
    tried = []
    derive = keyblob._derive

    def counting(secret, salt, derivation):
        tried.append(derivation)
        return derive(secret, salt, derivation)

    monkeypatch.setattr(keyblob, "_derive", counting)
    with pytest.raises(WrongKey):
        opened(store, SECOND)
    assert tried == [TODAY]


def test_of_a_generated_key_file_its_own_key_is_read_and_no_other(store, keys):
    for secret in (FILE, ANOTHER, GENERATED):
        keys.add(secret)
    reads = Faulty(store)
    there = likely_opened(reads, GENERATED)
    assert there.key == GENERATED.key_name
    assert there.keyring.master == keys.paper().master
    assert {call.key for call in reads.calls} == {"repository", f"keys/{GENERATED.key_name}"}


def test_a_generated_key_file_is_tried_first_on_its_own_key(store, keys, monkeypatch):
    keys.add(GENERATED)
    for number in range(3):
        add_cheap_key(store, keys._repository, key_file_secret(bytes([number])), name=f"{number:032x}")
    derive = keyblob._derive

    def never_stretching(secret, salt, derivation):
        assert not isinstance(derivation, Scrypt)
        return derive(secret, salt, derivation)

    monkeypatch.setattr(keyblob, "_derive", never_stretching)
    assert opened(store, GENERATED).key == GENERATED.key_name


@pytest.mark.parametrize("hurt", [False, True], ids=["gone", "damaged"])
def test_another_key_of_a_generated_key_file_opens_where_its_own_does_not(store, keys, hurt):
    other = add_cheap_key(store, keys._repository, GENERATED)  # by a program that knew no generated ones
    if hurt:
        store.put(f"keys/{GENERATED.key_name}", b"{}")
    assert likely_opened(store, GENERATED).key == other


def test_a_generated_key_file_has_one_key_however_often_it_is_added(store, keys):
    made = keys.add(GENERATED, label="node")
    assert (made.outcome, made.item.id, made.item.derivation) == (Outcome.CREATED, GENERATED.key_name, "blake3")
    assert keys.add(GENERATED).outcome is Outcome.ALREADY_THERE

    def someone_else_first(call):
        if call.operation == "create" and call.key == f"keys/{ANOTHER.key_name}":
            assert Keys(opened(store, FIRST)).add(ANOTHER).outcome is Outcome.CREATED
        return None

    me = Keys(opened(Faulty(store, someone_else_first), FIRST))
    late = me.add(ANOTHER, label="mine")
    assert (late.outcome, late.item.id, late.item.label) == (Outcome.ALREADY_THERE, ANOTHER.key_name, "")
    assert len(keys.entries()) == 3


def damage(store, keys):
    name = keys.add(GENERATED).item.id
    store.put(f"keys/{name}", store.get(f"keys/{name}")[:-1])


def put_a_key_of_another_repository(store, keys):
    other = MemoryStore(CLOCK)
    initialise(other, GENERATED, clock=CLOCK, entropy=CountingEntropy(9))
    store.put(f"keys/{GENERATED.key_name}", other.get(f"keys/{GENERATED.key_name}"))


@pytest.mark.parametrize("take_the_name", [damage, put_a_key_of_another_repository])
def test_where_what_does_not_open_has_the_name_of_a_generated_key_file_its_key_gets_another(store, keys, take_the_name):
    take_the_name(store, keys)
    way_in = Keys(opened(store, keys.paper()))
    made = way_in.add(GENERATED)
    assert (made.outcome, made.item.id == GENERATED.key_name) == (Outcome.CREATED, False)
    assert likely_opened(store, GENERATED).key == made.item.id


@pytest.mark.parametrize("take_the_name", [damage, put_a_key_of_another_repository])
def test_a_change_relies_on_no_key_that_does_not_open(store, keys, take_the_name):
    take_the_name(store, keys)
    new = keys.change(GENERATED)
    assert likely_opened(store, GENERATED).key == new.id
    assert likely_opened(store, GENERATED).keyring.master == keys.paper().master


def test_a_repository_whose_making_died_at_any_call_is_made_again_with_the_same_generated_key_file():
    undisturbed = Faulty(MemoryStore(CLOCK))
    initialise(undisturbed, GENERATED, clock=CLOCK, entropy=CountingEntropy(1))
    for number in [call.number for call in undisturbed.calls]:
        store = MemoryStore(CLOCK)
        dying = Faulty(store, lambda call, number=number: CRASH_BEFORE if call.number == number else None)
        with pytest.raises(Crashed):
            initialise(dying, GENERATED, clock=CLOCK, entropy=CountingEntropy(1))
        made = initialise(store, GENERATED, clock=CLOCK, entropy=CountingEntropy(2))
        assert likely_opened(store, GENERATED).keyring.master == made.keyring.master


def test_a_key_that_was_added_anew_while_it_was_put_back_stays(store, keys):
    mine, theirs = keys.entries()[0].id, keys.add(GENERATED).item.id
    other = Keys(opened(store, GENERATED))

    def meanwhile(call):
        if call.operation == "delete" and call.key == f"keys/{theirs}" and len([*store.list("keys/")]) == 2:
            assert other.remove(mine) == (mine, Outcome.REMOVED)
        if call.operation == "create" and call.key == f"keys/{theirs}":
            Keys(opened(store, keys.paper())).add(GENERATED)
        return None

    me = Keys(opened(Faulty(store, meanwhile), FIRST))
    with pytest.raises(Busy, match="put back"):
        me.remove(theirs)
    assert opened(store, GENERATED).key == theirs


def test_a_change_to_the_generated_key_file_in_use_leaves_its_key(store, keys):
    keys.add(GENERATED)
    there = Keys(opened(store, GENERATED))
    assert there.change(GENERATED).id == GENERATED.key_name
    assert opened(store, GENERATED).key == GENERATED.key_name
    new = there.change(ANOTHER)
    assert new.id == ANOTHER.key_name
    with pytest.raises(WrongKey):
        opened(store, GENERATED)


def test_a_repository_may_begin_with_a_generated_key_file(store):
    made = initialise(store, GENERATED, clock=CLOCK, entropy=CountingEntropy(1))
    assert made.key == opened(store, GENERATED).key == GENERATED.key_name


def test_a_secret_that_opens_already_is_not_added_again(store, keys):
    made = keys.add(FIRST, label="again")
    assert (made.outcome, made.item.label) == (Outcome.ALREADY_THERE, "")
    assert len(keys.entries()) == 1


def test_a_key_that_was_removed_opens_no_more_and_is_already_gone(store, keys):
    key = keys.add(SECOND).item.id
    assert keys.remove(key[:4]) == (key, Outcome.REMOVED)
    assert keys.remove(key) == (key, Outcome.ALREADY_GONE)
    with pytest.raises(NotFound, match="has no key"):
        keys.remove(key[:8])
    with pytest.raises(WrongKey):
        opened(store, SECOND)
    assert opened(store, FIRST).key is not None


def test_the_last_key_and_the_one_in_use_stay(store, keys):
    [mine] = keys.entries()
    with pytest.raises(Refused, match="last"):
        keys.remove(mine.id)
    keys.add(SECOND)
    with pytest.raises(Refused, match="in use"):
        keys.remove(mine.id)
    assert len(keys.entries()) == 2


def test_two_that_remove_each_other_s_key_at_once_leave_one(store, keys):
    mine, theirs = keys.entries()[0].id, keys.add(SECOND).item.id
    other = Keys(opened(store, SECOND))

    def first_the_other(call):
        if call.operation == "delete" and len([*store.list("keys/")]) == 2:
            assert other.remove(mine) == (mine, Outcome.REMOVED)
        return None

    me = Keys(opened(Faulty(store, first_the_other), FIRST))
    with pytest.raises(Busy, match="put back"):
        me.remove(theirs)
    assert opened(store, SECOND).key == theirs


def test_a_reference_that_fits_several_or_is_short_is_refused(keys):
    for reference in ("", "abc"):
        with pytest.raises(Refused, match="does not name one key"):
            keys.remove(reference)


def test_a_change_puts_the_new_key_in_place_of_the_old_one(store, keys):
    old = keys.entries()[0]
    keys.add(FILE, label="nodes")
    new = keys.change(SECOND)
    assert new.id != old.id
    assert {entry.id for entry in keys.entries()} >= {new.id}
    assert old.id not in {entry.id for entry in keys.entries()}
    assert opened(store, SECOND).keyring.master == opened(store, FILE).keyring.master
    with pytest.raises(WrongKey):
        opened(store, FIRST)


@pytest.mark.slow
def test_a_change_that_dies_at_any_call_leaves_a_key_and_is_taken_up_again(keys):
    def repository_of_two():
        copy = MemoryStore(CLOCK)
        for blob in keys._store.list(""):
            copy.put(blob.key, keys._store.get(blob.key))
        return copy

    undisturbed = Faulty(repository_of_two())
    Keys(opened(undisturbed, FIRST)).change(SECOND)
    writes = [call.number for call in undisturbed.calls if call.writes]
    assert len(writes) == 2
    for number in writes:
        copy = repository_of_two()
        dying = Faulty(copy, lambda call, number=number: CRASH_BEFORE if call.number == number else None)
        with pytest.raises(Crashed):
            Keys(opened(dying, FIRST)).change(SECOND)
        again = Keys(opened(copy, FIRST, seed=number + 10))
        assert len(again.entries()) == (1 if number == writes[0] else 2)
        again.change(SECOND)
        assert [entry.id for entry in Keys(opened(copy, SECOND)).entries()] == [opened(copy, SECOND).key]


def test_a_weak_key_is_said_to_be_weak_and_a_change_to_the_same_secret_renews_it(store, keys):
    weak = add_cheap_key(store, keys._repository, SECOND)
    [entry] = [entry for entry in keys.entries() if entry.id == weak]
    assert (entry.state, entry.label, entry.derivation) == (KeyState.WEAK, "old", "scrypt n=16 r=1 p=1")
    assert keys.entries()[0].id == weak, "the oldest first"

    there = opened(store, SECOND)
    assert there.key == weak
    new = Keys(there).change(SECOND)

    assert (new.state, new.label, new.derivation) == (KeyState.GOOD, "old", "argon2id m=65536 t=2 p=1")
    assert opened(store, SECOND).key == new.id


def test_a_damaged_key_is_listed_as_such_and_can_be_removed_and_the_others_open(store, keys):
    hurt = keys.add(SECOND, label="x").item.id
    store.put(f"keys/{hurt}", store.get(f"keys/{hurt}").replace(b'"p":1', b'"p":2'))
    assert [(entry.id, entry.state, entry.label) for entry in keys.entries()][-1] == (hurt, KeyState.DAMAGED, "")
    with pytest.raises(Damaged, match=hurt):
        opened(store, SECOND)
    assert opened(store, FIRST).key is not None
    assert keys.remove(hurt) == (hurt, Outcome.REMOVED)
    with pytest.raises(WrongKey):
        opened(store, SECOND)


def test_without_any_key_the_paper_copy_is_the_way_back(store, keys):
    paper = keys.paper()
    for blob in [*store.list("keys/")]:
        store.delete(blob.key)
    with pytest.raises(Damaged, match="no key left") as caught:
        opened(store, FIRST)
    assert "--from-paper" in caught.value.hint

    way_back = Keys(opened(store, paper))
    assert way_back.add(SECOND).outcome is Outcome.CREATED
    assert opened(store, SECOND).key is not None


def test_who_came_in_by_paper_has_no_key_to_change_or_to_rely_on(store, keys):
    way_in = Keys(opened(store, keys.paper()))
    with pytest.raises(Refused, match="paper"):
        way_in.change(SECOND)
    with pytest.raises(Refused, match="paper"):
        way_in.remove(keys.entries()[0].id)
    assert len(way_in.entries()) == 1


def test_a_paper_copy_of_another_repository_is_a_wrong_key(store, keys):
    other = PaperKey("00" * 16, keys.paper().master)
    with pytest.raises(WrongKey, match="paper copy is of repository 0000"):
        opened(store, other)


def test_a_paper_copy_with_another_key_does_not_open(store, keys):
    with pytest.raises(Damaged):
        opened(store, PaperKey(keys.paper().repository_id, bytes(32)))


def test_a_repository_without_encryption_has_no_keys():
    with pytest.raises(Refused, match="not encrypted"):
        Keys(new_repository(MemoryStore(CLOCK)))
