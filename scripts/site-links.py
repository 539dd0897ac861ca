"""A preprocessor of mdBook (book.toml names it): makes links of the pages right for the site.

The pages are read in the repository as well, where `../README.md` is a file beside the folder of pages. The site holds these
pages alone, so links that leave it become links to the repository (`git-repository-url` in book.toml); and mdBook writes a
README.md as index.html, so links to one become links to index.md. Code is left as it is.
"""

import json
import posixpath
import re
import sys
from pathlib import Path

LINK = re.compile(r"(\]\()([^)#\s:]+)(#[^)\s]*)?(\))")


def rewritten(target, place, page, root, source, repository):
    """Where a link of `page` (a path in `source`) leads on the site."""
    path = posixpath.normpath(posixpath.join(source, posixpath.dirname(page), target))
    if not path.startswith(source + "/"):
        kind = "tree" if (root / path).is_dir() else "blob"
        return f"{repository}/{kind}/main/{path}{place}"
    if posixpath.basename(target) == "README.md":
        return target[: -len("README.md")] + "index.md" + place
    return target + place


def text_of(chapter, **where):
    """The chapter's text with its links made right."""
    lines, fenced = [], False
    for line in chapter["content"].split("\n"):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith("    "):
            # What is in backticks is code as well.
            parts = re.split(r"(`[^`]*`)", line)
            change = lambda m: m[1] + rewritten(m[2], m[3] or "", chapter["source_path"], **where) + m[4]
            parts[::2] = [LINK.sub(change, part) for part in parts[::2]]
            line = "".join(parts)
        lines.append(line)
    return "\n".join(lines)


def change(items, **where):
    for item in items:
        chapter = item.get("Chapter") if isinstance(item, dict) else None
        if chapter:
            if chapter.get("source_path"):
                chapter["content"] = text_of(chapter, **where)
            change(chapter["sub_items"], **where)


def main():
    if sys.argv[1:2] == ["supports"]:
        sys.exit(0)
    context, book = json.load(sys.stdin)
    config = context["config"]
    where = {
        "root": Path(context["root"]),
        "source": config["book"]["src"],
        "repository": config["output"]["html"]["git-repository-url"],
    }
    # mdBook 0.5 says items, 0.4 said sections.
    change(book.get("items", book.get("sections")), **where)
    json.dump(book, sys.stdout)


if __name__ == "__main__":
    main()
