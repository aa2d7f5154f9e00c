"""One step, statement by statement: which names it takes from outside, and what it leaves behind.

For each name a state says where its value may come from at that point: from outside (ENTRY), from one of the places that bind
it here (numbered), or from nowhere (DELETED). Branches join, loops run until nothing changes.
"""

import ast
import re
from collections.abc import Iterable, Mapping, Set
from typing import Final

from kalec.analysis.definitions import Definition
from kalec.analysis.effects import is_immutable, roots
from kalec.analysis.facts import DELETED, DYNAMIC, ENTRY, FROM_ENTRY, NO_ITERATION, Code, Facts, Kept, Known, State, Use
from kalec.analysis.making import Code as MadeCode
from kalec.analysis.making import making
from kalec.analysis.scopes import Action, Occurrence, occurrences, walk
from kalec.model import Cell

# Stands for the lambdas in a value: they travel with it as code, and what they use is taken in beside it.
_LAMBDA: Final = Definition(Cell("", 0, "", ""), ast.Pass(), frozenset(), (), ())


def analyse(code: Code, entry: Mapping[str, Known], afterwards: Iterable[tuple[Cell, list[ast.stmt]]] = ()) -> Facts:
    """Walk the statements of a step that begins with the names of `entry`; `afterwards` only looks at what they leave."""
    walk = _Walk(code, entry)
    walk.prepare()
    state: State | None = {}
    for cell, statements in code.cells:
        walk.cell = cell
        state = walk.block(statements, state, top=True)
    walk.facts.exits = dict(state if state is not None else walk.last)
    for cell, statements in afterwards:
        walk.cell = cell
        walk.block(statements, dict(walk.facts.exits))
    return walk.facts


