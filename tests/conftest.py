"""Order of the tests."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the tests that run pipelines: they take longest, and should not keep one worker busy at the end."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)
