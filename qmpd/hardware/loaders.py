"""What the devices refuse that put bytes into the guest's memory at its start (QEMU's hw/core/*-loader.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.common.computer import Computer

    Values = Mapping[str, Any]

_MOST_BYTES = 8
_NO_CPU = 0xFFFFFFFF
_MIB = 20


def check_loader(given: Values, computer: Computer, cpus: int, memory: int) -> None:
    """Refuse what a `loader` is given, in a machine of so many CPUs and bytes of memory.

    :raise Refusal: it cannot do that.
    """
    file, cpu = given.get("file"), given.get("cpu-num", _NO_CPU)
    if given.get("data") or given.get("data-len") or given.get("data-be"):
        _check_data(given)
    elif not file and not given.get("force-raw"):
        if not given.get("addr"):
            raise Refusal("loader-arguments")
        if cpu == _NO_CPU:
            raise Refusal("loader-cpu-needed")
    if cpu != _NO_CPU and cpu >= cpus:
        raise Refusal("loader-cpu-missing", cpu=cpu)
    if file:
        _check_file(file, computer, memory)


def _check_data(given: Values) -> None:
    if given.get("file"):
        raise Refusal("loader-file-and-data")
    if given.get("force-raw"):
        raise Refusal("loader-raw-and-data")
    if not given.get("data-len"):
        raise Refusal("loader-data-alone")
    if given["data-len"] > _MOST_BYTES:
        raise Refusal("loader-data-long")


def _check_file(path: str, computer: Computer, memory: int) -> None:
    if computer.is_folder(path):
        raise Refusal("loader-file-large", path=path, size=memory >> _MIB)
    try:
        computer.check_readable(path)
    except OSError as error:
        raise Refusal("loader-file-missing", path=path, reason=error.strerror) from None


def check_guest_loader(given: Values) -> None:
    """Refuse what a `guest-loader` is given.

    :raise Refusal: it cannot do that.
    """
    kernel, initrd = given.get("kernel"), given.get("initrd")
    if kernel and initrd:
        raise Refusal("guest-loader-both")
    if not kernel and not initrd:
        raise Refusal("guest-loader-neither")
    if not given.get("addr"):
        raise Refusal("guest-loader-address")
    if given.get("bootargs") and not kernel:
        raise Refusal("guest-loader-arguments")
