"""What a command line loads beside the option parser. Start-up is part of the product: each of these lists is held."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commandtree import parameters

from kalec.commands.words import _PlainParameter

ROOT = Path(__file__).parents[2]

BORDER = {
    *("engine", "engine.clock", "engine.device", "engine.device.naming", "engine.errors", "engine.units"),
    "engine.values",
    *("kalec", "kalec.commands", "kalec.commands.words", "kalec.stdout"),
    *("rokctl", "rokctl.cli", "rokctl.names", "rokctl.options", "rokctl.render", "rokctl.signals", "rokctl.wiring"),
}
A_LISTING_IN_A_DIRECTORY = BORDER | {
    *("rokctl.snapshot", "rokctl.push", "engine.config", "engine.extent", "engine.pages", "engine.pagecache"),
    "engine.native",
    *(f"engine.device.{name}" for name in ("base", "pools", "directory", "folder", "records", "rules", "inuse")),
    *(f"engine.device.{name}" for name in ("blockio", "filecopy", "fiemap")),
}
A_SNAPSHOT_ON_LVM = {
    *("rokctl.snapshot", "rokctl.push", "engine.config", "engine.extent", "engine.hand"),
    *(f"engine.device.{name}" for name in ("base", "pools", "rules", "dm", "mounts", "node", "thin", "tool", "lvm")),
    *(f"engine.device.lvm{name}" for name in ("active", "look", "report", "space", "tags", "view")),
}
# Beyond what `import typer` brings. With a configuration file, yaml comes on top.
FOREIGN = {"typer", "json", "_json", "ctypes", "_ctypes", "mmap", "struct", "_struct"}


def modules_after(script: str, *words: str, world: dict[str, str]) -> set[str]:
    report = f"import sys\n{script}\nprint(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", report, *words]
    environment = {**os.environ, **world}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def loaded_by(*words: str, world: dict[str, str]) -> set[str]:
    """The modules that a command loads beyond those of a bare typer program."""
    ran = modules_after("from rokctl.cli import run; assert run(sys.argv[1:]) == 0", *words, world=world)
    return ran - modules_after("import typer", world=world)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "ours"),
    [
        (["--version"], BORDER),
        (["--help"], BORDER),
        (["snapshot", "list", "tank"], A_LISTING_IN_A_DIRECTORY),
    ],
    ids=["version", "help", "list"],
)
def test_a_command_loads_what_it_needs_and_nothing_else(rokctl, world, tmp_path, words, ours):
    rokctl("pool", "create", "tank", "--dir", tmp_path / "tank")
    rokctl("volume", "create", "tank/vol", "--size", "1M")
    rokctl("snapshot", "create", "tank/vol@one")

    loaded = loaded_by(*words, world=world)

    own = {name for name in loaded if name.partition(".")[0] in ("engine", "kalec", "rokctl")}
    assert own == ours
    assert {name.partition(".")[0] for name in loaded - own} <= FOREIGN


@pytest.mark.slow
def test_to_take_a_snapshot_on_lvm_nothing_is_loaded_that_reads_volumes_or_knows_other_pools():
    modules = "rokctl.cli, rokctl.snapshot, engine.config, engine.device.pools, engine.device.lvm"
    loaded = modules_after(f"import {modules}", world={}) - modules_after("import rokctl.cli", world={})

    own = {name for name in loaded if name.partition(".")[0] in ("engine", "kalec", "rokctl")}
    assert own == A_SNAPSHOT_ON_LVM
    assert loaded - own <= {"struct", "_struct"}


def test_no_option_of_any_command_is_left_to_typer_which_would_load_pydantic():
    left = [
        f"{words} {one.name}" for words, one in parameters() if not isinstance(one.get_runtime_param(), _PlainParameter)
    ]
    assert left == []


@pytest.mark.slow
@pytest.mark.parametrize(("noun", "threads"), [("repo", "1"), ("kalec", None)])
def test_numpy_gets_one_thread_but_in_a_notebook_all_that_it_wants(noun, threads):
    script = f"""
import os
from rokctl.cli import run
run(["{noun}", "--help"])
assert os.environ.get("OPENBLAS_NUM_THREADS") == {threads!r}
import numpy
assert len(os.listdir("/proc/self/task")) == 1 or {threads is None}
"""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, check=True)


@pytest.mark.slow
def test_a_repository_is_unlocked_without_what_is_loaded_meanwhile():
    unlocking = "import engine.repo.unlock, engine.repo.derivation"
    stretching = modules_after(f"{unlocking}; engine.repo.derivation.load_stretching()", world={})

    assert "nacl.bindings" in stretching
    assert not {"numpy", "cryptography", "engine.repo.repository"} & stretching
    assert "nacl" not in modules_after(unlocking, world={})


@pytest.mark.slow
def test_with_a_generated_key_file_nothing_is_loaded_that_stretches_a_passphrase(rokctl, world, tmp_path):
    rokctl("repo", "key", "generate", tmp_path / "key")
    assert rokctl("--key-file", tmp_path / "key", "repo", "init").code == 0

    assert "nacl" not in loaded_by("--key-file", str(tmp_path / "key"), "version", "list", world=world)


BEFORE_THE_KEY = """
import sys, rokctl.wiring
from rokctl.cli import run

def stop(*_):
    raise SystemExit

rokctl.wiring.Session._open = stop
run(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["restore", "p/v", "--to-file", "file"],
        ["repo", "check", "--read-data"],
        ["repo", "check", "--read-data=5%"],
        ["repo", "repair"],
        ["repo", "gc"],
        ["repo", "info"],
        ["repo", "key", "list"],
        ["version", "list"],
        ["version", "show", "p/v"],
        ["version", "verify", "p/v"],
        ["version", "diff", "p/v@1", "p/v@2"],
        ["version", "tag", "p/v", "--add", "kept"],
        ["version", "forget", "p/v", "--keep-last", "1", "--keep-tag", "kept"],
        ["repo", "copy", "--to", "elsewhere"],
    ],
    ids=" ".join,
)
def test_what_works_with_maps_is_loaded_while_the_key_is_derived_and_not_before(rokctl, world, words):
    assert rokctl("repo", "init", "--no-encryption").code == 0
    loaded = modules_after(BEFORE_THE_KEY.strip(), *words, world=world)
    assert "rokctl.wiring" in loaded, "the command got so far"
    assert not loaded & {"numpy", "engine.repo.repository"}
