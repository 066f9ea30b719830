"""What the probe says where there is no GPU, and the tables it reads."""

from __future__ import annotations

import pytest

from microbench import hardware
from microbench.errors import CannotRun
from microbench.hardware import cuda

_cuda = pytest.importorskip("microbench._cuda")


@pytest.mark.skipif(_cuda.driver_version() != 0, reason="an NVIDIA driver is installed")
def test_without_a_driver_the_probe_says_what_why_and_what_to_do_in_one_sentence() -> None:
    with pytest.raises(CannotRun) as caught:
        hardware.probe("cuda:0")
    assert caught.value.exit_code == 3
    said = str(caught.value)
    assert "libcuda.so.1" in said
    assert "install the NVIDIA driver" in said
    assert "--device cpu" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((7, 5), ("sm_75",)),
        ((8, 6), ("sm_86", "sm_80")),
        ((9, 0), ("sm_90a", "sm_90")),
        ((10, 3), ("sm_103a", "sm_103f", "sm_100f", "sm_103", "sm_100")),
        ((12, 1), ("sm_121a", "sm_121f", "sm_120f", "sm_121", "sm_120")),
        ((13, 0), ("sm_130",)),
    ],
)
def test_a_device_runs_its_own_code_its_familys_and_lower_minors_of_its_major(
    capability: tuple[int, int], expected: tuple[str, ...]
) -> None:
    assert cuda.targets(*capability) == expected


def test_every_driver_function_is_named_once_and_by_its_versioned_export() -> None:
    names = [name for name, _ in _cuda.exports()]
    assert len(names) == len(set(names))
    assert {"cuMemAlloc_v2", "cuEventDestroy_v2", "cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags"} <= set(
        names
    )
    assert not {
        "cuMemAlloc",
        "cuEventDestroy",
        "cuStreamBeginCapture",
        "cuGraphInstantiate",
        "cuDevicePrimaryCtxReset_v2",
    } & set(names)
