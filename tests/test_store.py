from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microbench import files, store
from microbench.errors import CannotRun, UsageError
from microbench.records import (
    Budget,
    Case,
    Ceiling,
    Characterisation,
    Cost,
    Device,
    Environment,
    Estimate,
    Finding,
    Fits,
    LevelSeen,
    MemoryLevel,
    OperatorFit,
    Plan,
    Proof,
    RooflineFit,
    RoofPoint,
    Samples,
    Sheet,
    Work,
)

DEVICE = Device(
    id="1f2e3d4c5b6a",
    kind="cpu",
    name="Example(R) CPU @ 2.50GHz",
    arch="cascadelake",
    units_by_kind={"core": 2},
    levels=(MemoryLevel(name="L1", capacity_bytes=32768, line_bytes=64, ways=8, shared_by=1),),
    features=("avx2", "avx512f"),
)
CASE = Case(kernel="fma.f32.avx512", params={"pages": "huge", "working_set": 24576, "ratio": 0.5, "gated": True})
SAMPLES = Samples(
    case=CASE.key, round=0, started_s=0.25, iterations=1000, ns=(1000, 900, 950), count=3, companion_ns=(10, 11, 12), checked=True
)


def characterisation(samples: tuple[Samples, ...] = (SAMPLES,)) -> Characterisation:
    rate = Estimate(value=153e9, low=152e9, high=153.6e9, basis="third best round .. nominal")
    return Characterisation(
        schema=store.SCHEMA,
        device=DEVICE,
        environment=Environment(
            started="2026-01-01T12:00:00Z", seconds=12.5, microbench="0.1.0", facts={"kernel": "6.1", "quota": None, "cpus": 2}
        ),
        plan=Plan(cases=(CASE,), budget=Budget(name="quick", time_limit_s=30.0), seed=7),
        sheets=(
            Sheet(
                name="fma.f32.avx512", measures="compute", backend="native", device_kind="cpu", says="FMA", dtype="f32", work=Work(flop=768)
            ),
        ),
        samples=samples,
        ceilings=(
            Ceiling(
                name="compute.f32.vector",
                measures="compute",
                backend="native",
                rate=rate,
                case=CASE.key,
                dtype="f32",
                proof=Proof(status="proven", tool="objdump", expected={"math": 24}, found={"math": 24}),
            ),
        ),
        costs=(Cost(name="latency", level="L1", seconds=Estimate(value=1.3e-9, low=1.3e-9, high=1.4e-9)),),
        fits=Fits(
            levels=(LevelSeen(name="L1", seen_by="chase", low_bytes=8192, high_bytes=32768, value=1.3e-9),),
            rooflines=(
                RooflineFit(
                    dtype="f32",
                    unit="vector",
                    threads=1,
                    peak=153e9,
                    bandwidth={"L1": 345e9},
                    ridge={"L1": 0.44},
                    points=(RoofPoint(intensity=0.25, rate=80e9, level="L1", fitted=86e9),),
                ),
            ),
            operators=(OperatorFit(family="matmul", dtype="f32", rows=12, points=((1.0, 2.0), (3.0, 4.0)), residuals=(0.1, -0.1)),),
        ),
        findings=(Finding(code="steal", severity="warning", says="1 % stolen", remedy="measure at night"),),
    )


# --- round trips -----------------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back_the_same() -> None:
    assert store.loads(store.dumps(characterisation())) == characterisation()


def test_a_file_from_fit_has_neither_environment_nor_plan() -> None:
    fitted = Characterisation(schema=store.SCHEMA, device=DEVICE, environment=None, plan=None)
    assert store.loads(store.dumps(fitted)) == fitted


finite = st.floats(min_value=1e-12, max_value=1e18)
words = st.text(max_size=12)
estimates = st.tuples(finite, finite, finite).map(sorted).map(lambda v: Estimate(low=v[0], value=v[1], high=v[2]))
samples_rows = st.builds(
    Samples,
    case=words,
    round=st.integers(0, 60),
    started_s=finite,
    iterations=st.integers(1, 10**12),
    ns=st.lists(st.integers(1, 10**12), min_size=1, max_size=20).map(tuple),
    count=st.integers(1, 10**6),
    clock_hz=st.lists(finite, max_size=3).map(tuple),
    throttled=st.integers(0, 5),
    checked=st.none() | st.booleans(),
    steal_s=st.none() | finite,
    stop=st.sampled_from(["time", "count"]),
)
facts = st.dictionaries(words, st.none() | st.booleans() | st.integers(-(10**15), 10**15) | finite | words, max_size=4)


