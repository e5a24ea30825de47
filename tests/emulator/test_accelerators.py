"""What query-accelerators and query-kvm say; libvirt asks both, and for ever where they do not agree."""

from __future__ import annotations

import json

import pytest

from tests.emulator.support import run


@pytest.mark.parametrize("name", ["kvm", "tcg", "qtest"])
def test_the_accelerator_that_is_asked_for_is_told(name: str) -> None:
    asked = ("qmp_capabilities", "query-accelerators", "query-kvm", "quit")
    text = "".join(json.dumps({"execute": each}) for each in asked)
    line = ["-M", "none", "-nodefaults", "-display", "none", "-qmp", "stdio", "-accel", name]
    said = [json.loads(each) for each in run(*line, text=text, release="11.1").stdout.splitlines()]
    accelerators, kvm = [each["return"] for each in said if each.get("return")]
    assert accelerators == {"enabled": name, "present": ["kvm", "mshv", "qtest", "tcg"]}
    assert kvm == {"enabled": name == "kvm", "present": True}
