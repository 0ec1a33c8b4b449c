"""The command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import tyro

from .config import DoctorConfig, EvaluateConfig, ExportConfig, TrainConfig, UserError

COMMANDS: dict[str, Callable[..., Any]] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "doctor": DoctorConfig,
}


def main() -> int:
    """Run a command and return its exit code: 0, or 2 for what the user can put right."""
    try:
        config = tyro.extras.subcommand_cli_from_dict(COMMANDS)
        if isinstance(config, DoctorConfig):
            from .doctor import doctor

            return doctor(config)

        # torch takes a second to import: not for --help, nor for a mistyped option
        from . import checkpoint, evaluate, train

        if isinstance(config, ExportConfig):
            checkpoint.export(config)
        elif isinstance(config, EvaluateConfig):
            evaluate.evaluate(config)
        else:
            train.train(config)
    except (UserError, OSError) as error:
        if not getattr(error, "said", False):
            print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
