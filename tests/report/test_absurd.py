"""Whatever is valid can be shown: one ceiling, none, huge and tiny values, strange words."""

from __future__ import annotations

import io

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rich.console import Console

from microbench.records import (
    LEVELS,
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
    RooflineFit,
    RoofPoint,
)
from microbench.records.dtypes import DTYPES
from microbench.records.values import BOUNDS
from microbench.report import html, markdown, plots, terminal

# No quantity is smaller.
_LEAST = 1e-30


def of(quantity: str) -> st.SearchStrategy[float]:
    """Values of a quantity that a file may hold, its bounds among them."""
    low, high = BOUNDS[quantity]
    near = st.floats(low, high).filter(lambda value: value == 0 or abs(value) > _LEAST)
    return near | st.sampled_from((low, high))


RATES = of("rate") | st.floats(1e6, 1e16)
WORDS = st.text(max_size=30).filter(
    lambda text: all(ord(letter) >= 32 and not 0xD800 <= ord(letter) < 0xE000 for letter in text)
)
SIZES = st.integers(1, 2**60)
SOME_LEVEL = st.sampled_from(LEVELS)


@st.composite
def estimates(draw: st.DrawFn, values: st.SearchStrategy[float] = RATES) -> Estimate:
    low, value, high = sorted((draw(values), draw(values), draw(values)))
    return Estimate(value=value, low=low, high=high, basis=draw(st.none() | WORDS))


def ceilings() -> st.SearchStrategy[Ceiling]:
    return st.builds(
        Ceiling,
        name=WORDS,
        measures=st.sampled_from(("compute", "memory", "link")),
        backend=st.sampled_from(("native", "cuda", "triton", "torch")),
        rate=estimates(),
        case=st.one_of(WORDS, st.builds("read.f32[working_set={}]@{}".format, SIZES, st.integers(0, 3))),
        unit=st.none() | st.sampled_from(("scalar", "vector", "matrix")),
        dtype=st.none() | st.sampled_from(tuple(DTYPES)),
        accumulator=st.none() | st.sampled_from(tuple(DTYPES)),
        level=st.none() | SOME_LEVEL,
        access=st.none() | st.sampled_from(("read", "write", "copy", "triad")),
        variant=WORDS,
        threads=st.integers(1, 300),
        mode=st.sampled_from(("peak", "sustained", "library")),
        typical=st.none() | estimates(),
        converged=st.booleans(),
        nominal=st.none() | RATES,
        clock_hz=st.none() | of("hertz"),
        per_clock=st.none() | of("factor"),
        power_w=st.none() | of("watts"),
        energy_per_op_j=st.none() | of("joules"),
        throttled_share=st.none() | st.just(0.0) | of("share"),
    )


def fits() -> st.SearchStrategy[Fits]:
    sizes = st.tuples(SIZES, SIZES).map(sorted)
    levels = st.builds(
        lambda name, by, ends, values, told: LevelSeen(
            name=name, seen_by=by, low_bytes=ends[0], high_bytes=ends[1], value=values[by], advertised_bytes=told
        ),
        SOME_LEVEL,
        st.sampled_from(("stream", "chase")),
        sizes,
        st.fixed_dictionaries({"stream": RATES, "chase": of("cost")}),
        st.none() | SIZES,
    )
    points = st.builds(RoofPoint, intensity=of("intensity"), rate=RATES, level=SOME_LEVEL, fitted=RATES)
    rooflines = st.builds(
        RooflineFit,
        dtype=st.sampled_from(tuple(DTYPES)),
        unit=st.none(),
        threads=st.integers(1, 9),
        peak=RATES,
        bandwidth=st.dictionaries(SOME_LEVEL, RATES, max_size=3),
        ridge=st.dictionaries(SOME_LEVEL, of("intensity"), max_size=3),
        points=st.lists(points, max_size=4).map(tuple),
    )
    operators = st.builds(
        OperatorFit,
        family=WORDS,
        dtype=st.just("f32"),
        rows=st.integers(1, 99),
        residuals=st.lists(of("log"), max_size=4).map(tuple),
        terms=st.dictionaries(WORDS, of("factor"), max_size=2),
    )
    return st.builds(
        Fits,
        levels=st.lists(levels, max_size=4).map(tuple),
        rooflines=st.lists(rooflines, max_size=2).map(tuple),
        operators=st.lists(operators, max_size=2).map(tuple),
    )


def costs() -> st.SearchStrategy[Cost]:
    seconds = estimates(st.just(0.0) | of("cost") | st.floats(1e-10, 1))
    case = st.none() | st.builds("chase[working_set={}]@1".format, SIZES)
    return st.builds(Cost, name=WORDS, seconds=seconds, level=st.none() | SOME_LEVEL, case=case)


def characterisations() -> st.SearchStrategy[Characterisation]:
    device = st.builds(
        Device,
        id=st.just("0"),
        kind=st.sampled_from(("cpu", "cuda")),
        name=WORDS,
        arch=WORDS,
        base_clock_hz=st.none() | of("hertz"),
        levels=st.lists(st.builds(MemoryLevel, name=SOME_LEVEL, capacity_bytes=st.none() | SIZES), max_size=3).map(
            tuple
        ),
    )
    facts = st.dictionaries(
        WORDS, st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=True), WORDS), max_size=3
    )
    finding = st.builds(
        Finding,
        code=st.sampled_from(("steal", "not-converged")),
        severity=st.sampled_from(("info", "warning", "error")),
        says=WORDS,
        remedy=WORDS,
    )
    environment = st.builds(
        Environment, started=WORDS, seconds=st.just(0.0) | of("seconds"), microbench=WORDS, facts=facts
    )
    return st.builds(
        Characterisation,
        schema=st.just("1.0"),
        device=device,
        environment=st.none() | environment,
        plan=st.none(),
        ceilings=st.lists(ceilings(), max_size=6).map(tuple),
        costs=st.lists(costs(), max_size=6).map(tuple),
        fits=fits(),
        findings=st.lists(finding, max_size=4).map(tuple),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(characterisations())
def test_absurd_but_valid_characterisations_are_written_without_error(absurd: Characterisation) -> None:
    assert markdown.render(absurd)
    for width in (40, 80, 120):
        terminal.show(absurd, Console(file=io.StringIO(), width=width, highlight=False, emoji=False, markup=False))


# Drawing is slow and a failure says enough as it is: no shrinking.
@settings(
    max_examples=12,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)
@given(characterisations())
def test_absurd_but_valid_characterisations_are_drawn_without_error(absurd: Characterisation) -> None:
    assert "</html>" in html.render(absurd)
    assert plots.png("roofline", absurd)
