"""Self-contained HTML pages from the templates beside this file, which extend `base.html.j2` (blocks `style`, `body`).

Every value is escaped but markupsafe's `Markup`, which is HTML already.
"""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined,
    trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
)  # fmt: skip
_ENVIRONMENT.filters["number"] = lambda value, form="%.3f": "\N{EN DASH}" if value is None else form % value


def render(template: str, **values: Any) -> str:
    """Fill the template of this name, as "doctor.html.j2". Raises jinja2's UndefinedError for a value that lacks."""
    return _ENVIRONMENT.get_template(template).render(values)


def data_uri(kind: str, data: bytes) -> str:
    """Put a file of the MIME type `kind` into an address, to stand in a page."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
