#!/usr/bin/env bash
# Everything worth knowing of this project on a machine with a GPU and no network, in order of value, inside a time limit.
#
#   bash .gpu/first_run.sh [first|rest|again|all] [SECONDS] [KERNEL_GLOBS]
#
# first  facts, install, doctor, values, rates, a quick run, independent figures, counters, then what fits
# rest   the default run, models, memory checker, pytest -m gpu, counters
# again  after a fix, on the same or another machine: install, values (of KERNEL_GLOBS only, where given), rates, a quick run
# all    first and rest
#
# Each phase has its own limit, writes as it goes, and its failure ends no other. After each one $OUT has at most seven files:
# summary.md, phases.tsv, values.json, crosscheck.jsonl, run.json, log.txt and all.tgz, which holds the rest.
set -u
MODE=${1:-first} LIMIT=${2:-560} ONLY=${3:-}
SECONDS=0
RESERVE=${RESERVE:-12}  # for the last summary
KIT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=${ROOT:-$(dirname "$KIT")}
OUT=${OUT:-$KIT/out}
STATE=${STATE:-${TMPDIR:-/tmp}/gpu-first-run}  # not below .gpu/, which a second carrying may replace
WORK=$STATE/work
SITE=$STATE/site
PY=${PY:-python3}
DEVICE=${DEVICE:-cuda:0}
SMALL=${SMALL:-}          # --small for a rehearsal on an invented GPU
JOBS=${JOBS:-6}
mkdir -p "$OUT" "$WORK" "$STATE"
case $MODE in first|all) rm -rf "$WORK"; mkdir -p "$WORK" ;; again) rm -f "$WORK"/values.json ;; esac
export PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1 PYTHONPATH="$KIT:$SITE${PYTHONPATH:+:$PYTHONPATH}" MPLBACKEND=Agg PIP_DISABLE_PIP_VERSION_CHECK=1
export TRITON_CACHE_DIR=${TRITON_CACHE_DIR:-$STATE/triton} TERM=dumb COLUMNS=160
tool() { "$PY" -u "$KIT/gpu_first.py" "$@"; }
bench() { "$PY" -P -m microbench "$@"; }
export -f tool bench
export PY KIT WORK DEVICE SMALL ROOT SITE JOBS ONLY STATE

left() { echo $((LIMIT - RESERVE - SECONDS)); }

publish() {
  "$PY" -E -s "$KIT/summarise.py" "$WORK" "$ROOT" "$MODE" > "$WORK/summary.new" 2> "$WORK/summary.err" && mv "$WORK/summary.new" "$WORK/summary.md"
  [ -s "$WORK/summary.md" ] || cp "$WORK/summary.err" "$WORK/summary.md" 2>/dev/null
  local run; run=$(newest)
  [ -n "$run" ] && cp "$run" "$OUT/run.json.new" && mv "$OUT/run.json.new" "$OUT/run.json"
  for name in summary.md phases.tsv values.json crosscheck.jsonl log.txt; do
    [ -f "$WORK/$name" ] && cp "$WORK/$name" "$OUT/$name.new" && mv "$OUT/$name.new" "$OUT/$name"
  done
  tar -C "$WORK" -czf "$OUT/all.tgz.new" . 2>/dev/null && mv "$OUT/all.tgz.new" "$OUT/all.tgz"
}

