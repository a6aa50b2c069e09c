"""Order of the tests."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that run pipelines first: their files take longest, and a run must not end with one worker busy."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)
