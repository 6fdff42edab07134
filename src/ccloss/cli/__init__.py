"""The ``ccloss`` command."""

from ccloss.cli.app import main

__all__ = ["main"]
