"""What the network of this machine reaches."""

from __future__ import annotations

import urllib.request


def unreached(url: str) -> str:
    """Return why a URL cannot be reached, or nothing."""
    try:
        urllib.request.urlopen(url, timeout=20).close()
    except OSError as error:
        return f"{url} cannot be reached ({error})"
    return ""
