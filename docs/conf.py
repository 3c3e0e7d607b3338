"""How Sphinx builds the site: `make docs`. Pages are plain Markdown, read on a code host as well.

The source folder is the repository's root, so that a link from docs/ to SECURITY.md or to an
example is the same there and here.
"""

import re
from pathlib import Path

_ROOT = Path(__file__).parents[1]

project = "subtokens"
copyright = "the subtokens authors"  # noqa: A001 - Sphinx's name for it
(release,) = re.findall(r'^__version__ = "(.+)"', (_ROOT / "__init__.py").read_text(), re.MULTILINE)

extensions = ["myst_parser"]
myst_heading_anchors = 3  # by the rule of code hosts, so that links to headings hold in both
include_patterns = ["docs/**.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"]
exclude_patterns = [".*", "build"]
root_doc = "docs/index"

html_theme = "furo"
html_title = "subtokens"
html_extra_path = ["site"]  # leads from / to the first page
html_static_path, html_css_files = ["static"], ["tables.css"]
html_copy_source = False
pygments_style, pygments_dark_style = "default", "monokai"
