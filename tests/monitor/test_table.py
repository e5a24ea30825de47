"""The table by which a command's module is found is what the modules themselves say."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest

from qmpd.monitor import commands
from qmpd.monitor.registry import HANDLERS

TABLE = {**commands.MODULES, **commands.EXTENDING}


@pytest.mark.parametrize("name", [each.name for each in pkgutil.iter_modules(commands.__path__)])
def test_a_module_of_commands_has_the_commands_that_the_table_tells(name: str) -> None:
    module = import_module(f"{commands.__name__}.{name}").__name__
    assert [known for known, handler in HANDLERS.items() if handler.__module__ == module] == list(TABLE.get(name, ()))


def test_a_command_that_is_not_modelled_has_no_handler() -> None:
    assert commands.handler("query-sgx") is None
