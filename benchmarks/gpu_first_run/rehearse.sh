#!/usr/bin/env bash
# In a checkout that pack.sh has packed, without a GPU: run the kit against the invented GPU of tests/fakes.
#
#   PY=python bash benchmarks/gpu_first_run/rehearse.sh again 120        # PY: a Python with the project's requirements (3.12, as the wheel was built for)
set -euo pipefail
REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
FOLDER=$(mktemp -d)
eval "$(cd "$REPO" && "${PY:-python3}" - "$FOLDER" <<'PYTHON'
import sys
sys.path[:0] = ["tests", "tests/fakes"]
from pathlib import Path
from fake_gpu import FakeGpu, FakeMachine
machine = FakeMachine(folder=Path(sys.argv[1]), gpus=(FakeGpu(name="NVIDIA H100 80GB HBM3 (fake)"),))
for name, value in machine.environment().items():
    if name in ("LD_LIBRARY_PATH", "MB_FAKE_GPU", "XDG_CACHE_HOME"):
        print(f"export {name}='{value}'")
PYTHON
)"
export SMALL=--small JOBS=${JOBS:-2} OUT=${OUT:-$FOLDER/out} STATE=$FOLDER/state
echo "results in $OUT"
exec bash "$REPO/.gpu/first_run.sh" "$@"
