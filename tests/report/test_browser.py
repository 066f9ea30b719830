"""The page in a browser: what its script adds works, complains of nothing, and asks for nothing."""

from __future__ import annotations

import html as markup
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from microbench.records import Characterisation, Samples, Work
from microbench.report import html

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian's chromium)")

# Put behind the page's own script; it leaves what it saw in the document.
SEEN = """
<script>
const seen = {};
try { (() => { %s })(); } catch (error) { seen.error = String(error); }
document.body.dataset.seen = JSON.stringify(seen);
</script></body>
"""


def seen_in(page: str, folder: Path, width: int = 1200) -> dict[str, Any]:
    """Open a page, which must complain of nothing, and return what it left in ``data-seen`` of its body."""
    path = folder / "page.html"
    path.write_text(page, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--window-size={width},900"]
    options += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=2000", "--dump-dom"]
    ran = subprocess.run(
        [str(CHROMIUM), *options, path.as_uri()], capture_output=True, text=True, check=True, timeout=300
    )
    assert [line for line in ran.stderr.splitlines() if "CONSOLE" in line] == []
    found = re.search(r'data-seen="([^"]*)"', ran.stdout)
    assert found is not None
    seen: dict[str, Any] = json.loads(markup.unescape(found[1]))
    assert "error" not in seen
    return seen


@pytest.fixture
def browser(fake_cpu: Characterisation, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Open the page, carry out JavaScript in it, and return what that put into ``seen``."""

    def opened(script: str, held: Characterisation = fake_cpu) -> dict[str, Any]:
        return seen_in(html.render(held).replace("</body>", SEEN % script), tmp_path)

    return opened


def test_boxes_show_and_hide_what_they_name(browser: Callable[..., dict[str, Any]]) -> None:
    seen = browser("""
        const count = (what) => document.querySelectorAll(`#chart ${what}`).length;
        const kinds = ["mark", "slope", "roof", "fit"];
        const all = () => Object.fromEntries(kinds.map((what) => [`${what}s`, count(`.${what}`)]));
        const box = (group, key) => document.querySelector(`input[data-group="${group}"][data-key="${key}"]`);
        const press = (group, key) => box(group, key).click();
        seen.still = getComputedStyle(document.querySelector(".still")).display;
        seen.before = all();
        press("part", "points"); seen.pointless = all(); press("part", "points");
        press("part", "fits"); seen.unfitted = all(); press("part", "fits");
        press("level", "DRAM"); seen.cached = all(); press("level", "DRAM");
        press("dtype", "f32"); seen.without = all(); press("dtype", "f32");
        seen.after = all();
        const threads = document.querySelector("#chart-controls select");
        threads.value = threads.options[0].value; threads.dispatchEvent(new Event("change"));
        seen.one = all();
        seen.text = document.getElementById("chart").textContent;
    """)
    assert seen["still"] == "none"  # the picture that needs no script has made room
    before = seen["before"]
    assert before == seen["after"]
    assert min(before.values()) > 0
    assert seen["pointless"]["marks"] == 0
    assert seen["unfitted"]["fits"] == 0
    assert seen["cached"]["slopes"] < before["slopes"]
    assert seen["without"]["roofs"] < before["roofs"]
    assert seen["one"]["slopes"] > 0
    assert "FLOP/byte" in seen["text"]


def test_points_tell_their_value_to_pointer_and_keyboard(browser: Callable[..., dict[str, Any]]) -> None:
    seen = browser("""
        const marks = [...document.querySelectorAll("#chart .mark")];
        const note = document.getElementById("chart-note");
        marks[0].dispatchEvent(new Event("pointerenter"));
        seen.hover = note.textContent; seen.shown = !note.hidden;
        marks[0].dispatchEvent(new Event("pointerleave")); seen.gone = note.hidden;
        marks[0].focus();
        marks[0].dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
        seen.next = document.activeElement === marks[1]; seen.label = marks[1].getAttribute("aria-label");
        seen.stops = marks.filter((mark) => mark.getAttribute("tabindex") === "0").length;
    """)
    assert (seen["shown"], seen["gone"], seen["next"], seen["stops"]) == (True, True, True, 1)
    assert re.search(r"FLOP/s at [\d.]+ FLOP/byte, fit .* %\)", seen["hover"])
    assert "FLOP/s" in seen["label"]


def test_tables_sort_by_numbers_with_their_prefixes(browser: Callable[..., dict[str, Any]]) -> None:
    seen = browser("""
        const table = document.querySelector("#ceilings table");
        const button = table.tHead.rows[0].cells[1].querySelector("button");
        const column = () => [...table.tBodies[0].rows].map((row) => Number(row.dataset.rate));
        button.click(); seen.down = column(); seen.told = table.tHead.rows[0].cells[1].getAttribute("aria-sort");
        button.click(); seen.up = column();
    """)
    assert len(seen["down"]) > 3
    near = [float(f"{rate:.3g}") for rate in seen["down"]]  # cells have four digits
    assert near == sorted(near, reverse=True)
    assert sorted(seen["up"]) == sorted(seen["down"])
    assert [float(f"{rate:.3g}") for rate in seen["up"]] == sorted(near)
    assert seen["told"] == "descending"


def test_a_number_shows_its_samples(browser: Callable[..., dict[str, Any]], fake_cpu: Characterisation) -> None:
    case = next(row.case for row in fake_cpu.ceilings if row.mode == "peak" and row.measures == "compute")
    taken = Samples(case=case, round=0, started_s=0.5, iterations=10**6, ns=(1000, 1100, 1200), count=3)
    sheets = tuple(replace(sheet, work=Work(flop=64)) for sheet in fake_cpu.sheets)
    held = replace(fake_cpu, samples=(taken, replace(taken, round=1, started_s=2.0)), sheets=sheets)
    seen = browser(
        f"""
        const row = document.querySelector('tr[data-case="{case}"]');
        row.querySelector("button.number").click();
        const dialog = document.getElementById("samples");
        seen.open = dialog.open; seen.dots = dialog.querySelectorAll(".sample").length; seen.text = dialog.textContent;
        dialog.querySelector("button").click(); seen.closed = !dialog.open;
    """,
        held,
    )
    assert (seen["open"], seen["closed"]) == (True, True)
    assert seen["dots"] == 6
    assert case in seen["text"]


@pytest.mark.parametrize("name", ["fake_cpu", "fake_cuda"])
def test_a_page_as_wide_as_a_telephone_does_not_scroll_sideways(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A window of Chromium has a least width, a frame has none."""
    page = markup.escape(html.render(request.getfixturevalue(name)))
    seen = seen_in(
        f"""<body><iframe id="frame" style="width: 360px; height: 800px; border: 0" srcdoc="{page}"></iframe>
        <script>document.getElementById("frame").addEventListener("load", (event) => {{
          const inside = event.target.contentDocument;
          const wide = inside.documentElement.scrollWidth, across = inside.documentElement.clientWidth;
          const long = inside.body.appendChild(inside.createElement("pre"));
          long.textContent = "x".repeat(100);
          const wider = inside.documentElement.scrollWidth;
          const chart = inside.getElementById("chart").getBoundingClientRect().width;
          document.body.dataset.seen = JSON.stringify({{ across, wide, wider, chart }});
        }});</script></body>""",
        tmp_path,
    )
    assert seen["wide"] == seen["across"] <= 360
    assert seen["wider"] > seen["across"]  # so it would have been seen
    assert 200 < seen["chart"] < seen["across"]


def test_a_picture_of_the_chart_is_saved(browser: Callable[..., dict[str, Any]]) -> None:
    seen = browser("""
        HTMLAnchorElement.prototype.click = function () {
          document.body.dataset.seen = JSON.stringify({ name: this.download, start: this.href.slice(0, 22) });
        };
        document.querySelector("#chart-controls button").click();
    """)
    assert seen == {"name": "roofline.png", "start": "data:image/png;base64,"}


def test_a_file_without_a_roofline_has_a_page_without_complaints(
    browser: Callable[..., dict[str, Any]], bare: Characterisation
) -> None:
    seen = browser("seen.hidden = document.querySelector('#chart-whole')?.hidden ?? true;", bare)
    assert seen["hidden"]
