"""What imports what in `qmpd/`: imports for types alone, those inside functions and those by a text count as well."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "qmpd"


@cache
def modules() -> dict[str, Path]:
    """The modules by name; a package is called as its folder."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


@cache
def imports() -> dict[str, frozenset[str]]:
    """For each module the names of what it imports: modules of the package, and others by their full names."""
    return {
        name: frozenset(imported(name, ast.parse(path.read_text(encoding="utf-8")))) for name, path in modules().items()
    }


def imported(importer: str, tree: ast.Module) -> set[str]:
    """What a module with this name and content imports, be it by a text that names the module."""
    found: set[str] = set()
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(importer, node)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in modules() else base)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            found |= {node.value} & modules().keys() - {PACKAGE.name}
    return found - {importer}


def _absolute(importer: str, node: ast.ImportFrom) -> str:
    """The module that is imported from, whose name may begin at the importer's."""
    if node.level == 0:
        return node.module or ""
    is_package = importer in modules() and modules()[importer].name == "__init__.py"
    parts = importer.split(".")
    folder = parts[: len(parts) - node.level + is_package]
    return ".".join([*folder, *([node.module] if node.module else [])])


def room(module: str) -> str:
    """The room that a module is in; the package's own modules are the front door."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "qmpd"


@cache
def rooms() -> dict[str, frozenset[str]]:
    """For each room those that it imports from."""
    found: dict[str, set[str]] = {}
    for module, imported in imports().items():
        to = {room(each) for each in imported if each in modules()}
        found.setdefault(room(module), set()).update(to - {room(module)})
    doors = {"qmpd", "__main__"}
    return {name: frozenset(to - doors) for name, to in found.items() if name not in doors}


def circles() -> list[list[str]]:
    """The sets of modules that import each other in a circle, each sorted."""
    graph = {name: [each for each in imported if each in modules()] for name, imported in imports().items()}
    reaches = {name: _reached(graph, name) for name in graph}
    found = {tuple(sorted(each for each in reaches[name] if name in reaches[each])) for name in graph}
    return sorted(list(circle) for circle in found if len(circle) > 1)


def _reached(graph: dict[str, list[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += graph[name]
    return found
