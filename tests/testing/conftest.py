"""What tests of test runs share."""

from tests.testing.inner import modules_stay

__all__ = ["modules_stay"]
