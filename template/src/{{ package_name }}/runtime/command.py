"""The command line: parsing its settings, and the exit code of a command."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from . import ReportedError, Stopped, UserError, first_line
from .settings import read_config


def exit_code(command: Callable[[], object]) -> int:
    """Run a command, and return its exit code.

    It is 0, 2 for an error that the user can fix, or 128 + N if signal N ended the command. A pipe
    that nobody reads any more counts as SIGPIPE.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not every encoding has all characters
            stream.reconfigure(errors="backslashreplace")
    try:
        command()
        return 0
    except ReportedError:
        return 2
    except BrokenPipeError:
        return 141
    except (UserError, OSError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        from .dist import ignore_signals

        ignore_signals()
        return 128 + stopped.number
    except KeyboardInterrupt as error:
        return 128 + (error.args[0] if error.args else 2)


def parse(commands: dict[str, type], arguments: list[str]) -> Any:
    """Return the settings of a command line, which override those of --config, if that is given.

    Args:
        commands: The dataclass of settings of each command, by name.

    Raises:
        UserError: A setting is out of range, or the file of --config cannot be used.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    (name, *options), prog = arguments or [""], Path(sys.argv[0]).name
    given, others = parser.parse_known_args(options)
    if name not in commands or not given.config:
        return tyro.extras.subcommand_cli_from_dict({**commands}, prog=prog, args=arguments)
    default = read_config(commands[name], given.config)
    return tyro.cli(commands[name], prog=f"{prog} {name}", args=others, default=default)
