"""The process of the ``mobilesam`` command and of ``python -m mobilesam``."""

from mobilesam.cli.process import prepare


def main() -> None:
    """Prepare the process, and only then import the command line and run it."""
    prepare()
    from mobilesam.cli.main import main as run_command_line

    run_command_line()


if __name__ == "__main__":
    main()
