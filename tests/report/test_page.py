from __future__ import annotations

import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import Markup
from pytest_regressions.file_regression import FileRegressionFixture

from microbench.records import Characterisation, Cost, Device, Estimate, Finding, Fits, OperatorFit
from microbench.report import fits, html, markdown, side, style, view, words

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
    assert re.findall(r"https?:|//[a-z]|<script[^>]*src|fetch\(|XMLHttp|<link|<img|@import|url\((?!#)", page) == []


def test_the_page_has_every_section(fake_cpu: Characterisation, fake_cuda: Characterisation) -> None:
    ids = set(parsed(html.render(fake_cpu)).ids)
    assert {
        "summary",
        "roofline",
        "memory",
        "latency",
        "ceilings",
        "operators",
        "findings",
        "environment",
        "method",
    } <= ids
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
    assert "<script>alert" not in page
    assert rude in "".join(parsed(page).text)
    assert "\\<script\\>" in markdown.render(named)


def test_colours_of_pictures_follow_the_page(fake_cpu: Characterisation) -> None:
    picture = html.picture("roofline", fake_cpu)
    assert picture is not None
    for drawing in (picture.wide, picture.narrow):
        assert "var(--ink)" in drawing
        assert re.findall(r"(?:fill|stroke): #[0-9a-f]{6}", drawing) == []


@pytest.mark.parametrize("name", ["fake_cpu", "fake_cuda", "bare"])
def test_the_markdown_is_as_kept(
    name: str, request: pytest.FixtureRequest, file_regression: FileRegressionFixture
) -> None:
    file_regression.check(markdown.render(request.getfixturevalue(name)), extension=".md", encoding="utf-8")


def test_markdown_rows_have_as_many_cells_as_their_heading(
    fake_cpu: Characterisation, fake_cuda: Characterisation
) -> None:
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
    # e^(2.5 x 0.04) and e^(5 x 0.04), then with the spread hypot(0.04, 0.03) far off: not the standardised residuals as
    # per cent.
    assert (hot.near, hot.far) == ("± 11 to 22 %", "± 13 to 28 %")
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


class Tables(HTMLParser):
    """Records what surrounds every table: regions, header cells with scope, first cells of body rows, headings."""

    def __init__(self) -> None:
        super().__init__()
        self.regions: list[dict[str, str | None]] = []
        self.tables = 0
        self.scopes: list[str | None] = []
        self.firsts: list[str] = []
        self.headings: list[int] = []
        self.cells: list[str] = []
        self.row = False
        self.cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        if facts.get("role") == "region":
            self.regions.append(facts)
        self.tables += tag == "table"
        if tag == "th":
            self.scopes.append(facts.get("scope"))
        if self.row and tag in ("th", "td"):
            self.firsts.append(tag)
        self.row = tag == "tr"
        self.cell = tag in ("th", "td")
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_data(self, data: str) -> None:
        if self.cell:
            self.cells.append(data)


@pytest.mark.parametrize("name", ["fake_cpu", "fake_cuda", "bare"])
def test_tables_can_be_read_aloud_and_scrolled_by_keyboard(name: str, request: pytest.FixtureRequest) -> None:
    page = Tables()
    page.feed(html.render(request.getfixturevalue(name)))
    assert len(page.regions) == page.tables
    assert all(region.get("tabindex") == "0" and region.get("aria-label") for region in page.regions)
    assert set(page.scopes) <= {"col", "row"}
    assert set(page.firsts) <= {"th"}
    assert all(after - before <= 1 for before, after in itertools.pairwise(page.headings))


def test_every_published_figure_names_its_source_below_the_table(fake_cuda: Characterisation) -> None:
    card = replace(fake_cuda, device=replace(fake_cuda.device, name="NVIDIA H100 80GB HBM3"))
    page = Tables()
    rendered = html.render(card)
    page.feed(rendered)
    assert {"published", "of published"} <= set(page.cells)
    below = rendered[rendered.index(">Published by<") :]
    for row in side.side_rows(card):
        if row.highest != view.UNKNOWN:
            assert str(Markup.escape(row.sources)) in below
            assert row.sources not in page.cells


