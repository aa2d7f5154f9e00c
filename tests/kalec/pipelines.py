"""Pipelines made by hand, for tests of what is written from them, and how that is read."""

import yaml

from kalec.model import (
    Cell,
    Metric,
    Parameter,
    ParameterType,
    Pipeline,
    PipelineSettings,
    Place,
    Read,
    Step,
    StepSettings,
    Write,
)

PLACE = Place("made.ipynb", 1)


def a_step(
    name,
    source="pass\n",
    *,
    reads=(),
    writes=(),
    after=(),
    parameters=(),
    metrics=(),
    imports=(),
    requirements=(),
    **settings,
):
    """A step of one cell. `reads` are pairs of variable and step; `metrics` are expressions, named by themselves."""
    return Step(
        name=name,
        cells=(Cell("made.ipynb", 7, "", source),),
        opening=tuple(Read(variable, step) for variable, step in reads),
        after=tuple(sorted({*after, *(step for _, step in reads)})),
        data_from=tuple(sorted({step for _, step in reads})),
        writes=tuple(Write(variable) for variable in writes),
        aliases=(),
        parameters=tuple(parameters),
        metrics=tuple(Metric(expression, expression, PLACE) for expression in metrics),
        imports=tuple(imports),
        value_imports=(),
        requirements=tuple(requirements),
        settings=StepSettings(**settings),
        place=PLACE,
    )


def a_pipeline(*steps, name="made", parameters=(), **settings):
    """A pipeline of those steps."""
    return Pipeline(
        name=name,
        description="",
        experiment="",
        parameters=tuple(parameters),
        steps=steps,
        settings=PipelineSettings(**settings),
        source="made.ipynb",
    )


def a_parameter(name, default, kind=None, *, required=False):
    """A parameter, of the type that its default has."""
    types = {bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "dict"}
    return Parameter(name, ParameterType(kind or types[type(default)]), default, required, PLACE)


def documents(text):
    """The documents of a YAML text, read by libyaml: that of Kubernetes and of KFP's server is a translation of it."""
    return list(yaml.load_all(text, yaml.CSafeLoader))
