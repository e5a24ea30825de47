"""The tests.

Under `python -O` their own asserts go on being checked, also those of what they share: pytest writes them anew, but
for this file, which has none (PYTEST_DONT_REWRITE).
"""

import pytest

pytest.register_assert_rewrite("tests")
