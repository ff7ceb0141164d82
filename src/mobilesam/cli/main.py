"""The ``mobilesam`` command: its subcommands, and how every failure is reported.

Nothing heavy is imported here: a subcommand's module is loaded when it is called, inside
the block that turns an interrupt or an error into its exit code.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import ClassVar

import click

from mobilesam.cli.errors import command_of, words_of
from mobilesam.cli.process import (
    INTERRUPTED_EXIT,
    TERMINATED_EXIT,
    Terminated,
    exit_asked_for,
    signals_end_at_once,
    signals_raise,
)
from mobilesam.core.errors import ImageWarning, LimitError, MobileSamError, PromptWarning, WeightsWarning
from mobilesam.core.text import one_line, printable
from mobilesam.core.version import __version__
from mobilesam.storage.atomic import reason_for

USAGE_EXIT, OUTPUT_EXIT, BUG_EXIT = 2, 6, 70


class LazyGroup(click.Group):
    """A group whose commands are loaded from ``mobilesam.cli.NAME`` when they are asked for."""

    summaries: ClassVar = {  # here, so that the help loads no command
        "segment": "Segment objects in photos by points, boxes, masks or text.",
        "cutout": "Cut things out of photos, with a soft edge.",
        "everything": "Segment everything in photos.",
        "track": "Follow objects through a video or a camera's pictures.",
        "map": "Outline everything in a georeferenced picture.",
        "serve": "Answer programs over HTTP.",
        "ui": "Open a page to click on.",
        "annotate": "Label photos: a set in the formats that people train with.",
        "convert": "Turn labelled photos from one format into others.",
        "info": "Show the models, or one model's weights, terms and parameters.",
        "weights": "Fetch, import, check, average and remove weights.",
        "demo": "Segment two photos, one from a point and one from a box.",
        "finetune": "Train a model further on your own photos with masks.",
        "train": "Train a network.",
        "evaluate": "Score a model.",
        "compare": "Print the paired difference of two evaluations.",
        "bench": "Measure size and speed of models on a photo.",
        "export": "Write a model for other runtimes.",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the help."""
        return list(self.summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command."""
        if cmd_name not in self.summaries:
            return None
        return getattr(import_module(f"mobilesam.cli.{cmd_name}"), cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with what each is for."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for an unknown one, suggest what may have been meant."""
        name = args[0]
        if name not in self.summaries and not name.startswith("-"):
            if os.path.exists(name):  # a Path would raise for names that are too long
                ctx.fail(f"{name!r} is not a command; for a photo write mobilesam segment {name} --point X,Y")
            from difflib import get_close_matches

            near = get_close_matches(name, self.summaries, n=1)
            meant = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(self.summaries)}"
            ctx.fail(f"{name!r} is not a command; {meant}")
        return super().resolve_command(ctx, args)


@click.command(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="mobilesam")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Point at a thing in a picture, get its outline. Works offline.

    \b
    mobilesam cutout photo.jpg
    mobilesam segment photo.jpg --point 210,140
    mobilesam segment photo.jpg --box 120,40,380,300
    mobilesam segment photo.jpg --ruler
    mobilesam everything photo.jpg
    mobilesam track video.mp4 --box 120,40,380,300
    mobilesam demo

    Exit codes: 0 done; 2 arguments or prompts; 3 image; 4 weights; 5 some images failed;
    6 output; 7 over a limit; 8 out of time; 9 training diverged; 10 an export that is not its network; 70 a bug of ours;
    130 interrupted; 143 terminated.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the documented code, in a process that is prepared."""
    try:
        signals_raise()
        status = run(sys.argv[1:] if arguments is None else list(arguments))
    finally:
        signals_end_at_once()
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run the command line; return the exit code. Errors are one line on standard error."""
    try:
        with warnings.catch_warnings():
            for kind in (PromptWarning, ImageWarning):  # the commands print them in their own form
                warnings.simplefilter("ignore", kind)
            warnings.simplefilter("always", WeightsWarning)
            warnings.showwarning = _show_warning
            result = cli.main(arguments, prog_name="mobilesam", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except (click.Abort, KeyboardInterrupt):
        return _tell_end(INTERRUPTED_EXIT)
    except Terminated:
        return _tell_end(TERMINATED_EXIT)
    except Exception as error:
        if (asked := exit_asked_for()) is not None:
            return _tell_end(asked)
        if "--debug" in arguments:
            import traceback

            traceback.print_exc()
        return tell(error, arguments)


def _tell_end(status: int) -> int:
    """Say that a signal ended the command, and return its exit code."""
    what = "interrupted" if status == INTERRUPTED_EXIT else "terminated"
    click.echo(f"{what}; what was written is whole", err=True)
    return status


def tell(error: Exception, arguments: Sequence[str]) -> int:
    """Print the error of a call with these arguments in the documented form, and return its exit code."""
    if isinstance(error, MobileSamError):
        code, message, status = error.code, words_of(error, command_of(cli, arguments)), error.exit_code
    elif type(error).__name__ == "NoArgsIsHelpError":  # from click 8.2 on
        click.echo(error.format_message(), err=True)  # type: ignore[attr-defined]
        return USAGE_EXIT
    elif isinstance(error, click.ClickException):
        code, message, status = "U", _usage_message(error), USAGE_EXIT
    elif isinstance(error, MemoryError):
        message = "not enough memory; free some, or give smaller images or fewer prompts"
        code, status = LimitError.code, LimitError.exit_code
    elif isinstance(error, OSError) and error.strerror:
        where = error.filename or "standard output"
        if error.errno == errno.EBADF:
            reason = "it is closed"
        elif error.filename is None:
            reason = error.strerror
        else:
            reason = reason_for(error)
        code, message, status = "O", f"{where}: cannot be read or written ({reason})", OUTPUT_EXIT
    else:
        kind = f"mobilesam {__version__}: {type(error).__name__}: {error}"
        code, message, status = "X", f"{kind}; please report this, with --debug's output", BUG_EXIT
    click.echo(f"error[{code}]: {one_line(message)}", err=True)
    return status


def _show_warning(message: Warning | str, *where: object, **more: object) -> None:
    """Print a warning in one line; where in the code it was raised means nothing to a user."""
    click.echo(f"warning: {printable(message)}", err=True)


def _usage_message(error: click.ClickException) -> str:
    message = error.format_message().replace("\n", " ").rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "mobilesam"
    return f"{message}; see {command} --help"
