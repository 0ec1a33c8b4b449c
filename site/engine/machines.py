"""What a machine says of itself, as tools/doctor.py takes it: from `nvidia-smi`, `rocminfo` or the doctor's `--json`."""

from __future__ import annotations

import json
import re
from typing import Any

# Compute capabilities by name, the first that fits: https://developer.nvidia.com/cuda/gpus and /cuda/gpus/legacy
TARGETS = {
    "12.1": r"GB10|DGX Spark",
    "8.9": r"Ada\b|RTX 40[5-9]0|L4|L20|L40|L40S",
    "12.0": r"RTX 50[5-9]0|RTX PRO \d{4}",
    "11.0": r"Thor",
    "10.3": r"G?B300",
    "10.0": r"G?B200|B100",
    "9.0": r"H(20|100|200|800)|GH200",
    "8.7": r"Orin",
    "8.6": r"RTX 30[5-9]0|RTX A\d{3,4}|A(2|10|10G|10M|16|40)",
    "8.0": r"A30|A100|A800",
    "7.5": r"GTX 16[56]0|RTX 20[678]0|Quadro RTX \d{4}|TITAN RTX|T4|T4G|T\d{3,4}|MX[45]50",
    "7.2": r"Xavier",
    "7.0": r"V100S?|TITAN V|GV100",
    "6.2": r"TX2|Tegra X2",
    "6.1": r"GTX 10[5-8]0|GT 10[13]0|P4|P6|P40|TITAN Xp?|Quadro P\d{3,4}|P\d{3,4}|MX[123][1-5]0",
    "6.0": r"P100|GP100",
    "5.3": r"TX1|Tegra X1",
    "5.2": r"GTX 9[5-8]0|M4|M6|M40|M60|Quadro M\d{4}",
    "5.0": r"GTX 7[45]0|GTX 8[56]0M|M10|[89][1-4]0M",
    "3.7": r"K80",
    "3.5": r"GTX 7[68]0|K20|K40|GTX TITAN|TITAN Black|GT 7[13]0",
}
ON_ARM = re.compile(r"\b(GB10|DGX Spark|GH200|GB[23]00|Grace|T4G|Thor|Orin|Xavier|Tegra|TX[12])\b")
WINDOWS = re.compile(r"\b(WDDM|TCC|MCDM)\b|Windows|not recognized as|^(PS )?[A-Z]:\\", re.MULTILINE)
NO_DRIVER = re.compile(r"NVIDIA-SMI has failed|couldn't communicate|Failed to initialize NVML|not found|not recognized")
# As the table, `-L`, `-q` and `--query-gpu=name,…` name a card. With limits: otherwise, long lines take minutes
NAMED = re.compile(
    r"^\| {1,9}\d{1,3} {1,9}(?P<row>\S.{0,99}?) (?:On|Off|N/A|WDDM|TCC|MCDM) {0,9}\|"
    r"|^[ \t]{0,99}GPU \d{1,3}: (?P<listed>.{1,99}?)(?: \(UUID: .{0,99}\))?\s{0,9}$"
    r"|^[ \t]{0,99}Product Name\s{0,99}: (?P<asked>.{1,99}?)\s{0,9}$"
    r"|^[ \t]{0,99}(?P<queried>(?:NVIDIA|Tesla|Quadro|GeForce) [^,|:]{1,99}?), ",
    re.MULTILINE,
)
MOST = 32  # machines in one text


