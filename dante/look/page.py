"""Pages and Markdown: where templates are found, and self-contained HTML in one look; a model's text is escaped."""

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def environment(package: str, folder: str = "templates", *, autoescape: bool = False) -> Environment:
    """Templates of a package, and this one's style sheet; a name that is not given is an error.

    Args:
        package: dotted name of the package that the templates lie in.
        folder: where in it.
        autoescape: for HTML; Markdown is not escaped.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package, folder), PackageLoader("dante.look", ".")]),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(package: str, template: str, **values: Any) -> str:
    """A page from a template of a package."""
    return environment(package, autoescape=True).get_template(template).render(**values)
