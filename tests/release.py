"""Check that the template may be released under a version, and tag it.

uvx nox -s release -- 1.2.0
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from packaging.version import Version

from tests.interface import broken, git, interface, is_version, runtime, tags, unanswered
from tests.table import ROOT


def section(version: str) -> str:
    """Return what CHANGELOG.md says of a version."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(version)}\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def problems(version: str) -> Iterator[str]:
    """Yield what prevents a release, and how to fix it."""
    if not is_version(version) or str(Version(version)) != version or Version(version).local:
        yield f"{version!r} is not a version in the form of PEP 440: use 1.2.0 or 1.2.0rc1"
        return
    if git(ROOT, "status", "--porcelain"):
        yield "there are changes that are not committed: commit them, or git stash --include-untracked"
    try:
        released = tags(ROOT)
    except LookupError as error:
        yield str(error)
        return
    if released and Version(version) <= Version(released[-1]):
        yield f"{version} is not newer than {released[-1]}, which is tagged"
    text = section(version)
    if not text:
        yield f'CHANGELOG.md says nothing of {version}: give "## Unreleased" this name, and commit it'
    now = interface(ROOT)
    before = interface(ROOT, released[-1]) if released else set()
    if now != before and not re.search(r"^### Answers\n+\S", text, re.MULTILINE):
        changed = sorted(" ".join(entry) for entry in now ^ before)
        yield f'questions or values changed ({", ".join(changed[:3])}, ...): CHANGELOG.md needs "### Answers" under {version}'
    for tag in released:
        gone = sorted(" ".join(entry) for entry in interface(ROOT, tag) - now)
        if gone:
            yield f"{tag} had what is gone, and answers may hold it: {', '.join(gone)}"
        for name in sorted(unanswered(ROOT, tag)):
            yield f"{tag} does not ask for {name}, so its projects could not update: in _exclude, write {name} | default(...)"
        if calls := broken(runtime(ROOT, tag), runtime(ROOT)):
            yield f"the code of projects from {tag} may rest on what changed in the runtime: {', '.join(calls)}"


def main() -> int:
    """Tag the commit that is checked out, with what the changelog says of it."""
    if len(sys.argv) != 2:
        print("give the version: uvx nox -s release -- 1.2.0", file=sys.stderr)
        return 2
    version = sys.argv[1]
    found = list(problems(version))
    for problem in found:
        print(problem, file=sys.stderr)
    if found:
        return 1
    git(ROOT, "tag", "--annotate", "--cleanup=verbatim", f"--message={version}\n\n{section(version)}", version)
    print(f"{version} is tagged. Publish it: git push origin {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
