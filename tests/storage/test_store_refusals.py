"""What readers of a characterisation refuse, in a sentence each."""

from __future__ import annotations

import dataclasses
import json
import string

import pytest
from fake_characterisation import DEVICE, characterisation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microbench.errors import UsageError
from microbench.records import Case
from microbench.storage import store


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
        (edited("fits.rooflines.0.bandwidth.L9", 5e9), "L9"),
        (edited("fits.operators.0.quantile", -1.0), "quantile"),
        (edited("fits.operators.0.confidence", 1.5), "confidence"),
        (edited("fits.operators.0.terms.peak", 0.0), "terms"),
        (edited("fits.operators.0.terms.peak", 5e-324), "terms"),
        (edited("fits.operators.0.cost_s.eager", -1e-6), "cost_s"),
        (edited("fits.operators.0.points", [[1.0, 2.0], [3.0]]), "numbers each"),
        (edited("fits.operators.0.correction", {}), "no amplitude, apart, noise"),
        (edited("fits.operators.0.issue_s", {"matmul": [1e-6, 2e-6, 3e-6]}), "in order"),
        (edited("fits.reuse", {"half_bytes": 1e6}), "cold_bytes"),
        (edited("fits.models", {"net": 1e4}), "models"),
        (edited("ceilings.0.quiet_share", 1.5), "quiet_share"),
        (edited("ceilings.0.throttled_share", -0.5), "throttled_share"),
        (edited("ceilings.0.throttled_share", 1e-320), "throttled_share"),
        (edited("ceilings.0.clock_hz", 1e300), "clock_hz"),
        (edited("ceilings.0.rate", {"value": 1e300, "low": 1, "high": 1e301}), "Estimate.value"),
        (edited("ceilings.0.rate", {"value": 5e-324, "low": 0, "high": 1}), "no quantity is that small"),
        (edited("ceilings.0.nominal", 1e-320), "nominal"),
        (edited("costs.0.seconds", {"value": 1e12, "low": 1e12, "high": 1e12}), "it lies between"),
        (edited("device.boost_clock_hz", 5e-324), "boost_clock_hz"),
        (edited("device.units_by_kind.core", 0), "units_by_kind"),
        (edited("device.units_by_kind.core", -2), "units_by_kind"),
        (edited("samples.0.count", 2), "3 samples"),
        (edited("samples.0.throttled", 9), "9 of 3"),
        (edited("plan.budget.warmup_s", 1e300), "warmup_s"),
        (edited("plan.budget.warmup_s", 1e6), "warm-up"),
        (edited("plan.budget.time_limit_s", 1e300), "time_limit_s"),
        (edited("plan.budget.max_rounds", 10**30), "max_rounds"),
        (edited("plan.cases.0.params.working_set", "x"), "whole number"),
        (edited("plan.cases.0.params.working_set", 1.5), "whole number"),
        (edited("plan.cases.0.params.working_set", -5), "working_set"),
        (edited("plan.cases.0.params.working_set", 2**70), "working_set"),
        (edited("plan.cases.0.params.pages", "huge;x=1]@2"), "no word"),
        (edited("environment.seconds", -1.0), "seconds"),
        (json.dumps(tree()).replace('"arch":', '"arch": "x", "arch":').encode(), "'arch' stands twice"),
        (json.dumps(tree()).replace("Example(R)", "\\ud800").encode(), "cannot be read"),
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
def test_a_hand_edited_file_is_read_or_refused_in_a_sentence(
    path: tuple[str | int, ...], value: object, remove: bool
) -> None:
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


def test_infinity_is_no_parameter_and_no_time() -> None:
    with pytest.raises(ValueError, match="between"):
        Case(kernel="a", params={"x": float("inf")})
    whole = characterisation()
    assert whole.environment is not None
    with pytest.raises(ValueError, match="times"):
        dataclasses.replace(whole.environment, times={"measured": float("nan")})
