"""Where tables and lines are printed: a console that shows foreign text and lets no terminal obey it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from microbench.text import visible_lines


class Output(Console):
    """A console on which control characters and turned directions of any text are spelled out before it is laid out.

    Line breaks stay, since headings and findings have them; foreign ones are spelled out where text is quoted.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Lay out what is printed, each text in it as `visible_lines`."""
        if isinstance(renderable, Text) and (plain := visible_lines(renderable.plain)) != renderable.plain:
            renderable = renderable.copy()
            renderable.plain = plain
        return super().render(renderable, options)

    def render_str(self, text: str, **how: Any) -> Text:
        """Turn a string into text that can be laid out."""
        return super().render_str(visible_lines(text), **how)
