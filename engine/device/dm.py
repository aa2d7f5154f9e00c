"""Device-mapper, by ioctl on /dev/mapper/control: look at devices, message them, suspend and resume them.

The structures are those of the kernel's `linux/dm-ioctl.h`, interface version 4. Devices are named by their UUID: unlike
a name it needs no mangling, and it survives a rename.

A suspend waits for the I/O in flight, a message and a status for a commit: such a call goes through ctypes, which lets other
threads run meanwhile. To look at a device or its table takes no time, and a command that does nothing else starts faster
without it.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from engine.errors import Busy, Failed, NotFound, RokError
from engine.values import dataclass

CONTROL: Final = "/dev/mapper/control"

_HEADER: Final = struct.Struct("=3IIIIiIIIQ128s129s7x")
_TARGET: Final = struct.Struct("=QQiI16s")
_DEV_SUSPEND: Final = 6
_DEV_STATUS: Final = 7
_TABLE_STATUS: Final = 12
_TARGET_MESSAGE: Final = 14
_READ_ONLY: Final = 1 << 0
_SUSPEND: Final = 1 << 1
_STATUS_TABLE: Final = 1 << 4
_BUFFER_FULL: Final = 1 << 8
_ROOM: Final = 16 << 10


@dataclass(frozen=True, slots=True)
class Device:
    """A device-mapper device."""

    name: str
    uuid: str
    open_count: int
    suspended: bool
    read_only: bool

    @property
    def path(self) -> str:
        """Its node in /dev."""
        return f"/dev/mapper/{self.name}"


@dataclass(frozen=True, slots=True)
class Target:
    """One line of a table, or of a status."""

    start_sectors: int
    length_sectors: int
    type: str
    text: str


@dataclass(frozen=True, slots=True)
class Address:
    """How to find a device, and what to call it in a message."""

    uuid: str
    called: str


class Control:
    """The open control device; any number of threads may use it.

    Every call raises NotFound when the device is not there (inactive), Busy or Failed when the kernel refuses.
    """

    def __init__(self, file: int) -> None:
        self._file = file

    def find(self, address: Address) -> Device | None:
        """The device, or None when it is not active."""
        try:
            return _device(self._call(_DEV_STATUS, "look at", address))
        except NotFound:
            return None

    def find_behind(self, path: str) -> Device | None:
        """The device behind a node in /dev, or None when that is none of device-mapper's."""
        number = Path(path).stat().st_rdev  # encoded as the kernel does it, for every number that device-mapper gives
        try:
            return _device(self._call(_DEV_STATUS, "look at", Address("", path), number=number))
        except NotFound:
            return None

    def status(self, address: Address) -> list[Target]:
        """What the targets of a device say of themselves. A thin pool commits its metadata first."""
        return self._targets("read the status of", address, 0)

    def table(self, address: Address) -> list[Target]:
        """The table that the device runs."""
        return self._targets("read the table of", address, _STATUS_TABLE)

    def message(self, address: Address, text: str) -> None:
        """Send a message to the target at sector 0, and wait until it is carried out."""
        body = struct.pack("=Q", 0) + text.encode() + b"\0"
        self._call(_TARGET_MESSAGE, f"send {text!r} to", address, body=body)

    def suspend(self, address: Address) -> None:
        """Freeze the filesystem on the device, write out what is in flight, and let new I/O wait."""
        self._call(_DEV_SUSPEND, "suspend", address, flags=_SUSPEND)

    def resume(self, address: Address) -> None:
        """Let I/O go on and thaw the filesystem; a device that runs is left alone."""
        self._call(_DEV_SUSPEND, "resume", address)

    def _targets(self, verb: str, address: Address, flags: int) -> list[Target]:
        answer = self._call(_TABLE_STATUS, verb, address, flags=flags)
        header = _HEADER.unpack_from(answer)
        base = position = header[4]
        targets = []
        for _ in range(header[5]):
            start, length, _state, after, kind = _TARGET.unpack_from(answer, position)
            text_start = position + _TARGET.size
            text = bytes(answer[text_start : answer.index(0, text_start)]).decode()
            targets.append(Target(start, length, _string(kind), text.strip()))
            position = base + after
        return targets

    def _call(
        self, command: int, verb: str, address: Address, *, number: int = 0, flags: int = 0, body: bytes = b""
    ) -> bytearray:
        room = max(_ROOM, len(body))
        while True:
            argument = bytearray(_HEADER.size + room)
            size, start = len(argument), _HEADER.size
            _HEADER.pack_into(argument, 0, 4, 0, 0, size, start, 0, 0, flags, 0, 0, number, b"", address.uuid.encode())
            argument[start : start + len(body)] = body
            try:
                _ioctl(self._file, command, argument, may_wait=command != _DEV_STATUS and not flags & _STATUS_TABLE)
            except OSError as error:
                raise _explained(verb, address, error) from error
            if not _HEADER.unpack_from(argument)[7] & _BUFFER_FULL:
                return argument  # only a table fills the room, so nothing is done twice
            room *= 4


def is_available() -> bool:
    """Whether this process can speak with device-mapper. The node may be there when the driver is not."""
    try:
        os.close(os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


@contextmanager
def control() -> Iterator[Control]:
    """Open device-mapper. Raises Failed where the kernel has none, or does not let us."""
    try:
        file = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        hint = "run as root" if error.errno in (errno.EACCES, errno.EPERM) else "load it: modprobe dm-mod"
        raise Failed(f"cannot open {CONTROL}: {error.strerror}", hint=hint) from error
    try:
        yield Control(file)
    finally:
        os.close(file)


def _ioctl(file: int, command: int, argument: bytearray, *, may_wait: bool) -> None:
    request = 3 << 30 | _HEADER.size << 16 | 0xFD << 8 | command
    if may_wait:
        from engine.native import ioctl_into

        ioctl_into(file, request, argument)
    else:
        fcntl.ioctl(file, request, argument)


def _device(answer: bytearray) -> Device:
    fields = _HEADER.unpack_from(answer)
    flags = fields[7]
    return Device(
        name=_string(fields[11]),
        uuid=_string(fields[12]),
        open_count=fields[6],
        suspended=bool(flags & _SUSPEND),
        read_only=bool(flags & _READ_ONLY),
    )


def _string(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode()


def _explained(verb: str, address: Address, error: OSError) -> RokError:
    kind = {errno.ENXIO: NotFound, errno.EBUSY: Busy}.get(error.errno or 0, Failed)
    return kind(f"cannot {verb} {address.called}: {error.strerror}")
