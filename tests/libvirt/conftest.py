"""The libvirtd that the tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.libvirt.support import Libvirt


@pytest.fixture(scope="package")
def libvirt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libvirt]:
    """A private libvirtd, for all tests of the folder."""
    with Libvirt(tmp_path_factory.mktemp("libvirt")) as running:
        yield running
