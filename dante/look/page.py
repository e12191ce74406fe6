"""Self-contained HTML pages of the tools, in the look of the reports; whatever a model wrote is escaped."""

from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """A page from a template of this package; the style sheet is the reports'."""
    environment = Environment(
        loader=PackageLoader("dante.cache.tools"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = files("dante.report").joinpath("templates/style.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=style, **values)
