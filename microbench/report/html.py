"""The report as one page that needs nothing else: no network, pictures inlined.

Every number can be read without its script, which makes the roofline one that can be used, sorts tables, and shows the
samples of a number.
"""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from microbench.records import Characterisation, units
from microbench.report import chart, cores, fits, page, plots, roofline_scene, side, style, summary, view, words
from microbench.text import shown

_LABELS: dict[plots.PlotName, str] = {
    "roofline": "Roofline: measured compute and bandwidth ceilings over arithmetic intensity",
    "working-set": "Bandwidth and latency over the working set, with the memory levels found",
    "latency": "Latency of each memory level and other fixed costs",
    "compute": "Compute ceilings as a share of nominal",
}


def render(characterisation: Characterisation) -> str:
    """Lay out the page.

    Parameters
    ----------
    characterisation
        What was measured.
    """
    template = _templates().get_template("page.html.jinja")
    return template.render(**_content(shown(characterisation))) + "\n"


def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("microbench.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _script() -> str:
    return resources.files("microbench.report").joinpath("templates/page.js").read_text(encoding="utf-8")


def _island(data: Any) -> Markup:
    """Data as JSON inside of a script element, which ``</script`` would end: no text of it may begin a tag."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704 - escaped


def _content(characterisation: Characterisation) -> dict[str, Any]:
    groups = view.groups(characterisation)
    return {
        "script": Markup(_script()),  # noqa: S704 - our own
        "chart": _island(chart.data(characterisation)),
        "points": chart.point_rows(characterisation),
        "title": summary.title(characterisation),
        "when": summary.when(characterisation),
        "kind": characterisation.device.kind,
        "schema": characterisation.schema,
        "lines": summary.lines(characterisation),
        "pictures": {name: picture(name, characterisation) for name in _LABELS},
        "no_roofline": roofline_scene.missing(characterisation),
        "ridges": roofline_scene.ridge_rows(characterisation),
        "rooflines": fits.roofline_rows(characterisation),
        "levels": _levels(characterisation),
        "costs": _costs(characterisation),
        "cores": cores.rows(characterisation),
        "groups": [_best_first(group) for group in groups],
        "per": chart.unit,
        "words": words.explained([row for group in groups for row in group.rows]),
        "legend": view.legend(row for group in groups for row in group.rows),
        **_side(characterisation),
        "operators": [fits.HEADING, *(fits.cells(row) for row in fits.fit_rows(characterisation))]
        if characterisation.fits.operators
        else [],
        "operators_say": fits.explained(characterisation),
        "device": page.device_facts(characterisation),
        "features": characterisation.device.features,
        "facts": page.environment_facts(characterisation),
        "findings": view.sorted_findings(characterisation),
        "method": page.METHOD,
        "methods": [(group.title, page.method_rows(characterisation, group)) for group in groups],
    }


def _side(characterisation: Characterisation) -> dict[str, Any]:
    """The table of rates side by side without its empty columns, and the sources of the published ones."""
    rows = side.side_rows(characterisation)
    shown = side.columns(rows, without=("sources",))
    return {
        "side": [("what", *shown.values()), *((row.title, *(getattr(row, name) for name in shown)) for row in rows)]
        if rows
        else [],
        "side_title": side.title(rows, characterisation.device.kind),
        "side_says": side.SAYS[characterisation.device.kind],
        "sources": [(row.title, row.sources) for row in rows if row.sources != view.UNKNOWN],
    }


def _levels(characterisation: Characterisation) -> list[tuple[str, ...]]:
    rows = [astuple(level) for level in summary.level_rows(characterisation)]
    return (
        [("level", "advertised", "a stream sees", "a chase sees", "bandwidth", "latency", "reused within"), *rows]
        if rows
        else []
    )


def _costs(characterisation: Characterisation) -> list[tuple[str, ...]]:
    return [
        (
            view.cost_title(cost),
            units.seconds(cost.seconds.value),
            view.cost_interval(cost),
            words.of_cost(characterisation, cost),
        )
        for cost in view.ladder(characterisation)
    ]


def _best_first(group: view.Group) -> tuple[str, tuple[view.Row, ...], tuple[view.Row, ...]]:
    """A group's title, its best variants, and the slower ones, which the page folds."""
    best = view.best_variants(group).rows
    return group.title, best, tuple(row for row in group.rows if row not in best)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture twice, for wide and for narrow screens, with its caption."""

    wide: Markup
    narrow: Markup
    caption: str


def picture(name: plots.PlotName, characterisation: Characterisation) -> Picture | None:
    """One picture as SVG that can stand in a page; ``None`` where nothing for it was measured."""
    wide = plots.svg(name, characterisation, style.IN_PAGE)
    narrow = plots.svg(name, characterisation, style.IN_NARROW_PAGE)
    if wide is None or narrow is None:
        return None
    # Safe: matplotlib escapes the text it is given.
    drawn = [Markup(style.inline(drawing, _LABELS[name])) for drawing in (wide, narrow)]  # noqa: S704
    return Picture(wide=drawn[0], narrow=drawn[1], caption=plots.caption(name, characterisation)[1])
