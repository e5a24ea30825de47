"""JSON Schema (2020-12) for a release's commands, replies and events, derived from its introspection.

A document has `$defs` alone. For a person to find them:

- `block-commit.arguments`, `query-block.return`, `SHUTDOWN.data`: what a command takes and returns, what an event says;
- `block-commit.arguments.on-error`: the type of that member (of its elements, where it is an array);
- `blockdev-add.arguments.driver=qcow2`: the members that are added where the tag `driver` is `qcow2`;
- `query-block.return.element`: the elements of a return value that is an array;
- `StrOrNull`: an alternate, by the name that QEMU's errors give it.

The types of the introspection have numbers, so each is named after the place where it is used: the shortest way to it,
the alphabetically first of those that are equally short. The same introspection always gives the same names.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from qmpd.common.integers import INTEGER_RANGES
from qmpd.qapi.introspection import Alternate, Array, Builtin, Enumeration, Object
from qmpd.qapi.naming import ELEMENT_OF_BRANCH, Names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.qapi.introspection import Introspection

    Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_BUILTINS: dict[str, Schema] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "number": {"type": "number"},
    "bool": {"type": "boolean"},
    "null": {"type": "null"},
    "any": {},
}


def derive(introspection: Introspection, names: Names, release: str) -> dict[str, Any]:
    """The schema document of a release, as JSON values; the same for the same input.

    :param names: what introspection hides; where it knows an integer's type, the range is stated.
    :param release: the release's name, which goes into the document's `$id` and title.
    """
    derivation = _Derivation(introspection, names)
    return {
        "$schema": DIALECT,
        "$id": f"urn:qmpd:schemas:qemu-{release}",
        "title": f"QMP of QEMU {release}",
        "description": "NAME.arguments and NAME.return for each command, NAME.data for each event.",
        "$defs": dict(sorted(derivation.definitions().items())),
    }


class _Root:
    """What a command takes or returns, or what an event says; `features` are those of the command or event."""

    __slots__ = ("allow_oob", "features", "name", "type", "unchecked")

    def __init__(
        self,
        name: str,
        type_name: str,
        features: tuple[str, ...] = (),
        *,
        allow_oob: bool = False,
        unchecked: bool = False,
    ) -> None:
        self.name = name
        self.type = type_name
        self.features = features
        self.allow_oob = allow_oob
        self.unchecked = unchecked

    @property
    def plain(self) -> bool:
        """Whether the definition says nothing beside its type, so that others may refer to it."""
        return not (self.features or self.allow_oob or self.unchecked)


class _Derivation:
    def __init__(self, introspection: Introspection, names: Names) -> None:
        self._introspection = introspection
        self._hidden = names
        self._roots = list(self._find_roots())
        # How often each type is used, and which ones are used as a branch of another object or as a whole one.
        self._uses: Counter[str] = Counter()
        self._branches: set[str] = set()
        self._whole: set[str] = set()
        self._count_uses()
        self._names: dict[str, str] = {}
        self._taken = {root.name for root in self._roots}
        self._choose_names()

    def _find_roots(self) -> Iterator[_Root]:
        for name in sorted(self._introspection.commands):
            command = self._introspection.command(name)
            yield _Root(
                f"{name}.arguments",
                command.arguments,
                command.features,
                allow_oob=command.allow_oob,
                unchecked=name in self._hidden.unchecked,
            )
        for name in sorted(self._introspection.commands):
            command = self._introspection.command(name)
            yield _Root(f"{name}.return", command.returns, command.features)
        for name in sorted(self._introspection.events):
            event = self._introspection.event(name)
            yield _Root(f"{name}.data", event.data, event.features)

    # --- which types there are, and what they are called

    def _element(self, type_name: str) -> str:
        """The type itself, or what an array (of arrays) of it consists of."""
        found = self._introspection.type(type_name)
        while isinstance(found, Array):
            found = self._introspection.type(found.element)
        return found.name

    def _parts(self, type_name: str) -> Iterator[tuple[str, str, bool]]:
        """The types that a type is made of: what the place is called, the type, and whether it is a branch."""
        found = self._introspection.type(type_name)
        if isinstance(found, Object):
            for member in found.members:
                yield member.name, self._element(member.type), False
            for case, branch in sorted(found.variants.items()):
                if self._introspection.object(branch).members:
                    yield f"{found.tag}={case}", branch, True
        elif isinstance(found, Alternate):
            for branch in found.branches:
                element = self._element(branch)
                yield type(self._introspection.type(element)).__name__.lower(), element, False

    def _count_uses(self) -> None:
        waiting = []
        for root in self._roots:
            element = self._element(root.type)
            self._uses[element] += 1
            self._whole.add(element)
            waiting.append(element)
        seen: set[str] = set()
        while waiting:
            type_name = waiting.pop()
            if type_name in seen:
                continue
            seen.add(type_name)
            for _, part, is_branch in self._parts(type_name):
                self._uses[part] += 1
                (self._branches if is_branch else self._whole).add(part)
                waiting.append(part)

    def _choose_names(self) -> None:
        waiting: deque[str] = deque()

        def name_it(type_name: str, wish: str) -> None:
            if type_name in self._names or not self._has_definition(type_name):
                return
            found = self._introspection.type(type_name)
            if isinstance(found, Alternate):
                wish = self._hidden.alternates.get(type_name, wish)
            name, number = wish, 2
            while name in self._taken:
                name, number = f"{wish}-{number}", number + 1
            self._taken.add(name)
            self._names[type_name] = name
            waiting.append(type_name)

        def name_parts() -> None:
            while waiting:
                type_name = waiting.popleft()
                for place, part, _ in self._parts(type_name):
                    name_it(part, f"{self._names[type_name]}.{place}")

        for root in self._roots:
            if self._element(root.type) != root.type:
                name_it(self._element(root.type), f"{root.name}.element")
            elif root.type not in self._names and self._has_definition(root.type) and self._may_name(root):
                self._names[root.type] = root.name
                waiting.append(root.type)
        name_parts()
        # What is left is used by several commands, all of which say something of their own.
        for root in self._roots:
            name_it(self._element(root.type), f"{root.name}.type")
        name_parts()

    def _may_name(self, root: _Root) -> bool:
        return root.plain or self._uses[root.type] == 1

    def _has_definition(self, type_name: str) -> bool:
        match self._introspection.type(type_name):
            case Builtin() | Array():
                return False
            case Object() as found:
                return bool(found.members)
            case _:
                return True

    # --- definitions

    def definitions(self) -> dict[str, Schema]:
        """All of `$defs`."""
        definitions: dict[str, Schema] = {}
        for type_name, name in self._names.items():
            found = self._introspection.type(type_name)
            match found:
                case Object():
                    if type_name not in self._branches:
                        definitions[name] = self._closed(found, self._members(found))
                        continue
                    # A branch stays open: the object that it belongs to has further members.
                    definitions[self._open_name(type_name)] = self._members(found)
                    if type_name in self._whole:
                        reference = {"$ref": f"#/$defs/{self._open_name(type_name)}"}
                        definitions[name] = {**reference, "unevaluatedProperties": False}
                case Alternate():
                    branches = [
                        self._reference(branch, ELEMENT_OF_BRANCH.format(alternate=type_name, branch=branch))
                        for branch in found.branches
                    ]
                    definitions[name] = {"anyOf": branches}
                case Enumeration():
                    definitions[name] = _enumeration(found)
        for root in self._roots:
            definitions[root.name] = self._root(root, definitions)
        return definitions

    def _root(self, root: _Root, definitions: dict[str, Schema]) -> Schema:
        if self._names.get(root.type) == root.name:
            schema = definitions[root.name]
        else:
            schema = self._reference(root.type, root.name)
        schema = {**schema, **_features(root.features)}
        if root.allow_oob:
            schema["x-qapi-allow-oob"] = True
        if root.unchecked:
            schema.pop("additionalProperties", None)
            schema.pop("unevaluatedProperties", None)
        return schema

    def _open_name(self, type_name: str) -> str:
        name = self._names[type_name]
        return f"{name}.members" if type_name in self._whole else name

    @staticmethod
    def _closed(found: Object, schema: Schema) -> Schema:
        # `unevaluatedProperties` looks into branches, which takes validators longer.
        keyword = "additionalProperties" if found.tag is None else "unevaluatedProperties"
        return {**schema, keyword: False}

    def _members(self, found: Object) -> Schema:
        schema: Schema = {"type": "object"}
        if found.features:
            schema.update(_features(found.features))
        schema["properties"] = {
            member.name: {**self._reference(member.type, f"{found.name}/{member.name}"), **_features(member.features)}
            for member in found.members
        }
        required = [member.name for member in found.members if not member.optional]
        if required:
            schema["required"] = required
        if found.tag is not None:
            branches = [
                {
                    "if": {"properties": {found.tag: {"const": case}}, "required": [found.tag]},
                    "then": {"$ref": f"#/$defs/{self._open_name(branch)}"},
                }
                for case, branch in sorted(found.variants.items())
                if branch in self._names
            ]
            if branches:
                schema["allOf"] = branches
        return schema

    def _reference(self, type_name: str, place: str) -> Schema:
        """The schema of a type where it is used: small ones in full, others by name."""
        found = self._introspection.type(type_name)
        match found:
            case Array():
                return {"type": "array", "items": self._reference(found.element, place)}
            case Builtin(name="int"):
                return _integer(self._hidden.integers.get(place))
            case Builtin():
                return dict(_BUILTINS[found.name])
            case Object() if not found.members:
                return {"type": "object", "additionalProperties": False}
            case _:
                return {"$ref": f"#/$defs/{self._names[type_name]}"}


def _integer(kind: str | None) -> Schema:
    if kind is None:
        return {"type": "integer"}
    low, high = INTEGER_RANGES[kind]
    return {"type": "integer", "minimum": low, "maximum": high, "x-qapi-type": kind}


def _enumeration(found: Enumeration) -> Schema:
    schema: Schema = {"type": "string", "enum": list(found.values)}
    if found.value_features:
        schema["x-qapi-value-features"] = {value: list(names) for value, names in sorted(found.value_features.items())}
    return schema


def _features(features: tuple[str, ...]) -> Schema:
    """`deprecated` has a keyword of its own in JSON Schema; the other features are kept under their names."""
    schema: Schema = {}
    if "deprecated" in features:
        schema["deprecated"] = True
    others = [feature for feature in features if feature != "deprecated"]
    if others:
        schema["x-qapi-features"] = others
    return schema
