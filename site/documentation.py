"""The documentation as a site: the pages of docs/, by Zensical.

uv run --group docs site/documentation.py FOLDER
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[1]


def build(folder: Path) -> None:
    """Build the documentation into a folder.

    Raises:
        subprocess.CalledProcessError: A link or an anchor is broken.
    """
    with tempfile.TemporaryDirectory() as name:  # Zensical writes next to its configuration
        copy = Path(name)
        shutil.copy(ROOT / "zensical.toml", copy)
        shutil.copytree(ROOT / "docs", copy / "docs")
        subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=copy, check=True)
        shutil.copytree(copy / "site", folder, dirs_exist_ok=True)
    for page in folder.rglob("*.html"):
        page.write_text(restricted(page.read_text(encoding="utf-8")), encoding="utf-8")


def restricted(html: str) -> str:
    """Return a page that runs its own scripts and loads nothing from other hosts."""
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    hashes = (b64encode(sha256(script.encode()).digest()).decode() for script in scripts)
    policy = {
        "default-src": "'none'",
        "script-src": " ".join(["'self'", *(f"'sha256-{one}'" for one in dict.fromkeys(hashes))]),
        "style-src": "'self' 'unsafe-inline'",  # the theme sets styles by script
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "worker-src": "'self' blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    content = "; ".join(f"{directive} {sources}" for directive, sources in policy.items())
    meta = f'<meta http-equiv="Content-Security-Policy" content="{content}">'
    return html.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{meta}', 1)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
