"""The ``mobilesam`` command: its subcommands, and how every failure is told."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

import click

from mobilesam import __version__
from mobilesam.cli.demo import demo
from mobilesam.cli.evaluate import evaluate
from mobilesam.cli.export import export
from mobilesam.cli.info import info
from mobilesam.cli.segment import segment
from mobilesam.cli.train import train
from mobilesam.core.errors import MobileSamError
from mobilesam.formats.image import printable

USAGE_EXIT, BUG_EXIT, INTERRUPTED_EXIT = 2, 70, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mobilesam")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Point at a thing in a picture, get its outline. Works offline.

    \b
    mobilesam segment photo.jpg --point 210,140
    mobilesam segment photo.jpg --box 120,40,380,300
    mobilesam segment photo.jpg --ruler
    mobilesam demo

    Exit codes: 0 done; 2 arguments or prompts; 3 image; 4 weights; 5 some images failed;
    6 output; 7 over a limit; 9 training diverged; 130 interrupted; 70 a bug of ours.
    """


for command in (segment, info, demo, train, evaluate, export):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the documented code."""
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: list[str]) -> int:
    """Run the command line; return the exit code. Errors are one line on standard error."""
    debug = "--debug" in arguments
    try:
        result = cli.main(arguments, prog_name="mobilesam", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except MobileSamError as error:
        tell(error.code, str(error))
        if debug:
            traceback.print_exc()
        return error.exit_code
    except click.ClickException as error:
        tell("U", _usage_message(error))
        return USAGE_EXIT
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; what is written is whole", err=True)
        return INTERRUPTED_EXIT
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:
        tell(
            "X",
            f"mobilesam {__version__}: {type(error).__name__}: {error}; please report this, with --debug's output",
        )
        if debug:
            traceback.print_exc()
        return BUG_EXIT


def tell(code: str, message: str) -> None:
    """Print an error of the contract's form."""
    click.echo(f"error[{code}]: {printable(message)}", err=True)


def _usage_message(error: click.ClickException) -> str:
    message = error.format_message().replace("\n", " ").rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "mobilesam"
    return f"{message}; see {command} --help"
