"""Validating arguments, replies and events against a release's JSON Schema.

For tests, and for the few messages that somebody else makes up; a command's arguments are checked by
`Command.check`, which is fast and has QEMU's words. jsonschema is imported with the first validation.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Protocol

    from jsonschema.protocols import Validator

    class HasDirectory(Protocol):
        """A release, as far as it matters here."""

        @property
        def directory(self) -> Path:
            """The release's folder, which has `schema.json`."""


class NotValid(Exception):  # noqa: N818 - the name says what happened
    """A message does not fit the release's schema; the text says where and why."""


def validate_arguments(release: HasDirectory, command: str, arguments: Mapping[str, object]) -> None:
    """Check a command's arguments.

    :raise NotValid: they do not fit.
    :raise KeyError: the release has no such command.
    """
    _validate(release, f"{command}.arguments", arguments)


def validate_reply(release: HasDirectory, command: str, value: object) -> None:
    """Check what a command returns: the value of `return` in the reply.

    :raise NotValid: it does not fit.
    :raise KeyError: the release has no such command.
    """
    _validate(release, f"{command}.return", value)


def validate_event(release: HasDirectory, name: str, data: Mapping[str, object] | None) -> None:
    """Check an event's `data`; None where the event has none.

    :raise NotValid: it does not fit.
    :raise KeyError: the release has no such event.
    """
    _validate(release, f"{name}.data", {} if data is None else data)


def _validate(release: HasDirectory, definition: str, value: object) -> None:
    explain(_schemas(release.directory), definition, value)


def explain(schemas: Schemas, definition: str, value: object) -> None:
    """Check a value against one definition; see `validate_reply`.

    :raise NotValid: it does not fit.
    :raise KeyError: there is no such definition.
    """
    from jsonschema.exceptions import best_match

    error = best_match(schemas.validator(definition).iter_errors(value))  # type: ignore[arg-type]
    if error is not None:
        raise NotValid(f"{definition}: {error.json_path}: {error.message}")


@cache
def _schemas(directory: Path) -> Schemas:
    return Schemas(json.loads((directory / "schema.json").read_bytes()))


class Schemas:
    """One release's schema document, and a validator for each definition that was asked for."""

    def __init__(self, document: dict[str, Any]) -> None:
        """Take a document as `qmpd.qapi.json_schema.derive` makes it."""
        from jsonschema import Draft202012Validator
        from jsonschema.validators import extend
        from referencing import Registry, Resource

        self._document = document
        self._registry: Registry[Any] = Resource.from_contents(document) @ Registry()
        # To JSON Schema 1.0 is an integer; to QEMU it is not.
        strict = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
        self._kind = extend(Draft202012Validator, type_checker=strict)  # type: ignore[no-untyped-call]
        self._validators: dict[str, Validator] = {}

    def validator(self, definition: str) -> Validator:
        """The validator of one of the document's `$defs`.

        :raise KeyError: there is no such definition.
        """
        known = self._validators.get(definition)
        if known is None:
            if definition not in self._document["$defs"]:
                raise KeyError(definition)
            reference = {"$ref": f"{self._document['$id']}#/$defs/{definition}"}
            known = self._validators[definition] = self._kind(reference, registry=self._registry)
        return known
