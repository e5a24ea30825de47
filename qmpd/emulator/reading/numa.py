"""`-numa`: each list of keys as what `set-numa-node` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.refusals import Refusal
from qmpd.hardware.numa import NumaError
from qmpd.option_language import typed_values
from qmpd.option_language.errors import NOWHERE, OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.hardware.numa import Numa
    from qmpd.option_language.groups import Entry
    from qmpd.qapi.release import Release


def take(release: Release, numa: Numa, entry: Entry) -> dict[str, object]:
    """Take one `-numa`; gives what it says.

    :raise OptionError: it is wrong.
    """
    try:
        values = typed_values.from_pairs(release, typed_values.argument_type(release, "set-numa-node"), entry.pairs)
        numa.take(values)
    except Refusal as error:
        raise error.at(entry.location) from None
    except NumaError as error:
        raise entry.error(error.message, error.hint) from None
    return values


def check(look: Callable[[], None]) -> None:
    """Have something looked at when all nodes are there.

    :raise OptionError: it is refused.
    """
    try:
        look()
    except NumaError as error:
        raise OptionError(error.message, NOWHERE, error.hint) from None
