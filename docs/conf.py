"""Sphinx builds the site: sphinx-build -W docs docs/_build/html."""

import sys
from pathlib import Path

import gradharness

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "gradharness"
author = "the gradharness authors"
release = version = gradharness.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx_click",
    "sphinx_copybutton",
    "catalogue",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "gradharness"
html_copy_source = False
html_show_copyright = False

autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
myst_heading_anchors = 3
myst_fence_as_directive = []
copybutton_prompt_text = "$ "
intersphinx_mapping = {}  # the site is built without a network
