"""What a qcow2 node can be told beside where it is (QEMU's block/qcow2.c, `qcow2_update_options_prepare`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.block.values import is_on, number
from qmpd.common.refusals import Refusal
from qmpd.option_language.key_values import BOOL, NUMBER, SIZE, check_flat_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.block.images.qcow2.header import Header

_PARTS = (
    "main-header", "active-l1", "active-l2", "refcount-table", "refcount-block", "snapshot-table", "inactive-l1",
    "inactive-l2", "bitmap-directory",
)  # fmt: skip
_OVERLAP, _TEMPLATE = "overlap-check", "overlap-check.template"
KINDS = {
    "lazy-refcounts": BOOL, "pass-discard-request": BOOL, "pass-discard-snapshot": BOOL, "pass-discard-other": BOOL,
    "discard-no-unref": BOOL, _OVERLAP: "", _TEMPLATE: "", **{f"{_OVERLAP}.{part}": BOOL for part in _PARTS},
    "cache-size": SIZE, "l2-cache-size": SIZE, "l2-cache-entry-size": SIZE, "refcount-cache-size": SIZE,
    "cache-clean-interval": NUMBER,
}  # fmt: skip
"""The types of the options, by their names with dots; none for text."""
_TEMPLATES = ("none", "constant", "cached", "all")
_SMALLEST_ENTRY, _MOST_SECONDS = 512, (1 << 32) - 1


def check_options(header: Header, options: Mapping[str, Any]) -> None:
    """Refuse what an image, or its driver, cannot be told.

    :raise Refusal: it is told that.
    """
    given = {name: value for name, value in _flat(options).items() if name in KINDS and value is not None}
    if not given:
        return
    check_flat_list([(name, value) for name, value in given.items() if isinstance(value, str) and KINDS[name]], KINDS)
    _check_caches(header, {name: number(value) for name, value in given.items() if KINDS[name] == SIZE})
    if not 0 <= number(given.get("cache-clean-interval", 0)) <= _MOST_SECONDS:
        raise Refusal("qcow2-cache-interval")
    if header.version < 3 and is_on(given.get("lazy-refcounts")):
        raise Refusal("qcow2-lazy-refcounts")
    _check_templates(given.get(_OVERLAP), given.get(_TEMPLATE))


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    overlap = options.get(_OVERLAP)
    if not isinstance(overlap, dict):
        return dict(options)
    return {**options, _OVERLAP: None, **{f"{_OVERLAP}.{name}": value for name, value in overlap.items()}}


def _check_caches(header: Header, sizes: dict[str, int]) -> None:
    whole, tables, counts = (sizes.get(name) for name in ("cache-size", "l2-cache-size", "refcount-cache-size"))
    if whole is not None:
        if tables is not None and counts is not None:
            raise Refusal("qcow2-caches-all")
        for name, size in (("l2-cache-size", tables), ("refcount-cache-size", counts)):
            if size is not None and size > whole:
                raise Refusal("qcow2-cache-larger", name=name)
    entry = sizes.get("l2-cache-entry-size", header.cluster_size)
    if not _SMALLEST_ENTRY <= entry <= header.cluster_size or entry & entry - 1:
        raise Refusal("qcow2-cache-entry", least=_SMALLEST_ENTRY, most=header.cluster_size)


def _check_templates(short: str | None, template: str | None) -> None:
    if short is not None and template is not None and short != template:
        raise Refusal("qcow2-overlap-twice", short=short, template=template)
    wanted = short if short is not None else template
    if wanted is not None and wanted not in _TEMPLATES:
        raise Refusal("qcow2-overlap-check", value=wanted)
