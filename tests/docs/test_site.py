"""The site: what is generated for it, and that broken links and remote files are found."""

import doctest
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))  # pages.py imports api.py, as when it is run
api, check, pages = (runpy.run_path(str(ROOT / f"docs/{n}.py")) for n in ("api", "check", "pages"))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The laid-out sources of the site."""
    folder = tmp_path_factory.mktemp("site") / "source"
    pages["lay_out"](folder)
    return folder


def test_every_notebook_text_and_module_has_its_page(sources):
    first = (sources / "index.md").read_text()
    for path in [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("notebooks/*.md")]:
        assert path.relative_to(ROOT).as_posix() in first
    assert (sources / "api/workbench.search.beam.md").is_file()
    assert "<!--" not in first and "mermaid" not in first


def test_notebooks_are_copied_as_they_were_recorded(sources):
    for path in ROOT.glob("notebooks/*.ipynb"):
        assert (sources / "notebooks" / path.name).read_bytes() == path.read_bytes()


def test_all_names_to_rely_on_are_linked(sources):
    index = (sources / "api/index.md").read_text()
    for names in api["RELIED_ON"].values():
        for name in set(names.split()) - {"METHODS"}:
            assert f"{{py:obj}}`{name} <workbench." in index, f"{name} is defined nowhere"


def test_docstrings_become_markdown():
    tree = api["ast"].parse('"""a < b, `c < d`, arXiv 2312.08935.\n\n>>> 1\n1\n\n    x = $y\n"""')
    link = "[arXiv 2312.08935](https://arxiv.org/abs/2312.08935)"
    parts = [f"a \\< b, `c < d`, {link}.", "```python\n>>> 1\n1\n```", "```text\nx = $y\n```"]
    assert api["as_markdown"](tree) == "\n\n".join(parts)


def test_flowcharts_become_lists_of_arrows():
    examples = doctest.DocTestFinder().find(pages["arrows"], globs=pages)
    assert all(doctest.DocTestRunner().run(example).failed == 0 for example in examples)
    chart = pages["FLOWCHART"].search((ROOT / "README.md").read_text())[1]
    assert pages["arrows"](chart).count("<li>") == chart.count("->") > 0


GOOD = '<a href="b.html#x">b</a><a href="#top">up</a><img src="b.png"><a href="https://x.org">x</a>'


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        (GOOD, None),
        ('<a href="c.html">c</a>', "a.html: c.html leads nowhere"),
        ('<a href="b.html#y">b</a>', "a.html: b.html#y leads nowhere"),
        ('<img src="c.png">', "a.html: c.png leads nowhere"),
        ('<script src="https://x.org/x.js"></script>', "a.html: loads https://x.org/x.js from"),
        ('<link rel="stylesheet" href="//x.org/x.css">', "a.html: loads //x.org/x.css from"),
    ],
)
def test_broken_links_and_remote_files_are_found(tmp_path, html, problem):
    (tmp_path / "a.html").write_text(html)
    (tmp_path / "b.html").write_text('<p id="x">')
    (tmp_path / "b.png").write_text("")
    found = check["problems"](tmp_path)
    assert found == [] if problem is None else len(found) == 1 and found[0].startswith(problem)


def test_remote_fonts_are_found(tmp_path):
    (tmp_path / "a.html").write_text("")
    (tmp_path / "a.css").write_text("@font-face { src: url('https://x.org/f.woff2') }")
    assert check["problems"](tmp_path) == ["a.css: loads from elsewhere"]
