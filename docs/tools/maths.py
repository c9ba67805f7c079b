"""MkDocs hook: formulas become MathML while the pages are built, so that a page needs no script and no network."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from latex2mathml.converter import convert

INLINE = re.compile(r'<span class="arithmatex">\\\((?P<tex>.*?)\\\)</span>', re.DOTALL)
BLOCK = re.compile(r'<div class="arithmatex">\\\[(?P<tex>.*?)\\\]</div>', re.DOTALL)


def _mathml(tex: str, display: str) -> str:
    # the converter writes \sim as an ASCII tilde
    return convert(unescape(tex).strip(), display=display).replace("&#x0007E;", "&#x0223C;")


def on_page_content(html: str, **kwargs: Any) -> str:
    """Replace the formulas of one page."""
    html = INLINE.sub(lambda m: _mathml(m["tex"], "inline"), html)
    return BLOCK.sub(lambda m: _mathml(m["tex"], "block"), html)
