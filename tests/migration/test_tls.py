"""Migrations with TLS around their channels, as measured on the real programs."""

from __future__ import annotations

import shutil
import ssl
from typing import TYPE_CHECKING

import pytest

from tests.block.test_exports import make_certificates

if TYPE_CHECKING:
    from pathlib import Path

    from tests.migration.support import Side, Sides

RELEASES = ("5.2", "7.2", "10.0", "11.1")
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("certificates")
    make_certificates(made)
    return made


def _credentials(folder: Path, endpoint: str, kind: str = "x509") -> list[str]:
    return ["-object", f"tls-creds-{kind},id=t,endpoint={endpoint},dir={folder}"]


def _pair(sides: Sides, release: str, here: list[str], there: list[str]) -> tuple[Side, Side]:
    made = sides.one(release, *here), sides.one(release, *there, "-incoming", "defer")
    for each, options in zip(made, (here, there), strict=True):
        if options:
            assert each("migrate-set-parameters", tls_creds="t") == {}
    return made


@pytest.mark.parametrize("channels", [0, 3])
@pytest.mark.parametrize("release", RELEASES)
def test_a_machine_goes_with_tls(sides: Sides, folder: Path, release: str, channels: int) -> None:
    here, there = _pair(sides, release, _credentials(folder, "client"), _credentials(folder, "server"))
    for each in (here, there):
        if channels:
            each.capabilities("multifd")
            each("migrate-set-parameters", multifd_channels=channels)
    assert there("migrate-incoming", uri="tcp:127.0.0.1:0") == {}
    [address] = there.migration["socket-address"]
    here("migrate", uri=f"tcp:127.0.0.1:{address['port']}")
    assert here.until("completed")[-1] == there.until("completed")[-1] == "completed"
    assert (here.state, there.state) == ("postmigrate", "running")


# Which credentials each side has, the name in the parameters, why it fails, and whether the other side waits on.
_NAMELESS = "No hostname for certificate validation"
_ENDED = "TLS handshake failed: The TLS connection was non-properly terminated."
_FAILURES = [
    *((release, "client", "server", "elsewhere", "Certificate does not match the hostname elsewhere", False)
      for release in RELEASES),
    *((release, "client", "server", "", _NAMELESS, False) for release in RELEASES[1:]),
    ("5.2", "client", "server", "", "No hostname available for TLS", True),
    *((release, "server", "server", "x", "Expected TLS credentials for a client endpoint", True)
      for release in RELEASES),
    *((release, "client", "client", "x", _ENDED, release in ("5.2", "7.2")) for release in RELEASES),
    *((release, "client", "", "x", _ENDED, False) for release in RELEASES),
]  # fmt: skip


@pytest.mark.parametrize(("release", "mine", "theirs", "name", "why", "waits"), _FAILURES)
def test_what_is_wrong_with_credentials(
    sides: Sides, folder: Path, tmp_path: Path, release: str, mine: str, theirs: str, name: str, why: str, waits: bool
) -> None:
    here, there = _pair(
        sides, release, _credentials(folder, mine), _credentials(folder, theirs) if theirs else []
    )
    here("migrate-set-parameters", tls_hostname=name)
    place = f"unix:{tmp_path}/m.sock"
    there("migrate-incoming", uri=place)
    here("migrate", uri=place)
    here.until("failed")
    assert here.migration == {"status": "failed", "error-desc": why}
    assert here.state == "running"
    if waits:
        assert there.state == "inmigrate"
    else:
        assert there.is_at_end()


def test_credentials_that_are_missing_and_who_speaks_no_tls(sides: Sides, folder: Path, tmp_path: Path) -> None:
    there = sides.one("7.2", *_credentials(folder, "server"), "-incoming", "defer")
    there("migrate-set-parameters", tls_creds="t")
    place = f"unix:{tmp_path}/m.sock"
    there("migrate-incoming", uri=place)
    here = sides.one("7.2")
    here("migrate", uri=place)
    here.until("failed")
    here("migrate-set-parameters", tls_creds="none", tls_hostname="localhost")
    here("migrate", uri=place)
    here.until("failed")
    assert here.migration["error-desc"] == "No TLS credentials with id 'none'"
    assert here("migrate", uri="exec:cat >/dev/null") == "qmpd does not model TLS around a command or a file"
    # Who waits goes on waiting, and takes the one that comes as it should.
    here("object-add", qom_type="tls-creds-x509", id="t", endpoint="client", dir=str(folder))
    here("migrate-set-parameters", tls_creds="t")
    here("migrate", uri=place)
    assert here.until("completed")[-1] == there.until("completed")[-1] == "completed"


@pytest.mark.skipif(not hasattr(ssl.SSLContext, "set_psk_client_callback"), reason="this Python has no keys for TLS")
def test_keys_that_both_have(sides: Sides, tmp_path: Path) -> None:
    (tmp_path / "keys.psk").write_text("qemu:0123456789abcdef\n")
    here, there = _pair(
        sides, "7.2", _credentials(tmp_path, "client", "psk"), _credentials(tmp_path, "server", "psk")
    )
    place = f"unix:{tmp_path}/m.sock"
    there("migrate-incoming", uri=place)
    here("migrate", uri=place)
    assert here.until("completed")[-1] == there.until("completed")[-1] == "completed"


@pytest.mark.skipif(hasattr(ssl.SSLContext, "set_psk_client_callback"), reason="this Python has keys for TLS")
def test_keys_that_this_python_does_not_know(sides: Sides, tmp_path: Path) -> None:
    (tmp_path / "keys.psk").write_text("qemu:0123456789abcdef\n")
    here, there = _pair(
        sides, "7.2", _credentials(tmp_path, "client", "psk"), _credentials(tmp_path, "server", "psk")
    )
    place = f"unix:{tmp_path}/m.sock"
    why = "qmpd does not model tls-creds-psk before Python 3.13"
    assert there("migrate-incoming", uri=place) == here("migrate", uri=place) == why
    assert here.migration == {"status": "failed", "error-desc": why}
    assert (here.state, there.state) == ("running", "inmigrate")