class _Walk:
    def __init__(self, code: Code, entry: Mapping[str, Known]) -> None:
        self.code, self.entry, self.names = code, entry, code.names
        self.facts = Facts(code.effects(), entry, code.names)
        self.cell = code.cells[0][0] if code.cells else Cell("", 0, "", "")
        self.state: State = {}
        self.last: State = {}
        self.tolerant = 0
        self.sites: dict[tuple[int, str], int] = {}
        self.loops: list[list[State]] = []
        self.called: set[int] = set()

    # What the step's own statements say, in any order.

    def prepare(self) -> None:
        facts = self.facts
        for cell, statements in self.code.cells:
            for statement in statements:
                found = self.code.definition(statement, cell)
                for name in found.names if found else ():
                    facts.definitions.setdefault(name, []).append(found)  # type: ignore[arg-type]  # names come from it
        for name, shared, value in facts.effects.bindings:
            inner = list(walk(value)) if value is not None else []
            facts.holds.setdefault(name, set()).update(shared, self._deep_copied(inner))
            self._note_lambdas([name], value, inner)
            if value is not None and not is_immutable(value, self.names):
                made_with = {n.id for n in inner if isinstance(n, ast.Name)}
                facts.modules_of.setdefault(name, set()).update(made_with & self.names.imports.keys())
                facts.holds[name] |= made_with & facts.definitions.keys()
        for change in facts.effects.changes:
            for root in change.roots:
                facts.holds.setdefault(root, set()).update(change.holds - {root})
                facts.own_changes[root] = facts.own_changes.get(root, False) or change.sure
            if change.deep:
                facts.deep_changes |= change.roots
            if change.value is not None:
                self._note_lambdas(change.roots, change.value, walk(change.value))
        facts.kept = [kept for cell, several in self.code.cells for one in several for kept in self._kept(one, cell)]
        for kept in facts.kept:
            for name in kept.changed | kept.bound:
                facts.holds.setdefault(name, set()).update(kept.given - {name})
        facts.reached.clear()  # more stands behind the names now

    def _kept(self, statement: ast.stmt, cell: Cell) -> list[Kept]:
        """What the functions of the notebook that a statement calls may keep of what they are given, or find outside."""
        definition = self.code.definition(statement, cell)
        if definition:
            return self._kept_of_definition(definition)
        defined, touched = self.names.defined, self.code.touched(statement)
        used = [one for one in touched.occurrences if one.action is Action.LOAD and not one.deferred]
        functions = {found for one in used for found in self.facts.closure(one.name)}
        given = {need.name for one in functions for need in one.needs_later} - defined
        given |= {
            name for one in functions if isinstance(one.node, ast.ClassDef) for name in one.names
        }  # of its instances
        given |= {one.name for one in used if one.name not in defined or id(one.node) not in touched.called}
        changed = {name for one in functions for name in one.changes_later}
        bound = {name for one in functions for name in one.binds_later}
        return self._keeping(given, changed, bound)

    def _kept_of_definition(self, definition: Definition) -> list[Kept]:
        """What its decorators and base classes keep when it is made: of it, and of what they find outside."""
        done = making(definition.node, self._code_of, self.names)
        return [
            *self._keeping(done.used, done.changed, done.bound),
            *self._keeping(definition.names, done.receiving, done.naming, definition, done.holding),
        ]

    def _keeping(
        self,
        given: Set[str],
        changed: Set[str],
        bound: Set[str],
        definition: Definition | None = None,
        holding: Set[str] = frozenset(),
    ) -> list[Kept]:
        fixed = self.names.immutable
        kept = Kept(
            frozenset(given - fixed - self.names.imports.keys()),
            frozenset(changed - fixed),
            frozenset(bound - fixed),
            definition,
            frozenset(holding - fixed),
        )
        return [kept] if kept.changed or kept.bound else []

    def _code_of(self, name: str) -> list[MadeCode]:
        """The functions and classes that a name is given where they are written."""
        found: list[MadeCode] = []
        for definition in self.facts.closure(name):
            node = definition.node
            if name in definition.names and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.append(node)
            elif name in definition.names and isinstance(value := getattr(node, "value", None), ast.Lambda):
                found.append(value)
        return found

    def _note_lambdas(self, holders: Iterable[str], value: ast.AST | None, inner: Iterable[ast.AST]) -> None:
        """What lambdas in a value use is used by whoever calls them, in this step or in a later one."""
        if any(isinstance(node, ast.Lambda) for node in inner):
            used = {part.name: part for part in occurrences(value) if part.deferred and part.action is Action.LOAD}
            for holder in holders:
                self.facts.lambdas.setdefault(holder, {}).update(used)

    def _deep_copied(self, inner: Iterable[ast.AST]) -> frozenset[str]:
        """A deep copy shares nothing with its original, and is of the same classes."""
        calls = [node for node in inner if isinstance(node, ast.Call)]
        copied = [call for call in calls if self.names.path(call.func) == "copy.deepcopy"]
        return frozenset().union(*(roots(argument, self.names) for call in copied for argument in call.args))

    # What happens to one name.

    def load(self, occurrence: Occurrence, called: Definition | None = None) -> None:
        name = occurrence.name
        origins = self.state.get(name, FROM_ENTRY)
        self.facts.loaded.add(name)
        if ENTRY in origins or NO_ITERATION in origins:
            expected = not occurrence.optional and not self.tolerant and ENTRY in origins and not called
            is_real = ENTRY in origins and not occurrence.optional
            use = Use(
                self.cell, occurrence, origins == FROM_ENTRY, expected and not occurrence.deferred, is_real, called
            )
            before = self.facts.uses.get(name)
            if before is None or (use.expected, use.is_real) > (before.expected, before.is_real):
                self.facts.uses[name] = use
            if ENTRY in origins and len(origins) > 1 and expected:
                self.facts.uncertain_uses.append((self.cell, occurrence))
        if DELETED in origins and not called and not self.tolerant:
            self.facts.deleted_uses.append((self.cell, occurrence, origins == {DELETED}))
        if called is None:
            self.mention(name, id(occurrence.node) in self.called and not occurrence.deferred)
            for other in sorted(self.facts.called_with(name)):
                self.load(Occurrence(other, Action.LOAD, occurrence.node, deferred=True), called=_LAMBDA)

    def mention(self, name: str, is_call: bool) -> None:
        """Whoever has a name may call what is behind it: do what its functions may do."""
        closure = self.facts.closure(name)
        own = self.facts.definitions.get(name, ())
        for definition in closure:
            for need in definition.needs_later:
                self.load(need, called=definition)
            for bound, sure in definition.binds_later.items():
                certain = sure and is_call and len(own) <= 1 and definition.names == {name}
                self.bind(bound, definition.node, certain=certain)
            for changed, sure in definition.changes_later.items():
                self.facts.changes[changed] = self.facts.changes.get(changed, False) or (sure and is_call)
            if definition.has_state and name not in definition.names:
                self.facts.changes.setdefault(name, False)

    def bind(self, name: str, node: ast.AST, *, certain: bool = True, definition: Definition | None = None) -> None:
        site = self.sites.setdefault((id(node), name), len(self.sites))
        self.facts.bound_at[site] = node
        self.facts.bound_in[site] = self.cell
        if definition:
            self.facts.definition_sites[site] = definition
        before = frozenset() if certain else self.state.get(name, FROM_ENTRY)
        self.state[name] = before | {site}

    def touch(self, found: Iterable[Occurrence]) -> None:
        for occurrence in found:
            if occurrence.action is Action.LOAD:
                self.load(occurrence)
            elif occurrence.deferred:
                continue
            elif occurrence.action is Action.STORE:
                self.bind(occurrence.name, occurrence.node, certain=occurrence.certain)
            else:
                if ENTRY in self.state.get(occurrence.name, FROM_ENTRY):
                    self.load(occurrence)
                self.state[occurrence.name] = frozenset({DELETED})

    def code_of(self, *nodes: ast.AST | None) -> None:
        """Go through the names of expressions or plain statements."""
        for node in nodes:
            if node is None:
                continue
            touched = self.code.touched(node)
            self.called |= touched.called
            for text in touched.texts:
                self.named_in_text(text)
            self.touch(touched.occurrences)

    def named_in_text(self, node: ast.Compare | ast.Call) -> None:
        """Names that are said in texts: `eval("x + 1")`, `frame.query("a > @x")`, `"x" in globals()`."""
        if isinstance(node, ast.Compare):
            among = any(isinstance(c, ast.Call) and self.names.builtin(c.func) in DYNAMIC for c in node.comparators)
            if among and isinstance(node.left, ast.Constant):
                self.load(Occurrence(str(node.left.value), Action.LOAD, node, optional=True))
            return
        text = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
        if self.names.builtin(node.func) in DYNAMIC:
            self.dynamic(node, text)
        elif isinstance(text, str):
            for name in re.findall(r"@([A-Za-z_]\w*)", text):
                self.load(Occurrence(name, Action.LOAD, node, optional=True))

    def dynamic(self, call: ast.Call, text: object) -> None:
        builtin = self.names.builtin(call.func)
        if builtin in ("exec", "eval") and isinstance(text, str):
            try:
                self.touch(
                    Occurrence(part.name, part.action, call, part.deferred, certain=False)
                    for part in occurrences(ast.parse(text))
                )
            except (SyntaxError, ValueError, RecursionError):
                return
        elif builtin in ("exec", "eval", "globals", "locals") or not call.args:
            self.facts.dynamic.append((self.cell, call))
            for name in self.entry:
                self.load(Occurrence(name, Action.LOAD, call, optional=True))

    # Statements.

    def block(self, statements: list[ast.stmt], state: State | None, *, top: bool = False) -> State | None:
        """The state after some statements; None when their end is not reached."""
        for statement in statements:
            if state is None:
                self.facts.unreachable.append((self.cell, statement))
                return None
            self.state = state
            state = self.statement(statement, top)
            if state is not None:
                self.last = state
        return state

    def statement(self, statement: ast.stmt, top: bool) -> State | None:
        definition = self.code.definition(statement, self.cell) if top else None
        if definition:
            self.code_of_definition(definition)
            return self.state
        match statement:
            case ast.If():
                return self.branches(statement)
            case ast.For() | ast.AsyncFor():
                self.code_of(statement.iter)
                return self.loop(statement, statement.target)
            case ast.While():
                return self.loop(statement, None)
            case ast.Try() | ast.TryStar():
                return self.attempt(statement)
            case ast.With() | ast.AsyncWith():
                return self.within(statement)
            case ast.Match():
                return self.match(statement)
            case ast.Break() | ast.Continue():
                for ends in self.loops[-1:]:
                    ends.append(self.state)
                return None
        self.code_of(statement)
        return None if isinstance(statement, ast.Raise) else self.state

    def within(self, statement: ast.With | ast.AsyncWith) -> State | None:
        for item in statement.items:
            self.code_of(item.context_expr, item.optional_vars)
        return self.block(statement.body, self.state)

    def code_of_definition(self, definition: Definition) -> None:
        for need in definition.needs_now:
            self.facts.needed_from[definition, need.name] = self.state.get(need.name, FROM_ENTRY)
            self.load(need)
        if isinstance(definition.node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in definition.node.decorator_list:
                self.called |= {id(node) for node in walk(decorator)}
        for name in sorted(definition.names):
            self.bind(name, definition.node, definition=definition)

    def branches(self, statement: ast.If) -> State | None:
        self.code_of(statement.test)
        before = self.state
        constant = statement.test.value if isinstance(statement.test, ast.Constant) else None
        then = self.block(statement.body, dict(before))
        otherwise = self.block(statement.orelse, dict(before))
        if constant is True:
            return then
        return _join(then, otherwise)

    def loop(self, statement: ast.For | ast.AsyncFor | ast.While, target: ast.expr | None) -> State | None:
        endless = (
            isinstance(statement, ast.While) and isinstance(statement.test, ast.Constant) and bool(statement.test.value)
        )
        before = dict(self.state)
        after: State | None = before
        self.loops.append([])
        for _ in range(2):
            self.state = dict(after) if after is not None else dict(before)
            if isinstance(statement, ast.While):
                self.code_of(statement.test)
            self.code_of(target)
            after = _join(self.block(statement.body, self.state), *self.loops[-1], before)
        left = self.loops.pop()
        body_end = after
        if not endless and body_end is not None:
            body_end = {name: _softened(origins, before.get(name, FROM_ENTRY)) for name, origins in body_end.items()}
        else:
            body_end = _join(*left)
        return self.block(statement.orelse, body_end) if body_end is not None else None

    def attempt(self, statement: ast.Try | ast.TryStar) -> State | None:
        before = dict(self.state)
        catches_names = any(_catches_name_errors(handler) for handler in statement.handlers)
        self.tolerant += catches_names
        middle: State | None = dict(before)
        state: State | None = dict(before)
        for part in statement.body:
            state = self.block([part], state)
            middle = _join(middle, state)
        self.tolerant -= catches_names
        ends = [self.block(statement.orelse, dict(state)) if state is not None else None]
        for handler in statement.handlers:
            self.state = dict(middle or before)
            self.code_of(handler.type)
            if handler.name:
                self.bind(handler.name, handler)
            end = self.block(handler.body, self.state)
            if end is not None and handler.name:
                end[handler.name] = frozenset({DELETED})
            ends.append(end)
        joined = _join(*ends)
        if statement.finalbody:
            final = self.block(statement.finalbody, dict(joined if joined is not None else (middle or before)))
            return final if joined is not None else None
        return joined

    def match(self, statement: ast.Match) -> State | None:
        self.code_of(statement.subject)
        before = self.state
        ends: list[State | None] = []
        complete = False
        for case in statement.cases:
            self.state = dict(before)
            self.code_of(case.pattern, case.guard)
            ends.append(self.block(case.body, self.state))
            complete |= case.guard is None and isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None
        return _join(*ends, None if complete else before)


def _join(*states: State | None) -> State | None:
    """What may hold after any of several ways."""
    reached = [state for state in states if state is not None]
    if not reached:
        return None
    names = set().union(*reached)
    return {name: frozenset().union(*(state.get(name, FROM_ENTRY) for state in reached)) for name in names}


def _softened(origins: frozenset[int], before: frozenset[int]) -> frozenset[int]:
    """After a loop: that it ran zero times is possible, and no reason to complain."""
    if ENTRY in origins and before == FROM_ENTRY and len(origins) > 1:
        return (origins - {ENTRY}) | {NO_ITERATION}
    return origins


def _catches_name_errors(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    named = {node.id for node in walk(handler.type) if isinstance(node, ast.Name)}
    return bool(named & {"NameError", "Exception", "BaseException", "UnboundLocalError"})
