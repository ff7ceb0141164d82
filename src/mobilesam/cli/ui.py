"""``mobilesam ui``: the page to click on."""

from __future__ import annotations

from pathlib import Path

import click

from mobilesam.cli.fields import options_from
from mobilesam.cli.options import ModelOptions
from mobilesam.cli.serve import open_browser, open_socket_near, run
from mobilesam.core.text import printable
from mobilesam.server.options import ServeOptions


@click.command()
@click.argument("photos", nargs=-1, metavar="[PHOTO]...")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.option("--follow-symlinks", is_flag=True, help="In a folder, also follow links to other folders.")
@options_from(ServeOptions, "options")
@options_from(ModelOptions, "model")
def ui(
    photos: tuple[str, ...],
    no_browser: bool,
    follow_symlinks: bool,
    options: ServeOptions,
    model: ModelOptions,
) -> int:
    """Open a page to click on: point at things, correct their masks, save them.

    PHOTO is a file or a folder; the page goes through them, and saves labels beside them. Without
    photos, drop one onto the page. Nothing leaves this machine.

    \b
    mobilesam ui
    mobilesam ui photo.jpg
    mobilesam ui shots/
    """
    from mobilesam.server.photos import find_photos

    found = None
    if photos:
        found, remarks = find_photos([Path(one) for one in photos], follow_symlinks=follow_symlinks)
        for remark in remarks:
            click.echo(f"warning: {printable(remark)}", err=True)
    then = (lambda address: None) if no_browser else open_browser
    run(open_socket_near(options), model, found, quiet=True, then=then)
    return 0
