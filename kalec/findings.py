"""The rules that a notebook is checked against, and the findings that one compilation collects."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from kalec.errors import Refused
from kalec.model import NOTHING, Diagnostic, Place, Severity

NOTE, WARNING, ERROR = Severity.NOTE, Severity.WARNING, Severity.ERROR


class Rule(NamedTuple):
    """What a code stands for; kalec(1) has a page for each."""

    title: str
    severity: Severity  # unless the user sets another one


RULES: Final[Mapping[str, Rule]] = {
    # The source and its tags.
    "KLC001": Rule("no steps", ERROR),
    "KLC002": Rule("a cell that is not Python", ERROR),
    "KLC003": Rule("a magic that cannot be kept", ERROR),
    "KLC004": Rule("a magic left out", NOTE),
    "KLC005": Rule("a magic translated", NOTE),
    "KLC010": Rule("a tag that looks misspelt", ERROR),
    "KLC011": Rule("a tag of another program", NOTE),
    "KLC012": Rule("a tag that does not say enough", ERROR),
    "KLC013": Rule("prev: to nowhere", ERROR),
    "KLC014": Rule("steps that wait for each other", ERROR),
    "KLC015": Rule("settings that contradict each other", ERROR),
    "KLC016": Rule("code that no step has", WARNING),
    "KLC017": Rule("a step without code", WARNING),
    "KLC018": Rule("step settings on a cell without a step", WARNING),
    "KLC019": Rule("a condition or a loop over steps", ERROR),
    "KLC020": Rule("metadata that kalec does not know", NOTE),
    "KLC021": Rule("metadata with a wrong value", ERROR),
    "KLC022": Rule("a volume that is not described in full", ERROR),
    "KLC023": Rule("a referenced notebook that cannot be used", ERROR),
    "KLC030": Rule("a parameter that is not plain data", ERROR),
    "KLC031": Rule("a parameter of another type than it says", ERROR),
    "KLC032": Rule("a parameter that is given a new value", NOTE),
    "KLC033": Rule("a metric that cannot be read", ERROR),
    # Names and the steps they come from.
    "KLC104": Rule("an undefined name", ERROR),
    "KLC105": Rule("made in a step that is no ancestor", WARNING),
    "KLC106": Rule("used where it may not have been made", WARNING),
    "KLC107": Rule("used after it was deleted", ERROR),
    "KLC108": Rule("two parallel steps change one name", WARNING),
    "KLC109": Rule("a parallel step changes it in the notebook", WARNING),
    "KLC117": Rule("a parallel step may change it", NOTE),
    "KLC110": Rule("a star import that cannot be resolved", ERROR),
    "KLC111": Rule("names that only a run can know", WARNING),
    "KLC112": Rule("a definition that cannot travel", ERROR),
    "KLC113": Rule("a step that goes on after another one took its value", ERROR),
    "KLC114": Rule("shared code that needs what a step makes", ERROR),
    "KLC115": Rule("a state that does not travel", WARNING),
    "KLC116": Rule("shared code that changes a name between steps", ERROR),
    # Values and surroundings.
    "KLC201": Rule("a value that cannot travel", ERROR),
    "KLC202": Rule("a path that another step does not have", WARNING),
    "KLC203": Rule("a secret in clear", WARNING),
    "KLC204": Rule("a requirement without a version", NOTE),
    "KLC205": Rule("a distribution that is not installed", WARNING),
    "KLC206": Rule("code that is never reached", WARNING),
    # What Kubeflow Pipelines can hold.
    "KLC301": Rule("a parameter that KFP changes on its way", ERROR),
    "KLC302": Rule("resources that KFP cannot ask for", ERROR),
    "KLC303": Rule("a volume that cannot be made", ERROR),
    "KLC304": Rule("a step that is too long", ERROR),
    "KLC305": Rule("a setting that the pipeline does not keep", NOTE),
    "KLC306": Rule("a pipeline that is too long", WARNING),
    "KLC311": Rule("tuning that does not fit the pipeline", ERROR),
    "KLC312": Rule("tuning that Katib refuses", ERROR),
}

_HIDDEN: Final = "off"


class Findings:
    """Collects what is wrong with a source, each thing once. Severities may be set; None hides a rule."""

    def __init__(self, severities: Mapping[str, Severity | None] = NOTHING) -> None:
        self.severities = severities
        self._found: dict[tuple[str, Place, str], Diagnostic] = {}

    def add(self, code: str, place: Place, message: str, *, hint: str = "") -> None:
        """Collect one finding."""
        severity = self.severities.get(code, RULES[code].severity)
        if severity is not None:
            self._found.setdefault((code, place, message), Diagnostic(code, severity, message, place, hint))

    def sorted(self) -> tuple[Diagnostic, ...]:
        """All findings by place, then code."""
        return tuple(sorted(self._found.values(), key=lambda found: (found.place, found.code, found.message)))


def parse_severities(settings: Iterable[tuple[str, object]]) -> dict[str, Severity | None]:
    """Severities by code, from pairs as ("KLC104", "warning"); "off" hides a rule. Raises Refused."""
    severities: dict[str, Severity | None] = {}
    for code, level in settings:
        if code not in RULES:
            raise Refused(f"there is no rule {code!r}{did_you_mean(code, RULES)}", hint="the rules stand in kalec(1)")
        if level == _HIDDEN:
            severities[code] = None
        elif isinstance(level, str) and level in list(Severity):
            severities[code] = Severity(level)
        else:
            raise Refused(f"{level!r} is no severity of {code}", hint="write note, warning, error or off")
    return severities


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`. Did you mean 'X'?`, or nothing when no known word is near."""
    near = nearest(word, known)
    return f". Did you mean {near!r}?" if near else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that `word` is most likely a slip of, or ""."""
    words = sorted(set(known) - {word})
    same_letters = [other for other in words if re.sub(r"\W|_", "", other.lower()) == re.sub(r"\W|_", "", word.lower())]
    return next(iter(same_letters or difflib.get_close_matches(word, words, n=1, cutoff=0.7)), "")
