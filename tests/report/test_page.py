from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from pytest_regressions.file_regression import FileRegressionFixture

from microbench.records import Characterisation, Device, Finding, Fits, OperatorFit
from microbench.report import fits, html, markdown, view

VOID = {"meta", "col", "br", "img", "hr", "input", "link"}


class Balance(HTMLParser):
    """Checks that every tag that opens is closed in order; records ids, text and every attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(page: str) -> Balance:
    parser = Balance()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


@pytest.mark.parametrize("name", ["fake_cpu", "fake_cuda", "bare"])
def test_the_page_is_well_formed_and_its_links_lead_somewhere(name: str, request: pytest.FixtureRequest) -> None:
    page = parsed(html.render(request.getfixturevalue(name)))
    assert len(page.ids) == len(set(page.ids))
    targets = [value[1:] for key, value in page.attributes if key in ("href", "xlink:href") and value]
    assert targets
    assert set(targets) <= set(page.ids)


@pytest.mark.parametrize("name", ["fake_cpu", "fake_cuda", "bare"])
def test_the_page_needs_nothing_from_outside(name: str, request: pytest.FixtureRequest) -> None:
    page = html.render(request.getfixturevalue(name))
    assert re.findall(r"https?:|//[a-z]|<script|<link|<img|@import|url\((?!#)", page) == []


def test_the_page_has_every_section(fake_cpu: Characterisation, fake_cuda: Characterisation) -> None:
    ids = set(parsed(html.render(fake_cpu)).ids)
    assert {"summary", "roofline", "memory", "latency", "ceilings", "operators", "findings", "environment", "method"} <= ids
    assert "side" in parsed(html.render(fake_cuda)).ids


def test_every_ceiling_states_its_method(fake_cpu: Characterisation) -> None:
    text = "".join(parsed(html.render(fake_cpu)).text)
    for ceiling in fake_cpu.ceilings:
        if ceiling.level or ceiling.measures == "compute":
            assert ceiling.case in text
    assert "math 16 of 16; objdump 2.40" in text
    assert "unproven: no objdump" in text


def test_what_a_device_calls_itself_is_text_not_markup(fake_cpu: Characterisation) -> None:
    rude = "<script>alert(1)</script> & $x_1$ | *y*"
    finding = Finding(code="rude", severity="warning", says=rude, remedy=rude)
    named = replace(fake_cpu, device=replace(fake_cpu.device, name=rude), findings=(finding,))
    page = html.render(named)
    assert "<script" not in page
    assert rude in "".join(parsed(page).text)
    assert "\\<script\\>" in markdown.render(named)


def test_colours_of_pictures_follow_the_page(fake_cpu: Characterisation) -> None:
    picture = html.picture("roofline", fake_cpu)
    assert picture is not None
    for drawing in (picture.wide, picture.narrow):
        assert "var(--ink)" in drawing
        assert re.findall(r"(?:fill|stroke): #[0-9a-f]{6}", drawing) == []


@pytest.mark.parametrize("name", ["fake_cpu", "fake_cuda", "bare"])
def test_the_markdown_is_as_kept(name: str, request: pytest.FixtureRequest, file_regression: FileRegressionFixture) -> None:
    file_regression.check(markdown.render(request.getfixturevalue(name)), extension=".md", encoding="utf-8")


def test_markdown_rows_have_as_many_cells_as_their_heading(fake_cpu: Characterisation, fake_cuda: Characterisation) -> None:
    for characterisation in (fake_cpu, fake_cuda):
        for block in markdown.render(characterisation).split("\n\n"):
            if block.startswith("|"):
                assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.strip().split("\n")}) == 1


def test_interval_widths_of_operator_families_are_those_that_predictions_have() -> None:
    fit = OperatorFit(
        family="pooling",
        dtype="f32",
        rows=34,
        terms={"peak": 4.59e11, "bandwidth": 8.2e9, "factor.pool": 5.46},
        correction={"noise": 0.04, "amplitude": 0.03},
        residuals=(-9.7, 0.7, 12.0),
        quantile=2.5,
        quantiles={"avg_pool2d": 5.0},
    )
    held = Characterisation(
        schema="1.0",
        device=Device(id="0", kind="cpu", name="made up", arch="none"),
        environment=None,
        plan=None,
        fits=Fits(operators=(fit, replace(fit, quantile=None, cache="cold"))),
    )
    hot, cold = fits.fit_rows(held)
    # e^(2.5 x 0.04) and e^(5 x 0.04), then with the spread hypot(0.04, 0.03) far off: not the standardised residuals as per cent.
    assert (hot.near, hot.far) == ("± 11 % to ± 22 %", "± 13 % to ± 28 %")
    assert (hot.compute, hot.memory) == ("459 GFLOP/s", "8.20 GB/s")
    assert (cold.family, cold.near) == ("pooling, cold", "none")
    for rendered in (html.render(held), markdown.render(held)):
        assert "459 GFLOP/s" in rendered
        assert "459000000000" not in rendered
        assert "factor.pool" not in rendered


def test_levels_of_a_fitted_roofline_go_from_near_to_far(fake_cpu: Characterisation) -> None:
    rows = fits.roofline_rows(fake_cpu)
    first = [row[1] for row in rows[1:] if row[0] == rows[1][0]]
    assert first == sorted(first, key=view.NEAR_TO_FAR.index)
    fit = replace(fake_cpu.fits.rooflines[0], bandwidth={"DRAM": 1e9, "L1": 1e11, "L2": 1e10})
    shuffled = replace(fake_cpu, fits=replace(fake_cpu.fits, rooflines=(fit,)))
    assert [row[1] for row in fits.roofline_rows(shuffled)[1:]] == ["L1", "L2", "DRAM"]
