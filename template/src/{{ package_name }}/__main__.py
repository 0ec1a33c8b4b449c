"""The command line."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from .config import EvaluateConfig, ExportConfig, TrainConfig
from .runtime import ReportedError, Stopped, UserError, first_line
from .runtime.settings import read_config

COMMANDS: dict[str, Callable[..., Any]] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
}


def main() -> int:
    """Run a command, and return its exit code.

    It is 0, or 2 for what the user can fix, or 128 and the number of the signal that ended it, a
    pipe that nobody reads any more included.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a path may have letters that a terminal lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        run(parse(sys.argv[1:]))
        return 0
    except ReportedError:
        return 2
    except BrokenPipeError:
        return 141
    except (UserError, OSError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        from .runtime.dist import ignore_signals

        ignore_signals()
        return 128 + stopped.number
    except KeyboardInterrupt as error:
        return 128 + (error.args[0] if error.args else 2)


def parse(arguments: list[str]) -> Any:
    """Return the settings that the arguments of the command line give.

    Raises:
        UserError: A setting makes no sense, or the file of --config cannot be used.
    """
    if arguments[:1] != ["train"]:
        return tyro.extras.subcommand_cli_from_dict(COMMANDS, args=arguments)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    given, others = parser.parse_known_args(arguments[1:])
    default = read_config(TrainConfig, given.config) if given.config else TrainConfig()
    prog = f"{Path(sys.argv[0]).name} train"
    return tyro.cli(TrainConfig, prog=prog, args=others, default=default)


def run(config: Any) -> None:
    """Run the command that these are the settings of."""
    # torch takes a second to import: not for --help, nor for a mistyped option
    from .evaluate import evaluate, export
    from .train import train

    commands = {TrainConfig: train, EvaluateConfig: evaluate, ExportConfig: export}
    command: Any = commands[type(config)]
    command(config)


if __name__ == "__main__":
    sys.exit(main())
