"""What a workspace holds besides packages: numbers, photos, tables, a model, notebooks, a database; the same each time.

Everything comes from the raw words of PCG64, which numpy promises never to change, by exact arithmetic. The database is
written by the SQLite at hand, whose version is in it.
"""

import base64
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

MEGA: Final = 1_000_000
WORDS: Final = ("amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet", "joint",
                "knoll", "ledge", "mesa", "north", "orbit", "plain", "quartz", "ridge", "shore", "tide")  # fmt: skip


def write_shared(folder: Path) -> None:
    """100 MB that both workspaces have."""
    write_array(folder / "measurements.npy", walk("measurements", 5 * MEGA) / 1000.0)
    write_photos(folder / "photos", "shared", 60 * MEGA)


def write_first(folder: Path) -> None:
    """340 MB of the first workspace."""
    write_array(folder / "signals.npy", bell_curve("first signals", 18 * MEGA))
    write_photos(folder / "photos", "first", 64 * MEGA)
    write_table(folder / "trips.csv", "first trips", 24 * MEGA)
    write_columns(folder / "trips.columns", "first", 48 * MEGA)
    write_array(folder / "labels.npy", draw("first labels", 6 * MEGA) % 1000)
    write_array(folder / "model" / "checkpoint.npy", bell_curve("first model", 8 * MEGA))
    write_notebooks(folder / "notebooks", "first", 32)
    write_database(folder / "events.sqlite", "first", 200_000)
    write_log(folder / "training.log", "first", 16 * MEGA)


def write_day_later(folder: Path) -> None:
    """What of it is rewritten on the day after: the model is trained on, the table grows, a few notebooks are worked at."""
    write_table(folder / "trips.csv", "first trips", 25 * MEGA)
    write_array(folder / "model" / "checkpoint.npy", bell_curve("the model a day later", 8 * MEGA))
    write_notebooks(folder / "notebooks", "first", 4, version="a day later")


def write_second(folder: Path) -> None:
    """200 MB of the second workspace."""
    write_array(folder / "signals.npy", bell_curve("second signals", 16 * MEGA))
    write_photos(folder / "photos", "second", 48 * MEGA)
    write_table(folder / "visits.csv", "second visits", 20 * MEGA)
    write_columns(folder / "visits.columns", "second", 24 * MEGA)
    write_array(folder / "labels.npy", draw("second labels", 3 * MEGA) % 50)
    write_notebooks(folder / "notebooks", "second", 16)
    write_database(folder / "events.sqlite", "second", 100_000)


def draw(name: str, count: int) -> Any:
    """So many random 64-bit words, by a name."""
    import numpy as np

    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")
    return np.random.PCG64(seed).random_raw(count)


def noise(name: str, length: int) -> bytes:
    """So many random bytes."""
    return bytes(draw(name, -(-length // 8)).astype("<u8").tobytes()[:length])


def bell_curve(name: str, count: int) -> Any:
    """Floats of 32 bits that look normal: sums of four uniform ones."""
    return ((draw(name, count).view("<u2").reshape(-1, 4).sum(axis=1) - 131_070) / 37_837).astype("<f4")


def walk(name: str, count: int) -> Any:
    """Whole numbers, each near the one before."""
    return (draw(name, count) % 2001).astype("<i8").cumsum() - 1000 * count


def write_array(path: Path, array: Any) -> None:
    """As numpy saves it."""
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def write_photos(folder: Path, name: str, length: int) -> None:
    """Files of 40 to 360 kB that begin as JPEG does, and do not compress."""
    folder.mkdir(parents=True)
    left, number = length, 0
    while left > 0:
        size = min(left, 40_000 + int(draw(f"{name} photo {number}", 1)[0] % 320_000))
        body = noise(f"{name} photo {number} body", size)
        (folder / f"photo-{number:04}.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + body)
        left, number = left - size, number + 1


def write_table(path: Path, name: str, length: int) -> None:
    """CSV. A longer one begins with the shorter one."""
    lines, written = ["id,place,from,to,minutes,fare\n"], 0
    for number, word in enumerate(endless(name)):
        place, start, minutes = WORDS[word % 20], (word >> 8) % 86_400, (word >> 32) % 90
        lines.append(f"{number},{place},{start},{start + 60 * minutes},{minutes},{(word >> 40) % 9000 / 100:.2f}\n")
        written += len(lines[-1])
        if written >= length:
            break
    path.write_text("".join(lines), encoding="ascii")


def write_columns(path: Path, name: str, length: int) -> None:
    """Pages of columns between two marks, as column stores pack them: a dictionary, then indexes of 11 bits."""
    import numpy as np

    pages, page = [b"PAR1"], 0
    while sum(map(len, pages)) < length:
        dictionary = bell_curve(f"{name} dictionary {page}", 2048).tobytes()
        indexes = (draw(f"{name} page {page}", 700_000) % 2048).astype(">u2")
        bits = np.unpackbits(indexes.view("u1").reshape(-1, 2), axis=1)[:, 5:]
        pages += [dictionary, np.packbits(bits).tobytes()]
        page += 1
    path.write_bytes(b"".join([*pages, b"PAR1"]))


def write_notebooks(folder: Path, name: str, count: int, version: str = "") -> None:
    """Notebooks of 250 kB with text, code and pictures; in a later version the pictures are drawn anew."""
    folder.mkdir(parents=True)
    for number in range(count):
        cells = []
        for place in range(6):
            words = [WORDS[word % 20] for word in draw(f"{name} notebook {number} {place}", 80).tolist()]
            picture = noise(f"{name} notebook {number} {place} picture {version}", 30_000)
            shown = {"data": {"image/png": base64.b64encode(picture).decode()}, "output_type": "display_data"}
            source = [f"{word} = load('{word}.npy')\n" for word in words]
            cells.append({"cell_type": "code", "metadata": {}, "source": source, "outputs": [shown]})
        notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        (folder / f"notebook-{number:02}.ipynb").write_text(json.dumps(notebook, indent=1), encoding="ascii")


def write_database(path: Path, name: str, rows: int) -> None:
    """SQLite: a table of events and an index."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, at INTEGER, kind TEXT, value REAL, note TEXT)")
        notes = draw(f"{name} events", rows).tolist()
        connection.executemany(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
            (
                (number, 1_700_000_000 + 7 * number, WORDS[note % 20], (note >> 32) / 1000, f"{note:016x} " * 4)
                for number, note in enumerate(notes)
            ),
        )
        connection.execute("CREATE INDEX by_kind ON events (kind, at)")
    connection.close()


def write_log(path: Path, name: str, length: int) -> None:
    """Lines of a training run."""
    lines, written = [], 0
    for step, word in enumerate(endless(name)):
        lines.append(f"step {step:07} loss {word % 10_000_000 / 1e7:.7f} rate 3e-4 host {WORDS[word >> 60]}\n")
        written += len(lines[-1])
        if written >= length:
            break
    path.write_text("".join(lines), encoding="ascii")


def endless(name: str) -> Iterator[int]:
    """Random 64-bit words without an end."""
    part = 0
    while True:
        yield from draw(f"{name} {part}", 50_000).tolist()
        part += 1
