"""A self-contained HTML page: all of its style and pictures are in it, and it asks nothing of the network."""

from __future__ import annotations

import html

_PAGE = """<!doctype html>
<html lang=en><head><meta charset=utf-8>
<meta name=viewport content="width=device-width,initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body>
{body}
</body></html>
"""


def page(title: str, style: str, body: str) -> str:
    """`title` is text, `style` CSS and `body` HTML."""
    return _PAGE.format(title=html.escape(title), style=style, body=body)