@given(
    rows=st.lists(samples_rows, max_size=4),
    rate=estimates,
    facts=facts,
    findings=st.lists(st.builds(Finding, code=st.just("a-b"), severity=st.sampled_from(["info", "warning", "error"]), says=words)),
)
def test_any_characterisation_survives_the_file(
    rows: list[Samples], rate: Estimate, facts: dict[str, object], findings: list[Finding]
) -> None:
    ceiling = Ceiling(name="c", measures="memory", backend="native", rate=rate, case="x", level="L2", access="copy")
    whole = dataclasses.replace(
        characterisation(tuple(rows)),
        ceilings=(ceiling,),
        findings=tuple(findings),
        environment=Environment(started="2026-01-01T12:00:00Z", seconds=1.0, microbench="0", facts=facts),  # type: ignore[arg-type]
    )
    assert store.loads(store.dumps(whole)) == whole


# --- what readers refuse ---------------------------------------------------------------------------------------------------------


def tree() -> dict[str, object]:
    found = json.loads(store.dumps(characterisation()))
    assert isinstance(found, dict)
    return found


def refused(data: bytes) -> str:
    with pytest.raises(UsageError) as caught:
        store.loads(data, "old.json")
    says = str(caught.value)
    assert "old.json" in says
    assert "\n" not in says
    return says


