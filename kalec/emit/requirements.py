"""What each step installs: the distributions that its code truly imports, at the versions that were chosen."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from kalec.emit.distributions import Installed, is_standard
from kalec.emit.lockfile import normalised
from kalec.findings import Findings
from kalec.model import Pipeline, Step

# A requirement as in PEP 508: name, extras, then the version, address or marker.
_REQUIREMENT: Final = r"(?s)\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(\[[^]]*\])?\s*(.*)"

# Modules whose distribution has another name; asked only for what is locked and not installed.
_OTHER_NAMES: Final[Mapping[str, str]] = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "Crypto": "pycryptodome",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "git": "gitpython",
    "google.protobuf": "protobuf",
    "grpc": "grpcio",
    "jose": "python-jose",
    "jwt": "pyjwt",
    "magic": "python-magic",
    "mpl_toolkits": "matplotlib",
    "OpenSSL": "pyopenssl",
    "PIL": "pillow",
    "pkg_resources": "setuptools",
    "psycopg2": "psycopg2-binary",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
    "yaml": "pyyaml",
}


def step_requirements(
    pipeline: Pipeline, installed: Installed, lock: Mapping[str, str] | None, findings: Findings
) -> dict[str, tuple[str, ...]]:
    """The requirements of each step, as in PEP 508: those of its `%pip install`, then those that its imports need, sorted.

    Versions are those of `lock` (by normalised name) where it has the distribution, else those installed. A distribution
    that is neither is left to the step's image and found fault with (KLC205); so is one that no index has, and a version
    that nothing states (KLC204). A name is never guessed from a module alone: anyone may have registered it.
    """
    chooser = _Chooser(installed, lock)
    chosen = {step.name: _of_step(step, chooser) for step in pipeline.steps}
    for step in pipeline.steps:
        for module in _modules(step):
            _judge_module(step, module, chooser, lock, findings)
        for requirement in chosen[step.name]:
            if _is_loose(requirement):
                message = f"{requirement!r} has no exact version, so every run may install another one"
                findings.add("KLC204", step.place, message, hint="write name==version, or give a lock file with --lock")
    return chosen


def _modules(step: Step) -> list[str]:
    return sorted(module for module in {*step.imports, *step.value_imports} if not is_standard(module))


def _of_step(step: Step, chooser: "_Chooser") -> tuple[str, ...]:
    asked = {_name(requirement): chooser.pinned(requirement) for requirement in step.requirements}
    needed = {name: f"{name}=={version}" for module in _modules(step) for name, version in chooser.for_module(module)}
    return (*asked.values(), *(requirement for name, requirement in sorted(needed.items()) if name not in asked))


class _Chooser:
    """Finds distributions and their versions; each module is looked up once."""

    def __init__(self, installed: Installed, lock: Mapping[str, str] | None) -> None:
        self.installed = installed
        self._lock = lock or {}
        self._modules: dict[str, tuple[tuple[str, str], ...]] = {}

    def for_module(self, module: str) -> tuple[tuple[str, str], ...]:
        """Name and version of each distribution to install for a module."""
        if module not in self._modules:
            self._modules[module] = tuple(self._look_up(module))
        return self._modules[module]

    def pinned(self, requirement: str) -> str:
        """A requirement with the version that is locked or installed, unless it says more than a name already."""
        match = re.fullmatch(_REQUIREMENT, requirement)
        if not match or (match[3] and not match[3].startswith(";")):
            return requirement
        version = self._version(match[1])
        return f"{match[1]}{match[2] or ''}=={version}{match[3]}" if version else requirement

    def _look_up(self, module: str) -> Iterator[tuple[str, str]]:
        providers = self.installed.providers(module)
        for distribution in providers:
            version = self._version(distribution.name)
            if version:
                yield distribution.name, version
        if not providers and not self.installed.is_installed(module):
            top = module.partition(".")[0]
            package = ".".join(module.split(".")[:2])
            name = _OTHER_NAMES.get(package) or _OTHER_NAMES.get(top) or normalised(top)
            if name in self._lock:
                yield name, self._lock[name]

    def _version(self, name: str) -> str:
        locked = self._lock.get(normalised(name))
        if locked:
            return locked
        distribution = self.installed.distribution(name)
        if not distribution or not distribution.is_from_index:
            return ""
        return distribution.version.partition("+")[0]  # an index knows 2.1 and not the build 2.1+cpu; 2.1 matches both


def _judge_module(
    step: Step, module: str, chooser: _Chooser, lock: Mapping[str, str] | None, findings: Findings
) -> None:
    """Find fault with a module that nothing is installed for, or that the lock has forgotten."""
    top = module.partition(".")[0]
    chosen = chooser.for_module(module)
    if not chosen and chooser.installed.providers(module):
        origin = "comes from a folder, an address or a repository, not from an index"
    elif not chosen and chooser.installed.is_installed(module):
        origin = "is a file beside your code, not of a distribution"
    elif not chosen:
        origin = "is not installed here" if lock is None else "is neither installed here nor in the lock file"
    else:
        for name, version in chosen:
            if lock is not None and name not in lock:
                message = f"{name} is not in the lock file; the version installed here, {version}, is taken"
                findings.add("KLC204", step.place, message)
        return
    message = f"step {step.name!r} imports {top!r}, which {origin}: its image must bring it"
    findings.add(
        "KLC205", step.place, message, hint="install it, or add it with %pip install, or name an image with it"
    )


def _name(requirement: str) -> str:
    match = re.fullmatch(_REQUIREMENT, requirement)
    return normalised(match[1]) if match else requirement


def _is_loose(requirement: str) -> bool:
    match = re.fullmatch(_REQUIREMENT, requirement)
    return bool(match) and not re.match(r"\(?\s*===?|@", match[3]) if match else False
