"""The README's table of what is supported, made from builds.yml.

python -m tests.supported
"""

from __future__ import annotations

import re

from tests.table import PLATFORMS, RELEASES, ROOT, words

README = ROOT / "README.md"
BETWEEN = re.compile(r"(?<=<!-- supported -->\n).*?(?=<!-- /supported -->)", re.DOTALL)


def table() -> str:
    """Return the table in Markdown: a row a release, the builds that PyPI carries in bold."""
    lines = [f"| torch | Python | {' | '.join(PLATFORMS)} |", f"|---|---|{'---|' * len(PLATFORMS)}"]
    for release, entry in RELEASES.items():
        pythons = words(entry["python"])
        cells = [release, f"{pythons[0]} to {pythons[-1]}"]
        for platform in PLATFORMS:
            row = re.sub(r"([\w.]+)\*", r"**\1**", entry["platforms"][platform])
            cells.append(
                f"{row} (macOS {entry['macos'].removesuffix('.0')} or newer)" if platform == "macos-arm64" else row
            )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the table into the README."""
    README.write_text(
        BETWEEN.sub(lambda _: table(), README.read_text(encoding="utf-8")), encoding="utf-8", newline="\n"
    )


if __name__ == "__main__":
    main()
