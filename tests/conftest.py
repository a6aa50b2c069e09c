"""Order and device of the tests."""

import os

import pytest

# Tests compare with tensors on the CPU. Those of the choice of a device set or delete this; those of CUDA name theirs.
os.environ.setdefault("DMEMM_DEVICE", "cpu")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the tests that run pipelines: they take longest, and should not keep one worker busy at the end."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)
