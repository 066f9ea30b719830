"""Build the documentation site strictly and check every link of it: ``python .ci/docs.py [FOLDER]``.

Without a folder the site is built into a temporary one. It fails where mkdocs warns, where a link inside the site has
no target (file or anchor), and where a page would load anything from another host: the site is to be read without a
network.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
# Attributes by which a page loads something, as opposed to naming it.
LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}


class Links(HTMLParser):
    """Ids and references of one page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.references: list[tuple[str, bool]] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element is called, and what it refers to."""
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif name in ("href", "src") and value is not None:
                loaded = (tag, name) in LOADED and ("rel", "canonical") not in attrs
                self.references.append((value, loaded))


def faults(site: Path) -> Iterator[str]:
    """Each reference that leads nowhere, or that loads from elsewhere."""
    # The page that a server shows for a wrong address lies at no address of its own: its links are absolute.
    pages = {page: Links(page) for page in sorted(site.rglob("*.html")) if page.name != "404.html"}
    for page, links in pages.items():
        name = page.relative_to(site)
        for reference, loaded in links.references:
            parts = urlsplit(reference)
            if parts.scheme or parts.netloc:
                if loaded and parts.scheme != "data":
                    yield f"{name} loads {reference}"
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if parts.path.startswith("/") or not target.is_file():
                yield f"{name} refers to {reference}, which is not there"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                yield f"{name} refers to {reference}, and there is no such place on that page"
    for sheet in site.rglob("*.css"):
        if "url(http" in sheet.read_text(encoding="utf-8"):
            yield f"{sheet.relative_to(site)} loads from another host"


def build(site: Path) -> int:
    """Build and check; return the exit status."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(site)]
    made = subprocess.run(command, cwd=ROOT, check=False, text=True, stderr=subprocess.PIPE)
    if made.returncode:
        print(made.stderr)
        return made.returncode
    found = list(faults(site))
    print("\n".join(found) or f"{len(list(site.rglob('*.html')))} pages, every link leads somewhere")
    return 1 if found else 0


def main() -> int:
    """Build into the folder named, or into one that goes away."""
    if len(sys.argv) > 1:
        return build(Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        return build(Path(folder).resolve() / "site")


if __name__ == "__main__":
    sys.exit(main())
