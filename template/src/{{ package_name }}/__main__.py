"""The command line."""

from __future__ import annotations

import sys

import tyro

from .config import TrainConfig, UserError


def main() -> int:
    """Run a command and return its exit code: 0, or 2 for what the user can put right."""
    try:
        config = tyro.cli(
            tyro.extras.subcommand_type_from_defaults(
                {"train": TrainConfig()}, {"train": "Train the network."}
            )
        )
        # torch takes a second to import: not for --help, nor for a mistyped option
        from .train import train

        train(config)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
