"""The command line `python -m gluon_ran`, a module a command."""

from gluon_ran.commands.command_line import main

__all__ = ["main"]