def edited(path: str, value: object) -> bytes:
    root: object = tree()
    *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
    node: object = root
    for step in steps:
        node = node[step]  # type: ignore[index]
    node[last] = value  # type: ignore[index]
    return json.dumps(root).encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b'{"schema": "1.0", "device"', "truncated"),
        (b"[1, 2, 3]", "not a microbench characterisation"),
        (b'"1.0"', "not a microbench characterisation"),
        (b'{"name": "something else"}', "not a microbench characterisation"),
        (b'{"schema": 1, "device": {}}', "not a microbench characterisation"),
        (b"[" * 100_000, "not a microbench characterisation"),
        (edited("schema", "2.0"), "schema 2.0"),
        (edited("schema", "0.9"), "schema 0.9"),
        (edited("ceilings.0.rate.low", 1e12), "low <= value <= high"),
        (edited("ceilings.0.rate.value", -1.0), "at least 0"),
        (edited("ceilings.0.rate", {"value": 0, "low": 0, "high": 0}), "positive"),
        (edited("ceilings.0.rate.value", float("nan")), "JSON"),
        (edited("ceilings.0.dtype", "f13"), "f13"),
        (edited("ceilings.0.measures", "colour"), "colour"),
        (edited("device.memory_bytes", 10**400), "cannot be"),
        (edited("device.kind", "tpu"), "tpu"),
        (edited("samples.0.ns", [5, 0]), "not positive"),
        (edited("samples.0.ns", []), "not positive"),
        (edited("samples.0.count", "many"), "int"),
        (edited("plan.cases", []), None),
        (edited("fits.rooflines.0.points.0.rate", -5.0), "must be positive"),
        (edited("fits.rooflines.0.bandwidth.L1", -5.0), "bandwidth"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(data: bytes, says: str | None) -> None:
    if says is None:
        assert store.loads(data).plan is not None
        return
    assert says in refused(data)


def test_keys_of_a_newer_minor_schema_are_ignored() -> None:
    newer = tree() | {"schema": "1.7", "verdict": {"new": [1, 2]}}
    newer["device"]["colour"] = "green"  # type: ignore[index]
    assert store.loads(json.dumps(newer).encode()).device == DEVICE


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_never_raise_anything_but_a_sentence(data: bytes) -> None:
    with pytest.raises(UsageError):
        store.loads(data)


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_a_truncated_file_is_always_refused(cut: int) -> None:
    data = store.dumps(characterisation())
    with pytest.raises(UsageError):
        store.loads(data[: cut % len(data)])


nonsense = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(string.printable, max_size=6)
    | st.just(10**400)
    | st.just("x" * 5000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=5,
)


def _walk(node: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(found for key, value in inner for found in _walk(value, (*path, key)))]


PATHS = [path for path in _walk(tree()) if path]


@settings(deadline=None, max_examples=400)
@given(path=st.sampled_from(PATHS), value=nonsense, remove=st.booleans())
def test_a_hand_edited_file_is_read_or_refused_in_a_sentence(path: tuple[str | int, ...], value: object, remove: bool) -> None:
    root = tree()
    node: object = root
    for step in path[:-1]:
        node = node[step]  # type: ignore[index]
    if remove:
        del node[path[-1]]  # type: ignore[attr-defined]
    else:
        node[path[-1]] = value  # type: ignore[index]
    try:
        found = store.loads(json.dumps(root).encode())
    except UsageError:
        return
    assert store.loads(store.dumps(found)).device == found.device


@settings(deadline=None)
@given(position=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_a_flipped_byte_is_read_or_refused_in_a_sentence(position: int, byte: int) -> None:
    data = bytearray(store.dumps(characterisation()))
    data[position % len(data)] = byte
    try:
        store.loads(bytes(data))
    except UsageError as error:
        assert str(error)  # noqa: PT017


def test_infinity_is_not_written_as_something_else() -> None:
    odd = dataclasses.replace(
        characterisation(), findings=(), environment=None, plan=Plan(cases=(Case(kernel="a", params={"x": float("inf")}),), budget=Budget())
    )
    with pytest.raises(ValueError, match="read back"):
        store.dumps(odd)


# --- files -----------------------------------------------------------------------------------------------------------------------


def test_load_names_what_is_wrong_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        store.load(tmp_path / "gone.json")
    with pytest.raises(UsageError, match="is a folder"):
        store.load(tmp_path)
    with pytest.raises(UsageError, match="not a regular file"):
        store.load("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="not a regular file"):
        store.load(tmp_path / "pipe")
    with pytest.raises(UsageError, match="cannot be read"):
        store.load("nul\0byte")
    (tmp_path / "x.partial").write_bytes(b"")
    with pytest.raises(UsageError, match="--resume"):
        store.load(tmp_path / "x.partial")


def test_an_absurdly_large_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "big.json").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(UsageError, match="is it the right file"):
        store.load(tmp_path / "big.json")


def test_save_names_the_file_after_device_and_time_and_never_overwrites(tmp_path: Path) -> None:
    first = store.save(characterisation(), tmp_path)
    second = store.save(dataclasses.replace(characterisation(), findings=()), tmp_path)
    assert first == tmp_path / "example-cpu-2-50ghz" / "20260101T120000Z-1f2e3d4c.json"
    assert second.name == "20260101T120000Z-1f2e3d4c-2.json"
    assert store.load(first) == characterisation()
    assert store.load(second).findings == ()
    assert sorted(path.name for path in first.parent.iterdir()) == sorted([first.name, second.name])


def test_write_new_refuses_a_taken_name_and_leaves_it_alone(tmp_path: Path) -> None:
    files.write_new(tmp_path / "a", b"old")
    with pytest.raises(UsageError, match="exists already"):
        files.write_new(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_write_new_works_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    files.write_new(tmp_path / "a", b"first")
    with pytest.raises(UsageError, match="exists already"):
        files.write_new(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"


def test_a_vanished_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="cannot be written"):
        files.write_new(tmp_path / "gone" / "a", b"")


def test_check_writable_creates_what_is_missing_and_leaves_nothing(tmp_path: Path) -> None:
    folder = files.check_writable(tmp_path / "a" / "b")
    assert list(folder.iterdir()) == []


def test_check_writable_says_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CannotRun, match="a file is in the way"):
            files.check_writable(folder)
    with pytest.raises(CannotRun, match="results cannot go to /proc/results"):
        files.check_writable("/proc/results")


def test_check_writable_finds_a_full_disk_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(CannotRun, match="no space left on device; choose another folder"):
        files.check_writable(tmp_path)


# --- size ------------------------------------------------------------------------------------------------------------------------


def many(cases: int, rounds: int, taken: int) -> tuple[Samples, ...]:
    ns = tuple(1_000_000 + 7919 * i % 99991 for i in range(taken))
    return tuple(
        Samples(case=f"read.f32.avx512[pages=huge;working_set={case}]@1", round=number, started_s=1.0, iterations=10, ns=ns, count=taken)
        for number in range(rounds)
        for case in range(cases)
    )


def test_a_normal_run_keeps_200_samples_a_round_without_a_word() -> None:
    kept = store.loads(store.dumps(characterisation(many(10, 10, 500))))
    assert {len(row.ns) for row in kept.samples} == {200}
    assert {row.count for row in kept.samples} == {500}
    assert kept.findings == characterisation().findings


@pytest.mark.parametrize(("cases", "rounds", "taken"), [(100, 60, 300), (300, 60, 20)])
def test_a_long_run_stays_below_2_mb_and_says_what_it_left_out(cases: int, rounds: int, taken: int) -> None:
    data = store.dumps(characterisation(many(cases, rounds, taken)))
    kept = store.loads(data)
    assert len(data) <= 2_000_000
    assert len({row.case for row in kept.samples}) == cases
    assert [finding.code for finding in kept.findings].count("samples-thinned") == 1


# --- journal ---------------------------------------------------------------------------------------------------------------------


def header() -> Characterisation:
    whole = characterisation()
    assert whole.plan is not None
    assert whole.environment is not None
    return store.journal_header(whole.device, whole.plan, whole.environment, whole.sheets)


def test_a_journal_gives_back_what_was_appended(tmp_path: Path) -> None:
    journal = store.Journal.create(tmp_path / "d" / "run.partial", header())
    journal.append(SAMPLES)
    journal.append(dataclasses.replace(SAMPLES, round=1))
    held = store.read_journal(journal.path)
    assert [row.round for row in held.samples] == [0, 1]
    assert (held.device, held.plan, held.sheets) == (DEVICE, characterisation().plan, characterisation().sheets)
    journal.discard()
    journal.close()
    assert not journal.path.exists()


def test_a_half_written_last_line_is_ignored_and_cut_off_on_resume(tmp_path: Path) -> None:
    journal = store.Journal.create(tmp_path / "run.partial", header())
    journal.append(SAMPLES)
    journal.close()
    with journal.path.open("ab") as file:
        file.write(b'{"case":"fma')
    assert store.read_journal(journal.path).samples == (SAMPLES,)
    again, held = store.Journal.resume(journal.path)
    assert held.samples == (SAMPLES,)
    again.append(dataclasses.replace(SAMPLES, round=1))
    again.close()
    assert [row.round for row in store.read_journal(journal.path).samples] == [0, 1]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 10**6))
