"""What a user may choose about the pipeline that is written, beyond what the notebook says."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from kalec.model import NOTHING

VALUES_SIZE: Final = "10Gi"


class SharedVolume(NamedTuple):
    """Values travel on a volume that every step mounts, as in Kale, instead of as KFP artifacts.

    `name` is one of the notebook's volumes; with "" a claim is made for each run, and removed when all steps are done.
    """

    name: str = ""
    size: str = VALUES_SIZE
    storage_class: str = ""


class EmitOptions(NamedTuple):
    """How a pipeline is written."""

    requirements: Mapping[str, tuple[str, ...]] = NOTHING  # by step: what it installs, as in PEP 508
    install: bool = True  # False: the images hold all that the steps need, KFP too
    shared: SharedVolume | None = None
    uncached: frozenset[str] = frozenset()  # steps that run every time, whatever the notebook says
    image_pull_policy: str = ""  # Always, IfNotPresent, Never; "" is the cluster's default
    image_pull_secrets: tuple[str, ...] = ()
    tolerations: tuple["Toleration", ...] = ()


class Toleration(NamedTuple):
    """A taint of nodes that the steps bear. An empty `key` is every taint, an empty `effect` every effect."""

    key: str = ""
    value: str = ""
    effect: str = ""
