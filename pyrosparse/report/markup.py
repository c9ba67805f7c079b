"""A few lines of HTML templating in which text is escaped unless it is known to be HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["Html", "element", "figure", "join", "section", "table"]


class Html(str):
    """Text that is HTML already and is passed through as it is."""

    __slots__ = ()


def render(value: object) -> str:
    """Escape a value for the page, unless it is :class:`Html`."""
    return value if isinstance(value, Html) else escape(str(value), quote=True)


def join(parts: Iterable[object], separator: str = "\n") -> Html:
    """Put parts beside each other, each escaped where it must be."""
    return Html(separator.join(render(part) for part in parts))


def element(name: str, *children: object, **attributes: object) -> Html:
    """``<name attribute="...">children</name>``; ``class_`` is written ``class``, ``_`` as ``-``."""
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{render(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{written}>{join(children, '')}</{name}>")


def section(title: str, lead: object, *children: object) -> Html:
    """A titled part of the page with one sentence on what it answers."""
    return element("section", element("h2", title), element("p", lead, class_="lead"), *children)


def figure(svg: str, title: str, caption: object) -> Html:
    """A picture with its title above and, below, what to see in it."""
    return element(
        "figure",
        element("h3", title),
        element("div", Html(svg), class_="drawing"),
        element("figcaption", caption),
    )


def table(header: Sequence[object], rows: Iterable[Sequence[object]], *, caption: str, left: int = 1) -> Html:
    """A table whose first ``left`` columns are words and whose other columns are figures."""

    def cells(kind: str, row: Sequence[object]) -> Html:
        return join(
            (element(kind, cell, **({} if i < left else {"class_": "number"})) for i, cell in enumerate(row)), ""
        )

    body = join(element("tr", cells("td", row)) for row in rows)
    return element(
        "div",
        element(
            "table",
            element("caption", caption),
            element("thead", element("tr", cells("th", header))),
            element("tbody", body),
        ),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption,
    )
