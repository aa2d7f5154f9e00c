"""Stores as a node with few rights sees them: one that may only read, and one that may only create."""

from engine.errors import Refused
from engine.store.base import NoSuchBlob
from engine.store.faulty import Call, Fault, Faulty, Moment


def read_only(store):
    """The store for who may read and list, and nothing else."""
    return Faulty(store, lambda call: _denied(call) if call.writes else None)


def append_only(store):
    """The store for who may read, list and create, but neither overwrite nor delete."""

    def plan(call: Call) -> Fault | None:
        overwrites = call.operation == "put" and _holds(store, call.key)
        return _denied(call) if overwrites or call.operation == "delete" else None

    return Faulty(store, plan)


def _denied(call: Call) -> Fault:
    return Fault(Moment.BEFORE, Refused(f"cannot {call.operation} {call.key}: the server answered AccessDenied (403)"))


def _holds(store, key) -> bool:
    try:
        store.stat(key)
    except NoSuchBlob:
        return False
    return True
