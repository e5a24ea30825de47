"""Groups of limits as objects: what is set is put over what there is, as releases 5.2 to 11.1 do it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.block.support import Monitor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.testing import VMFactory


@pytest.fixture
def group(qmpd: VMFactory) -> Iterator[Monitor]:
    monitor = Monitor(qmpd().qmp_path)
    monitor("object-add", qom_type="throttle-group", id="g", limits={"iops-total": 1000})
    yield monitor
    monitor.close()


def get(group: Monitor, name: str = "limits") -> Any:
    return group("qom-get", path="g", property=name)["return"]


def put(group: Monitor, name: str, value: object) -> dict[str, Any]:
    return group("qom-set", path="g", property=name, value=value)


def test_all_limits_are_told(group: Monitor) -> None:
    found = get(group)
    assert found["iops-total"] == 1000
    assert found["bps-read-max-length"] == 1
    assert len(found) == 19
    assert get(group, "x-iops-total") == 1000


def test_what_is_set_is_put_over_what_there_is(group: Monitor) -> None:
    put(group, "limits", {"iops-total": 0, "bps-read": 5, "bps-read-max": 10, "bps-read-max-length": 3})
    put(group, "limits", {})
    found = get(group)
    assert (found["iops-total"], found["bps-read"], found["bps-read-max-length"]) == (0, 5, 3)
    assert get(group, "x-bps-read") == 5


REFUSED = (
    ("limits", {"iops-read": 10}, "bps/iops/max total values and read/write values cannot be used at the same time"),
    ("limits", {"foo": 0, "bps-total": 5}, "Parameter 'limits.foo' is unexpected"),
    ("limits", {"bps-total": "5"}, "Invalid parameter type for 'limits.bps-total', expected: integer"),
    ("limits", {"bps-write-max-length": 1 << 33}, "bps-write-max-length value must be in the range [0, 4294967295]"),
    ("limits", 5, "Invalid parameter type for 'limits', expected: object"),
    ("x-bps-read", 5, "Property cannot be set after initialization"),
)


@pytest.mark.parametrize(("name", "value", "text"), REFUSED)
def test_what_does_not_go_with_it_is_refused(group: Monitor, name: str, value: object, text: str) -> None:
    before = get(group)
    assert put(group, name, value)["error"]["desc"] == text
    assert get(group) == before
