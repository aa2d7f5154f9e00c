"""Draw what was measured, which comes as JSON on standard input, as a PNG.

    plot.py comparison FILE    a panel for each phase, restic as the measure
    plot.py growth FILE        what commands take against the size of the repository

The Python of .venv-peers runs it, which has matplotlib; it imports nothing else of this tree.
"""

import json
import sys
from typing import Any, Final

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

MIB: Final = 1 << 20
PHASES: Final = ("first push", "second volume", "daily push, full scan", "restore", "verify", "collect")
COLOURS: Final = {"rokctl": "#0f766e", "restic": "#94a3b8", "borg": "#cbd5e1"}
INK, QUIET = "#1e293b", "#64748b"
LOWEST_ROOM: Final = 1.45  # of restic's time, that the labels beside the bars have


def main() -> None:
    """Draw the kind that is named into the file that is named."""
    kind, target = sys.argv[1:]
    figure = {"comparison": comparison, "growth": growth}[kind](json.load(sys.stdin))
    figure.savefig(target, format="png")


def comparison(record: dict[str, Any]) -> Any:
    """Wall times as shares of restic's."""
    figure, panels = pyplot.subplots(2, 3, figsize=(10, 4.2), dpi=160, layout="constrained")
    for panel, phase in zip(panels.flat, PHASES, strict=True):
        draw_phase(panel, phase, record["phases"][phase])
    figure.suptitle(
        f"Wall time as a share of restic's: {record['cores']} cores, encrypted, the same images in one run",
        fontsize=11, color=INK, x=0.01, ha="left",
    )  # fmt: skip
    figure.get_layout_engine().set(hspace=0.06, wspace=0.03)
    return figure


def draw_phase(panel: Any, phase: str, figures: dict[str, Any]) -> None:
    """One phase: a bar for each program, with its share and its seconds beside it."""
    names = [name for name in COLOURS if name in figures]
    measure = figures["restic"]["wall"] if "restic" in figures else figures["rokctl"]["wall"]
    shares = [figures[name]["wall"] / measure for name in names]
    panel.barh(names, shares, color=[COLOURS[name] for name in names], height=0.68)
    for place, (name, share) in enumerate(zip(names, shares, strict=True)):
        weight = "bold" if name == "rokctl" else "normal"
        text = f"{share:.2f}   {figures[name]['wall']:.1f} s"
        panel.annotate(
            text, (share, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9, color=INK,
            fontweight=weight, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},  # no line runs through it
        )  # fmt: skip
    panel.axvline(1, color=QUIET, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
    panel.set_title(phase, fontsize=10, color=INK, loc="left", fontweight="bold")
    panel.set_xlim(0, max(LOWEST_ROOM, max(shares) * 1.45))
    panel.invert_yaxis()
    panel.set_xticks([])
    panel.tick_params(axis="y", length=0, labelsize=9, labelcolor=INK)
    for side in ("top", "right", "bottom", "left"):
        panel.spines[side].set_visible(False)


def growth(record: dict[str, Any]) -> Any:
    """Processor time and memory of each command, repositories side by side."""
    rows = record["index"]
    chunks = [row["chunks"] for row in rows]
    figure, (time, memory) = pyplot.subplots(1, 2, figsize=(10, 4.2), dpi=160, layout="constrained")
    for name in rows[0]["commands"]:
        costs = [row["commands"][name] for row in rows]
        time.plot(chunks, [cost["cpu"] for cost in costs], marker="o", label=name)
        memory.plot(chunks, [cost["peak"] / MIB for cost in costs], marker="o", label=name)
    time.plot(chunks, [count / 1e6 for count in chunks], "--", color=QUIET, label="1 µs a chunk")
    time.set(yscale="log", ylim=(0.1, None), ylabel="seconds of the processor, whole command")
    memory.set(ylim=(0, None), ylabel="MiB of memory, at most")
    for axes in (time, memory):
        axes.set(xscale="log", xlabel="chunks in the repository")
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


if __name__ == "__main__":
    main()
