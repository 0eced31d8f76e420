"""Settings of the site that `make site` builds (Sphinx, MyST-NB): recorded outputs, no network.

Formulas become MathML here, which browsers draw by themselves; so a page needs no script for them.
"""

from docutils import nodes
from latex2mathml.converter import convert

project = "Reasoning workbench"
author = copyright = "The authors of the reasoning workbench"
extensions = ["myst_nb"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}

nb_execution_mode = "off"  # the recorded outputs are what is shown
nb_render_markdown_format = "myst"  # outputs in Markdown hold formulas, too
nb_ipywidgets_js = {}  # no notebook stores a widget; else a script would come from elsewhere
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
smartquotes = False
html_math_renderer = "mathml"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_theme_options = {
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_fullscreen_button": False,
    "navbar_persistent": [],  # the search stands at the side
}


def _inline(translator, node):
    translator.body.append(convert(node.astext(), display="inline"))
    raise nodes.SkipNode


def _display(translator, node):
    translator.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app):
    """Let Sphinx write formulas as MathML."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
