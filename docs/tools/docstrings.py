"""Griffe extension: docstrings are written for `help()` in reStructuredText; the pages are in Markdown."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc|obj):`(?P<hide>[~!])?(?P<path>[^`]+)`")
MATH_ROLE = re.compile(r":math:`(?P<tex>[^`]+)`")
MATH_BLOCK = re.compile(
    r"^(?P<indent> *)\.\. math::(?P<first>[^\n]*)\n(?P<body>(?:\n|(?P=indent) +[^\n]*(?:\n|\Z))*)", re.MULTILINE
)
CODE_BLOCK = re.compile(
    r"^(?P<indent> *)(?P<lead>[^\n]*):: *\n\n(?P<body>(?:(?P=indent) {3,}[^\n]*(?:\n|\Z)|\n)+)", re.MULTILINE
)
TABLE = re.compile(
    r"^(?P<indent> *)(?P<rule>=+(?: +=+)+) *\n(?P<body>(?:(?P=indent)[^\n]+\n)+?)(?P=indent)(?P=rule) *$"
    r"(?P<more>(?:\n(?P=indent)[^\n]+)*\n(?P=indent)(?P=rule) *$)?",
    re.MULTILINE,
)
LITERAL = re.compile(r"``([^`]+)``")


def _reference(match: re.Match[str]) -> str:
    path = match["path"]
    text = path.rsplit(".", 1)[-1] if match["hide"] == "~" else path
    return f'<autoref identifier="{path}" optional><code>{text}</code></autoref>'


def _math(match: re.Match[str]) -> str:
    tex = " ".join((match["first"] + "\n" + dedent(match["body"])).split())
    return f"{match['indent']}$$ {tex} $$\n\n"


def _code(match: re.Match[str]) -> str:
    indent, lead = match["indent"], match["lead"].rstrip()
    body = dedent(match["body"]).strip("\n").replace("\n", f"\n{indent}")
    language = "python" if re.search(r"^(import|from|>>>)|[=(]", body, re.MULTILINE) else "text"
    return f"{indent}{lead}{':' if lead else ''}\n\n{indent}```{language}\n{indent}{body}\n{indent}```\n\n"


def _table(match: re.Match[str]) -> str:
    """Turn a simple table, with or without a header, into one of Markdown."""
    indent = match["indent"]
    starts = [m.start() for m in re.finditer("=+", match["rule"])]
    header, body = (match["body"], match["more"].rsplit("\n", 1)[0]) if match["more"] else ("", match["body"])

    def rows(text: str) -> list[list[str]]:
        found: list[list[str]] = []
        for line in text.strip("\n").split("\n"):
            ends = [*starts[1:], None]
            cells = [line[len(indent) :][a:b].strip() for a, b in zip(starts, ends, strict=True)]
            if cells[0] or not found:
                found.append(cells)
            else:  # a continued row
                found[-1] = [" ".join(filter(None, pair)) for pair in zip(found[-1], cells, strict=True)]
        return found

    lines = [*(rows(header) if header else [[""] * len(starts)]), ["---"] * len(starts), *rows(body)]
    return "\n".join(f"{indent}| {' | '.join(cells)} |" for cells in lines)


def to_markdown(text: str) -> str:
    """Turn roles, literals, tables, maths and literal blocks into Markdown."""
    text = MATH_BLOCK.sub(_math, text)
    text = MATH_ROLE.sub(lambda m: f"${m['tex']}$", text)
    text = TABLE.sub(_table, text)
    text = ROLE.sub(_reference, text)
    text = CODE_BLOCK.sub(_code, text)
    return LITERAL.sub(r"`\1`", text)


class Docstrings(Extension):
    """Convert every docstring that mkdocstrings will show."""

    def on_instance(self, *, obj: Object, **kwargs: Any) -> None:
        """Convert the docstring of one object in place."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
