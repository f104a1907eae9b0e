"""What the tests of feed share."""

from __future__ import annotations

import pytest
from kit.ahead import ignore_other_children


@pytest.fixture(autouse=True)
def only_own_children():
    """Other tests of the same run may have left processes, such as those of a cluster."""
    ignore_other_children()
