"""Checks a built site: every link, picture, script and style of its pages leads to a file of the site, and every #place to an id.

    python3 scripts/check-site.py target/site

Links to other sites are counted, not followed: a check must give the same answer without a network. Exits with 1 and a line for
each link that leads nowhere. Needs Python's standard library alone.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Links and ids of one page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src") and tag != "base" and value:
                self.links.append((self.getpos()[0], value))
            elif name == "id" or (name == "name" and tag == "a"):
                self.ids.add(value)


def broken(root):
    """Sentences about links that lead nowhere; numbers of pages, links inside and links outside."""
    root = Path(root).resolve()
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(root.rglob("*.html"))}
    found, inside, outside = [], 0, 0
    for path, page in pages.items():
        # The page for a wrong address is served at any depth, and all pages in one repeat the links of each.
        if path.name in ("404.html", "print.html"):
            continue
        for line, link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                outside += 1
                continue
            inside += 1
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            to = to / "index.html" if to.is_dir() else to
            where = f"{path.relative_to(root)}:{line}: {link}"
            if not to.is_relative_to(root):
                found.append(f"{where} leads out of the site")
            elif not to.is_file():
                found.append(f"{where} leads to no file")
            elif parts.fragment and to in pages and unquote(parts.fragment) not in pages[to].ids:
                found.append(f"{where} leads to no place on that page")
    return found, len(pages), inside, outside


def main():
    found, pages, inside, outside = broken(sys.argv[1])
    for sentence in found:
        print(sentence)
    if pages < 2:
        sys.exit(f"{sys.argv[1]} has {pages} pages: no site was built there")
    print(f"{pages} pages, {inside} links inside the site, {outside} to other sites (not followed); {len(found)} lead nowhere")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
