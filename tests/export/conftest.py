"""Fixtures of the export tests."""

import pytest

from tests.export.examples import BUILDER


@pytest.fixture
def trusted(monkeypatch):
    """The examples' package may be named in manifests."""
    monkeypatch.setenv("GOSSAMER_ALLOW_TARGETS", "tests")


@pytest.fixture
def builder(trusted):
    return dict(BUILDER)
