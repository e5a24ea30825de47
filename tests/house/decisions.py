"""What code may not decide by: numbers of releases, names of boards, the words of an error or of a list for people.

Each function finds the lines of a module that do so all the same, however that is spelled.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import TYPE_CHECKING

import orjson

from qmpd.qapi import load_release, release_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NUMBER = re.compile(r"\d{1,2}\.\d{1,2}(\.\d{1,3})?")
_RELEASE = re.compile(r"_?(release|release_name|options|like|nearest)")
_PARTS = frozenset({"major", "minor", "micro"})
_ORDER = re.compile(
    r"_?(is_)?(since|before|until|as_of|from|at_least|at_most|up_to|newer|older|later|earlier|after|release)"
    r"(_(is|than|release|version))?"
)
_BOARD = re.compile(r"(.*_)?(machine_type|machine_name|board_name|board_type|family|family_of|reference_machine)")
_PART_OF_BOARD = re.compile(r"q35|i440fx|isapc|microvm|x-remote|xenpv|xenfv")
# Methods by which a text is looked into; `_LIKE` take a pattern, and the text as an argument.
_INTO = frozenset({
    "startswith", "endswith", "find", "rfind", "index", "rindex", "count", "partition", "rpartition", "split", "rsplit",
    "removeprefix", "removesuffix", "isdigit", "isdecimal", "casefold", "lower", "upper",
})  # fmt: skip
_LIKE = frozenset({"match", "fullmatch", "search", "findall", "finditer", "fnmatch", "fnmatchcase"})
# What an error says of itself, what asks a release for its words, and the captured texts for people.
_SAID = frozenset({"message", "description", "desc", "hint", "args", "strerror", "reason", "text"})
_ERROR = re.compile(r"_?(e|err|error|errors|exc|exception|refusal|failure|fault)")
_WORDS = re.compile(r"_?(words|texts|wordings|refusals|lists)")
_ASKED = frozenset({"message", "hint", "text", "listed", "__call__"})
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_CAPTURED = frozenset({"hot", "refusal", "desc", "«error»"})


def _is_like(name: str | None, pattern: re.Pattern[str]) -> bool:
    return name is not None and pattern.fullmatch(name) is not None


@cache
def boards() -> frozenset[str]:
    """The names of machine types, of all releases; `none` is a word for much else, too."""
    found: set[str] = {"pc"}
    for release in release_names():
        reply = load_release(release).captured("query-machines", {}, "none", {})
        for known in orjson.loads(reply) if isinstance(reply, bytes) else ():
            found |= {known["name"], known.get("alias", known["name"])}
    return frozenset(found - {"none"})


def named(node: ast.AST) -> str | None:
    """What an expression is called: the last part of its name, or of the name of what is called for it."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    return named(node.func) if isinstance(node, ast.Call) else None