def test_text_contrasts_with_the_page_in_the_light_and_in_the_dark() -> None:
    sheet = (Path(html.__file__).parent / "templates" / "page.html.jinja").read_text(encoding="utf-8")
    themes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", body))
        for body in re.findall(r":root \{(.*?)\}", sheet, re.DOTALL)
    ]
    assert len(themes) == 2
    for colours in themes:
        for name in (
            "ink",
            "muted",
            *(name for value, name in style.VARIABLES.items() if value in style.DTYPE_COLOURS.values()),
        ):
            assert min(contrast(colours[name], colours[behind]) for behind in ("page", "paper")) >= 4.5, name


def contrast(one: str, other: str) -> float:
    """Contrast ratio as the web accessibility guidelines define it: (lighter + 0.05) over (darker + 0.05) luminance."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_words_in_the_names_of_ceilings_are_explained(fake_cuda: Characterisation) -> None:
    one = next(row for row in fake_cuda.ceilings if row.measures == "compute")
    spoken = (
        "v512",
        "v128_nt",
        "rep",
        "amx",
        "vex256",
        "m64n256k16.ss",
        "m16n8k8.legacy",
        "half2",
        "u8",
        "bulk",
        "h2d.pinned",
    )
    held = replace(
        fake_cuda, ceilings=tuple(replace(one, name=word, variant=word, case=f"{word}[]@1") for word in spoken)
    )
    listed = " ".join(name for name, _ in words.explained([row for group in view.groups(held) for row in group.rows]))
    for variant in spoken:
        for word in re.split(r"[._]", variant):
            assert word in listed or word.startswith("m"), word
    assert "m…n…k…" in listed
    assert "triton" not in listed


def test_a_first_touch_is_a_cost_although_it_has_a_working_set(fake_cpu: Characterisation) -> None:
    sheet = replace(
        fake_cpu.sheets[0], name="first_touch", measures="cost", roles=(), says="touches one page that was never used"
    )
    touched = Cost(
        name="first_touch.4k",
        seconds=Estimate(value=7e-7, low=7e-7, high=8e-7),
        case="first_touch[pages=4k;working_set=16777216]@1",
    )
    held = replace(fake_cpu, sheets=(*fake_cpu.sheets, sheet), costs=(*fake_cpu.costs, touched))
    assert touched in view.ladder(held)
    assert "touches one page that was never used" in html.render(held)
    assert len(view.ladder(held)) == len(view.ladder(fake_cpu)) + 1


def test_slower_variants_are_folded_away_but_there(fake_cpu: Characterisation) -> None:
    rendered = html.render(fake_cpu)
    assert re.search(r"<summary>\d+ slower variants</summary>", rendered)
    for group in view.groups(fake_cpu):
        for row in group.rows:
            assert f'<th scope="row">{Markup.escape(row.title)}</th><td><b>{row.rate}</b>' in rendered


def test_a_page_without_a_roofline_says_why_instead_of_drawing_empty_axes(fake_cpu: Characterisation) -> None:
    computed = replace(fake_cpu, ceilings=tuple(row for row in fake_cpu.ceilings if row.measures == "compute"))
    rendered = html.render(computed)
    assert "No memory ceiling was measured, so there is no roofline to draw." in rendered
    assert 'aria-label="Roofline' not in rendered
    assert 'aria-label="Roofline' in html.render(fake_cpu)


def test_a_card_of_which_nobody_published_is_not_called_normal(fake_cuda: Characterisation) -> None:
    assert ">Is this card normal?<" not in html.render(fake_cuda)
    assert ">Is this card normal?<" in html.render(
        replace(fake_cuda, device=replace(fake_cuda.device, name="NVIDIA H100 80GB HBM3"))
    )
