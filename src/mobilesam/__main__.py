"""``python -m mobilesam``."""

from mobilesam.cli.main import main

if __name__ == "__main__":
    main()
