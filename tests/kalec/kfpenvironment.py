"""The environment that has kfp, apart from the one of the tests: scripts/test makes it."""

import functools
import json
import os
import subprocess
from pathlib import Path

import pytest
from pipelines import documents

SIDE = Path(__file__).with_name("kfpside.py")
DEFAULT = Path(__file__).parents[2] / ".venv-kfp" / "bin" / "python"


@functools.cache
def kfp_python() -> Path:
    """The interpreter of that environment; a test that wants it is skipped where there is none, but never in CI."""
    python = Path(os.environ.get("KALEC_KFP_PYTHON", DEFAULT))
    if not python.exists():
        reason = f"there is no kfp at {python}: scripts/test makes it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return python


def site_packages() -> Path:
    """Where the packages of that environment are."""
    return next(kfp_python().parents[1].glob("lib/python3.*/site-packages"))


def kfp_errors(folder: Path) -> dict[str, list[str]]:
    """What KFP has against each compiled pipeline in a folder, by the name of the file; a faultless one is not there."""
    files = sorted(folder.glob("*.yaml"))
    assert files
    answer = json.loads(_side("check", *map(str, files)).splitlines()[-1])
    return {file.stem: answer[str(file)] for file in files if answer[str(file)]}


def without_programs(text: str) -> str:
    """A compiled pipeline without the programs of its steps: they are long, and kfp's YAML reader slow."""
    first, *rest = documents(text)
    for executor in first["deploymentSpec"]["executors"].values():
        executor["container"]["command"] = ["left out"]
    return "---\n".join(json.dumps(document) + "\n" for document in (first, *rest))


def run_with_kfp(
    file: Path, root: Path, *, environment: dict[str, str] | None = None, **arguments: object
) -> dict[str, dict[str, dict[str, object]]]:
    """Run a compiled pipeline with kfp.local; the metadata of each artifact of each task."""
    return json.loads(
        _side("run", str(file), str(root), json.dumps(arguments), environment=environment).splitlines()[-1]
    )


def _side(*arguments: str, environment: dict[str, str] | None = None) -> str:
    python = kfp_python()
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"  # kfp.local starts the first python3 on it
    environment = {**os.environ, "PATH": path, "PIP_NO_INDEX": "1", **(environment or {})}
    done = subprocess.run([python, SIDE, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
