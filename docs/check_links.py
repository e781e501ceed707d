"""Look at every link of a built site: `python docs/check_links.py site`.

Fails if a page links to a file or an anchor that is not there, or loads anything over the network: the site must read
without one.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src")}


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[tuple[str, str, str]] = []
        self.anchors = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.anchors |= {value for name in ("id", "name") if (value := given.get(name))}
        self.links += [(tag, name, value) for name in ("href", "src") if (value := given.get(name))]


def problems(site: Path) -> list[str]:
    """Return a line for each link that leads nowhere, and for each thing that would be loaded over the network."""
    pages = {
        path.resolve(): Page(path.read_text(encoding="utf-8"))
        for path in site.rglob("*.html")
        if "_static" not in path.parts
    }
    found = []
    for path, page in pages.items():
        for tag, attribute, link in page.links:
            address = urlsplit(link)
            where = f"{path.relative_to(site.resolve())}: {link}"
            if address.scheme in ("http", "https") or address.netloc:
                if (tag, attribute) in LOADED and "canonical" not in link:
                    found.append(f"{where} is loaded over the network")
            elif not address.scheme:
                target = (path.parent / unquote(address.path)).resolve() if address.path else path
                target = target / "index.html" if target.is_dir() else target
                if not target.exists():
                    found.append(f"{where} is not there")
                elif target in pages and unquote(address.fragment) not in pages[target].anchors:
                    found.append(f"{where}: no such anchor")
    return sorted(set(found))


if __name__ == "__main__":
    site = Path(sys.argv[1])
    found = problems(site)
    print(*found, sep="\n")
    print(f"{len(list(site.rglob('*.html')))} pages, {len(found)} links that lead nowhere")
    sys.exit(bool(found))