def read(text: str, backends: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the machines that a text tells of, and what is wrong with it.

    Args:
        text: What was pasted.
        backends: The doctor's table, with the oldest driver of each backend.
    """
    if text.lstrip().startswith(("{", "[")):
        return from_doctor(text)
    if amd := re.findall(r"\bgfx[1-9][0-9a-f]{2,3}\b", text):
        return [machine("linux", "x86_64", [{"vendor": "amd", "target": one} for one in dict.fromkeys(amd)])], []
    return from_nvidia(text, backends)


def depth(text: str) -> int:
    """Return how deep the brackets of a text are nested."""
    level = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        level += 1 if bracket in "[{" else -1
        deepest = max(deepest, level)
    return deepest


def from_doctor(text: str) -> tuple[list[dict[str, Any]], list[str]]:
    try:
        if depth(text) > 20:  # a browser's stack would end, and Python with it
            raise ValueError
        found = json.loads(text)
        each = found if isinstance(found, list) else [found]
        if len(each) > MOST:
            return [], [f"these are {len(each)} machines: paste at most {MOST}, one of each kind"]
        return [checked(one["machine"]) for one in each], []
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return [], ["this is not what `tools/doctor.py --json` prints: paste all of it"]


def from_nvidia(text: str, backends: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    cards, _, _ = text.partition("Processes:")
    names = [next(filter(None, match.groups())).strip() for match in NAMED.finditer(cards)]
    system = "win32" if WINDOWS.search(text) else "linux"
    kind = "AMD64" if system == "win32" else "aarch64" if ON_ARM.search(cards) else "x86_64"
    driver, cuda = version("Driver Version|KMD Version", text), version("CUDA (?:UMD )?Version", text)
    if not names and NO_DRIVER.search(text):
        return [machine(system, kind, [])], ["nvidia-smi reaches no driver: install one, or this machine uses its CPU"]
    if not names and not re.search("No devices were found", text):
        return [], ["no graphics card is named here: paste all that `nvidia-smi` prints"]
    if driver and not cuda:
        cuda = newest_cuda(driver, system, backends)
    gpus = [{"vendor": "nvidia", "target": target(name), "name": name} for name in names]
    problems = [f"'{one['name']}' is not known here: choose the card by name" for one in gpus if not one["target"]]
    if any(one["name"].endswith("...") and not one["target"] for one in gpus):
        problems = ["nvidia-smi has cut off the name of the card: paste what `nvidia-smi -q` prints"]
    return [machine(system, kind, [one for one in gpus if one["target"]], cuda)], list(dict.fromkeys(problems))


def target(name: str) -> str:
    """Return the compute capability of a card, or nothing where the name is unknown."""
    return next((one for one, names in TARGETS.items() if re.search(rf"\b({names})(?![A-Za-z0-9])", name)), "")


def version(label: str, text: str) -> str:
    found = re.search(rf"(?:{label})\s*: *(\d{{1,9}}(?:\.\d{{1,9}}){{1,3}})", text)
    return found[1] if found else ""


def newest_cuda(driver: str, system: str, backends: dict[str, Any]) -> str:
    """Return the newest CUDA that a driver runs, as far as the table goes."""

    def numbers(text: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", text)]

    name = {"linux": "linux", "win32": "windows"}[system]
    fitting = [
        backend
        for backend, entry in backends.items()
        if backend.startswith("cu") and numbers(driver) >= numbers(entry.get("driver", {}).get(name, "9999"))
    ]
    return max((f"{int(one[2:4])}.{one[4:]}" for one in fitting), key=numbers, default="0.0")


def machine(system: str, kind: str, gpus: list[dict[str, Any]], cuda: str = "") -> dict[str, Any]:
    return checked({"system": system, "machine": kind, "gpus": gpus, "cuda": cuda})


def checked(described: dict[str, Any]) -> dict[str, Any]:
    """Return a description with the doctor's fields, each a short text.

    Raises:
        TypeError: It is not a description of a machine.
    """

    def short(fields: Any, name: str) -> str:
        text = fields.get(name, "")
        if not isinstance(text, str):
            raise TypeError(f"{name} is not a text")
        return text[:100]

    gpus = [{name: short(gpu, name) for name in ("vendor", "target", "name")} for gpu in described.get("gpus", [])[:64]]
    return {name: short(described, name) for name in ("system", "machine", "cuda", "macos")} | {"gpus": gpus}
