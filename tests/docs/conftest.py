"""What tests of the documentation share with those of test runs."""

from tests.testing.inner import modules_stay

__all__ = ["modules_stay"]