newest() { ls -t "$WORK"/results/*/*.json 2>/dev/null | head -1; }

# phase NAME SECONDS COMMAND: its own limit or what is left; its output in WORK/NAME.log; a line in phases.tsv.
phase() {
  local name=$1 most=$2 command=$3 room began code said
  room=$(left)
  [ "$most" -lt "$room" ] && room=$most
  if [ "$room" -lt "${4:-8}" ]; then
    printf '%s\t%s\t-\tskipped: no time left\n' "$name" 0 >> "$WORK/phases.tsv"
    echo "== $name: skipped, no time left"
    return 1
  fi
  echo "== $name (at most $room s, at second $SECONDS)"
  began=$SECONDS
  export ROOM=$room
  timeout --kill-after=6 "$room" bash -c "$command" > "$WORK/$name.log" 2>&1 < /dev/null
  code=$?
  case $code in 0) said=done ;; 124|137) said="cut off at $room s" ;; *) said="exit $code" ;; esac
  printf '%s\t%s\t%s\t%s\n' "$name" $((SECONDS - began)) "$code" "$said" >> "$WORK/phases.tsv"
  { echo "==== $name: $said, $((SECONDS - began)) s"; tail -c 6000 "$WORK/$name.log"; } >> "$WORK/log.txt"
  tail -n "${SHOW:-6}" "$WORK/$name.log" | cut -c1-220
  echo "-- $name: $said, $((SECONDS - began)) s"
  [ "${QUIET:-}" ] || publish
  return $code
}

facts()    { phase A-facts 60 'tool facts --out "$WORK/facts.jsonl"'; }
install()  {
  phase B-install 300 '
    set -e
    rm -rf "$SITE.new"
    "$PY" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$SITE.new" "$KIT"/wheels/*.whl
    tag=$("$PY" -c "import sys; print(f\"cp{sys.version_info[0]}{sys.version_info[1]}\")")
    wheel=$(ls "$KIT"/project/*-$tag-*.whl 2>/dev/null | head -1)
    ok=
    if [ -n "$wheel" ] && [ -z "${BUILD:-}" ]; then
      "$PY" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$SITE.new" "$wheel" && \
      PYTHONPATH=$SITE.new "$PY" -P -c "import microbench._cpu, microbench._cuda; print(microbench._cuda.build_info())" && ok="wheel"
    fi
    if [ -z "$ok" ]; then
      echo "no wheel that works here: building"
      rm -rf "$STATE/src"; mkdir -p "$STATE/src"
      (cd "$ROOT" && tar -cf - pyproject.toml CMakeLists.txt README.md LICENSE csrc microbench) | tar -xpf - -C "$STATE/src"
      cd "$STATE/src"
      targets=${ARCH:-sm_90a}; [ "$targets" = all ] && targets=
      MICROBENCH_CUDA_TARGETS=$targets CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) "$PY" -m pip install -q --no-index --no-deps --no-build-isolation --no-compile --no-cache-dir --upgrade -C build-dir="$STATE/build" --target "$SITE.new" .
      PYTHONPATH=$SITE.new "$PY" -P -c "import microbench._cpu, microbench._cuda; print(microbench._cuda.build_info())" && ok=built
    fi
    rm -rf "$SITE"; mv "$SITE.new" "$SITE"
    echo "installed: $ok"
    cd "$WORK" && "$PY" -m pip check 2>&1 | grep -i microbench || echo "pip check names no missing requirement of microbench"'
}
doctor()   { phase C-doctor 90 'cd "$WORK"; bench doctor --device "$DEVICE" --json doctor.json; echo "doctor: exit $?"; bench list kernels --device "$DEVICE" --csv kernels.csv | tail -1; bench list devices; bench run --device "$DEVICE" --dry-run --csv plan.csv | tail -3'; }
values()   { phase D-values 170 'cd "$WORK"; rm -f values.json; bench check --device "$DEVICE" --jobs $JOBS --time-limit $((ROOM - 8))s --json values.json ${ONLY:+--only "$ONLY"}' 15; }
rates()    { phase D2-rates 90 'cd "$WORK"; rm -f rates.jsonl; tool watch --jobs 1 --limit $((ROOM - 6)) --out rates.jsonl --device "$DEVICE" --groups plain,stream,mma,wgmma,shared,chase,links,intensity ${ONLY:+--only "$ONLY"}'; }
quick()    { phase E-quick 110 'cd "$WORK"; bench run --device "$DEVICE" --quick ${SMALL:+--time-limit 4s} --out results --json quick-ceilings.json'; }
whole()    { phase E2-default 260 'cd "$WORK"; bench run --device "$DEVICE" ${SMALL:+--time-limit 4s} --out results --json default-ceilings.json' 100; }
cross()    { phase F-torch 90 'cd "$WORK"; rm -f crosscheck.jsonl; tool crosscheck --out crosscheck.jsonl $SMALL'; }
probe()    { phase F2-probe 60 'cd "$WORK"; probe=$KIT/probe; [ -x "$probe" ] && "$probe" version >/dev/null 2>&1 || { nvcc -O3 -std=c++17 -gencode=arch=compute_90a,code=sm_90a -o "$STATE/probe" "$KIT/probe.cu" && probe=$STATE/probe; }; "$probe" > probe.jsonl.new; code=$?; grep "^{" probe.jsonl.new > probe.jsonl; cat probe.jsonl; exit $code'; }
counted()  { phase G-counters 150 'cd "$WORK"; command -v ncu >/dev/null || { echo "no ncu here"; exit 1; }; rm -f counters.jsonl; tool counters --out counters.jsonl --limit $((ROOM - 5)) --device "$DEVICE" $SMALL'; }
sanitize() { phase H-memcheck 200 'cd "$WORK"; command -v compute-sanitizer >/dev/null || { echo "no compute-sanitizer here"; exit 1; }; rm -f sanitizer-*.log memcheck.json
  export CUDA_LAUNCH_BLOCKING=1
  bench check --device "$DEVICE" --backend cuda --jobs $JOBS --kernel-limit 90s --time-limit $((ROOM - 8))s --json memcheck.json \
    --under "compute-sanitizer --tool memcheck --log-file sanitizer-%p.log --print-limit 20 --target-processes all"; code=$?
  grep -h "ERROR SUMMARY\|Invalid\|Out-of-range\|Misaligned" sanitizer-*.log | sort | uniq -c | sort -rn | head -20; exit $code' 40; }
models()   { phase I-models 120 'cd "$WORK"; rm -f models.jsonl; c=$(ls -t results/*/*.json 2>/dev/null | head -1); tool models --out models.jsonl --limit $((ROOM - 5)) ${c:+--calibration "$c"}' 25; }
validate() { phase I2-validate 110 'cd "$WORK"; c=$(ls -t results/*/*.json 2>/dev/null | head -1); bench validate --device "$DEVICE" --calibration "$c" --time-limit 40s --csv validate.csv --png validate.png' 60; }
tests()    { phase J-pytest 150 'cd "$ROOT"; PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 "$PY" -m pytest -m gpu -q -rA -o addopts=--import-mode=importlib -p no:cacheprovider --durations=5 tests/runs/test_gpu.py' 50; }
# What the audit could not decide without hardware: event against span, schedules of packed halves, L2 balance, layouts and switches of library products.
questions() { phase L-questions 110 'cd "$WORK"; "$PY" -u "$KIT/questions.py" ${SMALL:+--no-torch --installed-only --lengths 1} > questions.txt 2>&1; code=$?; tail -60 questions.txt; exit $code' 25; }
# The other way to machine code: the shipped sources compiled on this machine by NVRTC.
nvrtc()    { phase K-nvrtc 120 'cd "$WORK"; rm -f nvrtc.json; export MICROBENCH_CUDA_CODE=nvrtc XDG_CACHE_HOME=$STATE/nvrtc-cache; bench list kernels --device "$DEVICE" --csv kernels-nvrtc.csv | tail -1
  bench check --device "$DEVICE" --backend cuda --jobs $JOBS --time-limit $((ROOM - 8))s --json nvrtc.json' 25; }

case $MODE in
  first|all)
    QUIET=1 facts & one=$!
    QUIET=1 install; wait $one; publish
    doctor; values; rates; quick; cross; probe; counted
    if [ "$MODE" = all ] || [ "$(left)" -gt 120 ]; then questions; whole; models; sanitize; nvrtc; validate; tests; fi ;;
  rest)
    [ -f "$WORK/facts.jsonl" ] || facts
    QUIET=1 install
    questions; whole; models; sanitize; counted; nvrtc; validate; tests ;;
  again)
    [ -f "$WORK/facts.jsonl" ] || { QUIET=1 facts & }
    QUIET=1 install; wait; publish
    values; rates; quick; cross; probe; counted ;;
  *) echo "modes: first rest again all"; exit 2 ;;
esac
publish
echo; echo "==== summary (second $SECONDS)"; head -c 9000 "$OUT/summary.md"