def _questions(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, list[ast.expr]]]:
    """All that asks how something is: the line, and what is looked at."""
    for node in nodes:
        if isinstance(node, ast.Compare):
            if not all(isinstance(each, ast.Is | ast.IsNot) for each in node.ops):
                yield node.lineno, [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            yield node.lineno, [node.subject]
        elif isinstance(node, ast.MatchValue):
            yield node.lineno, [node.value]
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            yield node.lineno, [node.slice]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in _INTO and not _is_of_lines(node):
                yield node.lineno, [node.func.value, *(node.args if node.func.attr.endswith("with") else ())]
            elif node.func.attr in _LIKE:
                yield node.lineno, list(node.args)


def _is_of_lines(node: ast.Call) -> bool:
    """Whether a text is cut into lines, as to print them."""
    return any(isinstance(each, ast.Constant) and each.value == "\n" for each in node.args)


def _docstrings(tree: ast.AST) -> set[int]:
    """The texts that stand alone."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def _constants(node: ast.AST) -> Iterator[object]:
    for each in ast.walk(node):
        if isinstance(each, ast.Constant):
            yield each.value


# Releases


def is_number(text: str) -> bool:
    """Whether a text is the number of a release."""
    return _is_like(text, _NUMBER)


def reads_number(tree: ast.AST) -> list[int]:
    """Where the number of a release is read at all."""
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.expr) and _reads(node, "version")]


def _reads(node: ast.expr, attribute: str) -> bool:
    """Whether an attribute of this name is read, be it by a text that names it."""
    if isinstance(node, ast.Attribute):
        return node.attr == attribute and isinstance(node.ctx, ast.Load)
    by_text = isinstance(node, ast.Call) and named(node.func) in ("getattr", "attrgetter")
    return by_text and attribute in _constants(node)


def decides_by_number(tree: ast.AST) -> list[int]:
    """Where releases are compared: by their numbers, by their names, or by something that is asked for either."""
    found = {line for line, looked in _questions(ast.walk(tree)) if any(_is_number(each) for each in looked)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            asked = _is_like(named(node.func), _ORDER) and _is_numbers(node.args)
            looked_up = named(node.func) in ("get", "index") and any(_is_number(each) for each in node.args)
            found |= {node.lineno} if asked or looked_up else set()
        elif isinstance(node, ast.Compare):
            found |= {node.lineno} if _orders_tuples(node) else set()
        elif isinstance(node, ast.Dict):
            keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
            found |= {node.lineno} if keys & set(release_names()) else set()
    return sorted(found)


def _orders_tuples(node: ast.Compare) -> bool:
    """Whether something is ordered by several numbers, as `(9, 2)` orders releases."""
    ordered = any(isinstance(each, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for each in node.ops)
    return ordered and any(
        isinstance(each, ast.Tuple) and _is_numbers(each.elts) for each in (node.left, *node.comparators)
    )


def _is_number(node: ast.expr) -> bool:
    """Whether something is a release's number or name, or holds one."""
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and _is_like(each.value, _NUMBER):
            return True
        if isinstance(each, ast.Attribute) and each.attr in ("version", "name", *_PARTS):
            if _is_like(named(each.value), _RELEASE):
                return True
        if isinstance(each, ast.Name) and each.id in _PARTS | {"version", "release_name"}:
            return True
    return False


def _is_numbers(nodes: Iterable[ast.expr]) -> bool:
    values = [value for node in nodes for value in _constants(node)]
    return bool(values) and all(
        (type(value) is int) or (isinstance(value, str) and _is_like(value, _NUMBER)) for value in values
    )


# Boards


def names_board(tree: ast.AST) -> list[int]:
    """Where a board's name stands."""
    alone = _docstrings(tree)
    return sorted({
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone
        and (node.value in boards() or _is_like(node.value, _PART_OF_BOARD))
    })  # fmt: skip


def decides_by_board(tree: ast.AST) -> list[int]:
    """Where something is looked up, compared or cut out of the name of a machine's type."""
    found = set()
    for line, looked in _questions(ast.walk(tree)):
        sockets = any(_is_of_socket(each) for each in looked)
        if not sockets and any(_is_like(named(each), _BOARD) for each in looked):
            found.add(line)
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(named(each) in ("board", "board_of") for each in sides) and not any(map(_is_none, sides)):
                found.add(node.lineno)
    return sorted(found)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_of_socket(node: ast.expr) -> bool:
    """Whether something is an address's family, or several."""
    return any((named(each) or "").startswith("AF_") for each in ast.walk(node))


# Words


def decides_by_words(tree: ast.AST) -> list[int]:
    """Where the text of an error, or one that was captured for people, is read back."""
    found: set[int] = set()
    functions = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)]
    for scope in [tree, *functions]:
        nodes = list(_within(scope))
        caught = {each.name for each in nodes if isinstance(each, ast.ExceptHandler) and each.name}
        known = _told(nodes, caught)
        for line, looked in _questions(nodes):
            if any(_tells(each, caught, known) for each in looked):
                found.add(line)
    return sorted(found)


def _within(scope: ast.AST) -> Iterator[ast.AST]:
    """What is in a function, or in a module, and in no other function."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, _FUNCTIONS):
            yield child
            yield from _within(child)


def _told(nodes: list[ast.AST], caught: set[str]) -> set[str]:
    """The names of a function that stand for such a text."""
    known: set[str] = set()
    assignments = [node for node in nodes if isinstance(node, ast.Assign | ast.NamedExpr | ast.AnnAssign)]
    while True:
        before = len(known)
        for node in assignments:
            if node.value is not None and _tells(node.value, caught, known):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    known |= _names(target)
        if len(known) == before:
            return known


def _names(target: ast.AST) -> set[str]:
    """What an assignment gives a value to; what it puts into something else it does not make of it."""
    if isinstance(target, ast.Tuple | ast.List | ast.Starred):
        return {name for each in ast.iter_child_nodes(target) for name in _names(each)}
    return {target.id} if isinstance(target, ast.Name) else set()


def _tells(node: ast.expr, caught: set[str], known: set[str]) -> bool:
    """Whether an expression is such a text."""
    if isinstance(node, ast.Name):
        return node.id in known
    if isinstance(node, ast.Attribute):
        of_error = named(node.value) in caught or _is_like(named(node.value), _ERROR)
        return node.attr in _SAID and of_error
    if isinstance(node, ast.Subscript):
        key = node.slice
        captured = isinstance(key, ast.Constant) and key.value in _CAPTURED
        return captured or _tells(node.value, caught, known)
    if isinstance(node, ast.BoolOp):
        return any(_tells(each, caught, known) for each in node.values)
    if isinstance(node, ast.IfExp):
        return _tells(node.body, caught, known) or _tells(node.orelse, caught, known)
    if isinstance(node, ast.BinOp):
        return _tells(node.left, caught, known) or _tells(node.right, caught, known)
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(each, ast.FormattedValue) and named(each.value) in caught for each in node.values)
    return isinstance(node, ast.Call) and _call_tells(node, caught, known)


def _call_tells(node: ast.Call, caught: set[str], known: set[str]) -> bool:
    name = named(node.func)
    if name in ("str", "repr") and any(named(each) in caught for each in node.args):
        return True
    if _is_like(name, _WORDS):
        return True
    if not isinstance(node.func, ast.Attribute):
        return False
    of = node.func.value
    if name in _ASKED and _is_like(named(of), _WORDS):
        return True
    if name == "get" and node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value in _CAPTURED:
        return True
    return name in _INTO | {"strip", "replace", "format", "join"} and _tells(of, caught, known)