def test_a_journal_cut_anywhere_gives_its_whole_lines_or_a_sentence(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "run.partial"
    path.unlink(missing_ok=True)
    journal = store.Journal.create(path, header())
    journal.append(SAMPLES)
    journal.append(dataclasses.replace(SAMPLES, round=1))
    journal.close()
    data = path.read_bytes()
    data = data[: cut % len(data)]
    path.write_bytes(data)
    if data.count(b"\n"):
        assert len(store.read_journal(path).samples) == data.count(b"\n") - 1
    else:
        with pytest.raises(UsageError):
            store.read_journal(path)


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    journal = store.Journal.create(tmp_path / "run.partial", header())
    journal.close()
    with journal.path.open("ab") as file:
        file.write(b"nonsense\n{}\n")
    with pytest.raises(UsageError, match=r"line 2 of .*run\.partial is damaged"):
        store.read_journal(journal.path)


def test_a_journal_is_not_overwritten(tmp_path: Path) -> None:
    store.Journal.create(tmp_path / "run.partial", header()).close()
    with pytest.raises(CannotRun, match="cannot be created"):
        store.Journal.create(tmp_path / "run.partial", header())


def test_a_full_disk_while_measuring_is_one_sentence(tmp_path: Path) -> None:
    journal = store.Journal(tmp_path / "run.partial", os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(CannotRun, match="No space left on device"):
        journal.append(SAMPLES)
    journal.close()


KILLED = """
import sys, time
sys.path[:0] = {path!r}
from pathlib import Path
from microbench import store
journal = store.Journal.create(Path({file!r}), store.read_journal(Path({model!r})))
sample = store.read_journal(Path({model!r})).samples[0]
with store.only_run(store.read_journal(Path({model!r})).device):
    for _ in range(5):
        journal.append(sample)
    print("measuring", flush=True)
    time.sleep(60)
"""


def test_kill_9_loses_nothing_that_was_measured_and_frees_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    model = store.Journal.create(tmp_path / "model.partial", header())
    model.append(SAMPLES)
    model.close()
    script = KILLED.format(path=[str(Path(store.__file__).parents[1])], file=str(tmp_path / "run.partial"), model=str(model.path))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"measuring\n"
        with pytest.raises(CannotRun, match=rf"another microbench run \(process {process.pid}\) is using cpu"), store.only_run(DEVICE):
            pytest.fail("two runs hold one device")
        process.send_signal(signal.SIGKILL)
    assert store.read_journal(tmp_path / "run.partial").samples == (SAMPLES,) * 6
    with store.only_run(DEVICE):
        pass


def test_two_devices_do_not_exclude_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    other = dataclasses.replace(DEVICE, kind="cuda", id="abc", index=1)
    with store.only_run(DEVICE), store.only_run(other):
        pass


def test_the_lock_does_not_follow_a_planted_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "microbench-cpu.lock").symlink_to(tmp_path / "victim")
    with store.only_run(DEVICE):
        pass
    assert (tmp_path / "victim").read_text() == "precious"
