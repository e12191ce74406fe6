"""Pages and Markdown: where templates are found, and self-contained HTML in one look; a model's text is escaped."""

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def environment(package: str, folder: str = "templates", *, autoescape: bool = False) -> Environment:
    """Templates of a package, and this one's style sheet; a name that is not given is an error.

    Args:
        package: dotted name of the package that the templates lie in.
        folder: where in it.
        autoescape: for HTML; Markdown is not escaped, and has the filter `cell`.
    """
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package, folder), PackageLoader("dante.look", ".")]),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["cell"] = cell
    return made


def cell(text: str) -> str:
    """Text as one cell of a Markdown table."""
    return str(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def render(package: str, template: str, **values: Any) -> str:
    """A page from a template of a package."""
    return environment(package, autoescape=True).get_template(template).render(**values)
