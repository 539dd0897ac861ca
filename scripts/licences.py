"""Prints the licences of everything that a program of this workspace is made of: name, version, licence, and the texts.

    python3 scripts/licences.py PACKAGE TARGET

Packages of the workspace and those that only build or test it are left out. Equal texts are printed once. Fails where a package
names no licence.
"""

import json
import pathlib
import re
import subprocess
import sys


def main(package, target):
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    packages = {p["id"]: p for p in metadata["packages"]}
    nodes = {n["id"]: n for n in metadata["resolve"]["nodes"]}
    members = set(metadata["workspace_members"])
    (root,) = [i for i in members if packages[i]["name"] == package]

    found, waiting = set(), [root]
    while waiting:
        here = waiting.pop()
        if here in found:
            continue
        found.add(here)
        for dependency in nodes[here]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])

    texts, missing = {}, []
    print(f"{package} is made of these packages beside its own.\n")
    for p in sorted((packages[i] for i in found - members), key=lambda p: (p["name"], p["version"])):
        label = f"{p['name']} {p['version']}"
        if not (p["license"] or p["license_file"]):
            missing.append(label)
        print(f"{label}: {p['license'] or p['license_file']}  {p['repository'] or ''}".rstrip())
        folder = pathlib.Path(p["manifest_path"]).parent
        for path in sorted(folder.iterdir()):
            if path.is_file() and re.match(r"(licen[cs]e|copying|notice|unlicense)", path.name, re.IGNORECASE):
                text = path.read_text(encoding="utf-8", errors="replace").strip()
                texts.setdefault(text, []).append(label)
    for text, labels in texts.items():
        print(f"\n{'=' * 78}\n{', '.join(labels)}\n{'-' * 78}\n{text}")
    if missing:
        sys.exit(f"no licence: {', '.join(missing)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
