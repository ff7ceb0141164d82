"""How the command line words an error: what Python calls an argument is an option here."""

from __future__ import annotations

from collections.abc import Sequence

import click

from mobilesam.core.errors import MobileSamError, Remedy
from mobilesam.core.text import one_line


def words_of(error: MobileSamError, command: click.Command | None = None) -> str:
    """Return an error's message in one line; what would allow it is named as an option, if the command has it.

    Args:
        error: what happened.
        command: the one it happened in; by default the one that runs.
    """
    context = click.get_current_context(silent=True)
    command = command or (context.command if context else None)
    if error.remedy is None or command is None:
        return one_line(error.message)
    has = any(one.name == error.remedy.argument for one in command.params)
    return one_line(f"{error.message}, or pass {option_of(error.remedy)}" if has else error.message)


def option_of(remedy: Remedy) -> str:
    """Return what to pass, and what it does: ``--overwrite to replace it``."""
    value = "" if remedy.value is True else f" {remedy.value}"
    return f"--{remedy.argument.replace('_', '-')}{value} {remedy.effect}"


def command_of(group: click.Command, arguments: Sequence[str]) -> click.Command:
    """Return the command that arguments call; in a group, the one named first."""
    for argument in arguments:
        if not isinstance(group, click.Group):
            break
        found = group.get_command(click.Context(group), argument)
        group = found or group
    return group
