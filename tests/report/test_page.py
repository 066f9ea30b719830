from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from pytest_regressions.file_regression import FileRegressionFixture

from microbench.records import Characterisation, Finding
from microbench.report import html, markdown

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
