"""Is the built site whole? Internal links lead somewhere, and nothing is loaded from elsewhere.

python docs/check.py build/site
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
REMOTE = re.compile(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""")


class Page(HTMLParser):
    """The links of a page, what it loads, and the places that a link can lead to."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        """Note what a tag refers to."""
        given = {name: value or "" for name, value in attributes}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in LOADS and LOADS[tag] in given:
            self.loads.append(given[LOADS[tag]])


def problems(folder: Path) -> list[str]:
    """What is wrong with the site in a folder, a line each."""
    files = [path for path in folder.rglob("*.html") if "_static" not in path.parts]
    pages = {path.resolve(): Page(path.read_text("utf-8")) for path in files}
    found = [f"{folder}: holds no page"] if not pages else []
    for path, page in pages.items():
        name = path.relative_to(folder.resolve())
        remote = [url for url in page.loads if urlsplit(url).netloc]
        found += [f"{name}: loads {url[:80]} from elsewhere" for url in remote]
        inside = [url for url in page.links + page.loads if not urlsplit(url).scheme]
        found += [f"{name}: {url} leads nowhere" for url in inside if not _leads(path, url, pages)]
    styles = [path for path in folder.rglob("*.css") if REMOTE.search(path.read_text("utf-8"))]
    return found + [f"{path.relative_to(folder)}: loads from elsewhere" for path in styles]


def _leads(page: Path, url: str, pages: dict[Path, Page]) -> bool:
    """Does a link of a page lead to a file, and to a place in it?"""
    parts = urlsplit(url)
    if parts.netloc:
        return True
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target not in pages:
        return target.is_file()
    return unquote(parts.fragment) in pages[target].places


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]))
    print("\n".join(wrong) or "all links lead somewhere, nothing is loaded from elsewhere")
    sys.exit(bool(wrong))
