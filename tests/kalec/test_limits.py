"""What Kubeflow Pipelines cannot hold is found when compiling."""

import math

import pytest
from pipelines import a_parameter, a_pipeline, a_step

from kalec.emit.limits import check
from kalec.emit.options import EmitOptions, SharedVolume
from kalec.findings import Findings
from kalec.model import Volume, VolumeKind


def found(pipeline, **options):
    findings = Findings()
    check(pipeline, EmitOptions(**options), findings)
    return [finding.code for finding in findings.sorted()]


@pytest.mark.parametrize(
    "default", [math.nan, [math.inf], 2**53 + 1, {"k": -(2**60)}, "\ud800", {"\udfff": 1}, "{{$.inputs}}"]
)
def test_a_default_that_would_arrive_as_another_value_is_an_error(default):
    assert found(a_pipeline(a_step("a"), parameters=[a_parameter("p", default)])) == ["KLC301"]


@pytest.mark.parametrize("default", [2**53, -(2**53), 1e300, "ü{{x}}", [None, {}], True])
def test_a_default_that_arrives_as_it_is_is_fine(default):
    assert found(a_pipeline(a_step("a"), parameters=[a_parameter("p", default)])) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"limits": {"cpu": "two"}},
        {"limits": {"nvidia.com/gpu": "1", "amd.com/gpu": "1"}},
        {"requests": {"nvidia.com/gpu": "1"}},
        {"requests": {"memory": "-1Gi"}},
    ],
)
def test_resources_that_kfp_cannot_ask_for_are_an_error(settings):
    assert found(a_pipeline(a_step("a", **settings))) == ["KLC302"]


@pytest.mark.parametrize("kind", [VolumeKind.CLONE, VolumeKind.PERSISTENT, VolumeKind.NEW])
def test_a_claim_that_is_made_needs_a_size(kind):
    assert found(a_pipeline(a_step("a"), volumes=(Volume("v", kind, "/v"),))) == ["KLC303"]
    assert found(a_pipeline(a_step("a"), volumes=(Volume("v", VolumeKind.EXISTING, "/v"),))) == []


def test_a_step_that_no_command_line_can_hold_is_an_error():
    assert found(a_pipeline(a_step("a", "x = 1  # padding\n" * 8000))) == ["KLC304"]


def test_a_pipeline_holds_sixty_short_steps_and_one_that_kubernetes_may_not_hold_is_warned_of():
    assert found(a_pipeline(*(a_step(f"s{number}") for number in range(60)))) == []
    assert found(a_pipeline(*(a_step(f"s{number}") for number in range(80)))) == ["KLC306"]


def test_snapshots_and_caching_that_are_lost_are_noted():
    assert found(a_pipeline(a_step("a"), autosnapshot=True)) == ["KLC305"]
    assert found(a_pipeline(a_step("a", enable_caching=True)), shared=SharedVolume()) == ["KLC305"]
