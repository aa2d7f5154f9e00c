"""Draw a comparison, which comes as JSON on standard input, as a PNG: a panel for each phase, restic as the measure.

`scripts/bench --plot FILE` runs it by the Python of .venv-peers, which has matplotlib; it imports nothing else of this tree.
"""

import json
import sys
from typing import Any, Final

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

PHASES: Final = ("first push", "second volume", "daily push, full scan", "restore", "verify", "collect")
COLOURS: Final = {"rokctl": "#0f766e", "restic": "#94a3b8", "borg": "#cbd5e1"}
INK, QUIET = "#1e293b", "#64748b"
LOWEST_ROOM: Final = 1.45  # of restic's time, that the labels beside the bars have


def main() -> None:
    """Write the file that is named."""
    comparison = json.load(sys.stdin)
    phases = comparison["phases"]
    figure, panels = pyplot.subplots(2, 3, figsize=(10, 4.2), dpi=160, layout="constrained")
    for panel, phase in zip(panels.flat, PHASES, strict=True):
        draw(panel, phase, phases[phase])
    figure.suptitle(
        f"Wall time as a share of restic's: {comparison['cores']} cores, encrypted, the same images in one run",
        fontsize=11, color=INK, x=0.01, ha="left",
    )  # fmt: skip
    figure.savefig(sys.argv[1])


def draw(panel: Any, phase: str, figures: dict[str, Any]) -> None:
    """One phase: a bar for each program, with its share and its seconds beside it."""
    names = [name for name in COLOURS if name in figures]
    measure = figures["restic"]["wall"] if "restic" in figures else figures["rokctl"]["wall"]
    shares = [figures[name]["wall"] / measure for name in names]
    panel.barh(names, shares, color=[COLOURS[name] for name in names], height=0.68)
    for place, (name, share) in enumerate(zip(names, shares, strict=True)):
        weight = "bold" if name == "rokctl" else "normal"
        text = f" {share:.2f}   {figures[name]['wall']:.1f} s"
        panel.text(share, place, text, va="center", fontsize=9, color=INK, fontweight=weight)
    panel.axvline(1, color=QUIET, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
    panel.set_title(phase, fontsize=10, color=INK, loc="left", fontweight="bold")
    panel.set_xlim(0, max(LOWEST_ROOM, max(shares) * 1.45))
    panel.invert_yaxis()
    panel.set_xticks([])
    panel.tick_params(axis="y", length=0, labelsize=9, labelcolor=INK)
    for side in ("top", "right", "bottom", "left"):
        panel.spines[side].set_visible(False)


if __name__ == "__main__":
    main()
