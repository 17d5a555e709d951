"""Settings of the site: python -m sphinx -W docs build/site"""

import re

import rse_tf

project = "rse_tf"
version = release = rse_tf.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
myst_heading_anchors = 3  # links to sections, as GitHub writes them
default_role = "literal"
autodoc_default_options = {"members": True, "imported-members": True, "show-inheritance": True}
autodoc_inherit_docstrings = False  # those of Keras are its own business
autodoc_typehints = "none"  # the docstrings have shapes and units
napoleon_use_ivar = True
napoleon_custom_sections = [("Call arguments", "params_style")]


def _plurals(app: object, what: str, name: str, obj: object, options: object, lines: list) -> None:
    """`NoiseLayer`s is plain Markdown; here the letter needs a mark in front of it."""
    lines[:] = [re.sub(r"(?<!`)(`[^`]+`)(?=\w)", r"\1\\ ", line) for line in lines]


def setup(app) -> None:  # type: ignore[no-untyped-def]
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _plurals)
