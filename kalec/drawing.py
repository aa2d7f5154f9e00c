"""Drawings of a pipeline: Mermaid, DOT, and SVG with a layered layout of its own."""

from collections.abc import Iterator
from html import escape
from typing import Final, NamedTuple

from kalec.model import Pipeline


class Edge(NamedTuple):
    """That one step waits for another, and the variables that come along."""

    source: str
    target: str
    names: tuple[str, ...]

    @property
    def label(self) -> str:
        """The variables, the first few of many."""
        shown = ", ".join(self.names[:4])
        return f"{shown}, +{len(self.names) - 4}" if len(self.names) > 4 else shown


def edges(pipeline: Pipeline) -> tuple[Edge, ...]:
    """All edges, in the order of the steps. An edge without variables is there only where no other path says the same."""
    found = []
    for step in pipeline.steps:
        for before in step.after:
            names = tuple(sorted(read.name for read in step.reads if read.step == before))
            implied = any(before in pipeline.ancestors(other) for other in step.after if other != before)
            if names or not implied:
                found.append(Edge(before, step.name, names))
    return tuple(found)


def as_mermaid(pipeline: Pipeline) -> str:
    """A Mermaid flowchart, as GitHub and JupyterLab show it."""
    lines = ["flowchart TD"]
    lines += [f'    {_node(step.name)}["{step.name}"]' for step in pipeline.steps]
    for edge in edges(pipeline):
        label = f'|"{edge.label}"|' if edge.label else ""
        lines.append(f"    {_node(edge.source)} -->{label} {_node(edge.target)}")
    return "\n".join(lines) + "\n"


def _node(name: str) -> str:
    """`end` and the like are words of Mermaid, so nodes have a prefix."""
    return f"step_{name}"


def as_dot(pipeline: Pipeline) -> str:
    """A graph for Graphviz."""
    lines = [f'digraph "{pipeline.name}" {{', "    node [shape=box, style=rounded];"]
    lines += [f'    "{step.name}";' for step in pipeline.steps]
    for edge in edges(pipeline):
        label = f' [label="{edge.label}"]' if edge.label else ""
        lines.append(f'    "{edge.source}" -> "{edge.target}"{label};')
    return "\n".join([*lines, "}"]) + "\n"


_CHARACTER: Final = 7.3  # the width of a letter of 12 px in a monospaced font
_BOX_HEIGHT: Final = 32
_LAYER_HEIGHT: Final = 96
_GAP: Final = 40
_MARGIN: Final = 24
_STYLE: Final = (
    "text{font:12px monospace;text-anchor:middle;fill:#1f2328}rect.step{fill:#f6f8fa;stroke:#57606a}"
    "path{fill:none;stroke:#57606a}rect.label{fill:#fff;opacity:.85}text.label{font-size:11px;fill:#0550ae}"
)


class Box(NamedTuple):
    """Where a step is drawn, by its middle."""

    x: float
    y: float
    width: float


def as_svg(pipeline: Pipeline) -> str:
    """A drawing that stands alone: steps in layers, each below all that it waits for."""
    boxes = layout(pipeline)
    drawn = edges(pipeline)
    width = max((box.x + box.width / 2 for box in boxes.values()), default=0) + _MARGIN
    labels = [_label_place(boxes, edge) for edge in drawn]
    for (x, _), edge in zip(labels, drawn, strict=True):
        width = max(width, x + len(edge.label) * _CHARACTER / 2 + _MARGIN)
    height = max((box.y for box in boxes.values()), default=0) + _BOX_HEIGHT / 2 + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
        f"<title>{escape(pipeline.name)}</title>",
        f"<style>{_STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" style="fill:#57606a;stroke:none"/></marker></defs>',
    ]
    parts += [part for edge, place in zip(drawn, labels, strict=True) for part in _draw_edge(boxes, edge, place)]
    parts += [part for name, box in boxes.items() for part in _draw_box(name, box)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def layout(pipeline: Pipeline) -> dict[str, Box]:
    """Place the steps: a layer is as deep as the longest way to it; within it, below the middle of what it waits for."""
    depth: dict[str, int] = {}
    for step in pipeline.steps:
        depth[step.name] = max((depth[before] + 1 for before in step.after), default=0)
    layers: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name, level in depth.items():
        layers[level].append(name)
    order = {name: float(number) for layer in layers for number, name in enumerate(layer)}
    for layer in layers[1:]:
        middle = {
            name: sum(order[b] for b in pipeline.step(name).after) / len(pipeline.step(name).after) for name in layer
        }
        layer.sort(key=middle.__getitem__)
        order |= {name: float(number) for number, name in enumerate(layer)}
    widths = {name: max(72.0, len(name) * _CHARACTER + 24) for name in depth}
    whole = max((sum(widths[name] + _GAP for name in layer) - _GAP for layer in layers), default=0)
    boxes: dict[str, Box] = {}
    for level, layer in enumerate(layers):
        left = _MARGIN + (whole - sum(widths[name] + _GAP for name in layer) + _GAP) / 2
        for name in layer:
            y = _MARGIN + _BOX_HEIGHT / 2 + level * _LAYER_HEIGHT
            boxes[name] = Box(left + widths[name] / 2, y, widths[name])
            left += widths[name] + _GAP
    return boxes


def _label_place(boxes: dict[str, Box], edge: Edge) -> tuple[float, float]:
    """Nearer to the target, so that the labels of edges from one step stand apart."""
    source, target = boxes[edge.source], boxes[edge.target]
    return source.x + 0.6 * (target.x - source.x), source.y + 0.6 * (target.y - source.y)


def _draw_edge(boxes: dict[str, Box], edge: Edge, place: tuple[float, float]) -> Iterator[str]:
    source, target = boxes[edge.source], boxes[edge.target]
    top, bottom = source.y + _BOX_HEIGHT / 2, target.y - _BOX_HEIGHT / 2
    bend = (bottom - top) / 2
    yield (
        f'<path d="M{source.x:.1f},{top:.1f} C{source.x:.1f},{top + bend:.1f} {target.x:.1f},{bottom - bend:.1f} '
        f'{target.x:.1f},{bottom:.1f}" marker-end="url(#tip)"/>'
    )
    if edge.label:
        x, y = place
        half = len(edge.label) * _CHARACTER / 2 + 2
        yield f'<rect class="label" x="{x - half:.1f}" y="{y - 9:.1f}" width="{2 * half:.1f}" height="16"/>'
        yield f'<text class="label" x="{x:.1f}" y="{y + 3:.1f}">{escape(edge.label)}</text>'


def _draw_box(name: str, box: Box) -> Iterator[str]:
    yield (
        f'<rect class="step" x="{box.x - box.width / 2:.1f}" y="{box.y - _BOX_HEIGHT / 2:.1f}" width="{box.width:.1f}" '
        f'height="{_BOX_HEIGHT}" rx="6"/>'
    )
    yield f'<text x="{box.x:.1f}" y="{box.y + 4:.1f}">{escape(name)}</text>'
