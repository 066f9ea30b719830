from __future__ import annotations

import msgspec
import pytest
from places import DATA

from microbench.records import Characterisation, Device


@pytest.fixture(scope="session")
def fake_cpu() -> Characterisation:
    """A made-up CPU; tests/data/make_fake_cpu.py writes the file."""
    return msgspec.json.decode((DATA / "fake-cpu.json").read_bytes(), type=Characterisation)


@pytest.fixture(scope="session")
def fake_cuda() -> Characterisation:
    """A made-up GPU; tests/data/make_fake_cuda.py writes the file."""
    return msgspec.json.decode((DATA / "fake-cuda.json").read_bytes(), type=Characterisation)


@pytest.fixture(scope="session")
def bare() -> Characterisation:
    """As little as a characterisation can be: what ``fit`` writes before it learnt anything."""
    device = Device(id="0", kind="cpu", name="Bare (made up for tests)", arch="none")
    return Characterisation(schema="1.0", device=device, environment=None, plan=None)
