"""``mobilesam serve``: masks over HTTP."""

from __future__ import annotations

import os
import socket
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from mobilesam.cli.fields import options_from
from mobilesam.cli.options import ModelOptions, load_model
from mobilesam.core.errors import missing_extra
from mobilesam.server.options import ServeOptions, check_token

if TYPE_CHECKING:
    from mobilesam.server.photos import Photos

TOKEN = "MOBILESAM_TOKEN"
PACKAGES = ("starlette", "uvicorn", "python_multipart")


@click.command(short_help="Answer programs over HTTP.")
@options_from(ServeOptions, "options")
@click.option("--quiet", "-q", is_flag=True, help="Log warnings and errors only.")
@options_from(ModelOptions, "model")
def serve(options: ServeOptions, quiet: bool, model: ModelOptions) -> int:
    """Answer programs over HTTP, and show the page to click on.

    An image is sent once, and asked about as often as you like. Nothing leaves this machine. If other
    machines are to reach the server, the environment variable MOBILESAM_TOKEN must hold a token, which they
    send along. The log is JSON, a line for each request, on standard error.

    \b
    mobilesam serve
    mobilesam serve --port 9000 --memory 4000
    MOBILESAM_TOKEN=... mobilesam serve --host 0.0.0.0
    """
    run(options, model, None, quiet=quiet, then=lambda address: None)
    return 0


def run(
    options: ServeOptions,
    model: ModelOptions,
    photos: Photos | None,
    *,
    quiet: bool,
    then: Callable[[str], None],
) -> None:
    """Serve until a signal comes.

    Args:
        options: how it listens, and what it allows.
        model: which model.
        photos: that the page may open.
        quiet: log warnings and errors only.
        then: is called with the address once requests are answered.

    Raises:
        MissingExtraError: without the packages of the extra.
        ConfigError: if the address is taken, or a token is missing.
    """
    if not all(map(find_spec, PACKAGES)):
        raise missing_extra("mobilesam serve", "serve")
    token = os.environ.get(TOKEN) or None
    check_token(token, options)
    from mobilesam.server.run import address_of, open_socket, run_server
    from mobilesam.server.service import make_service

    listening = open_socket(options)
    try:
        service = make_service(load_model(model, quiet=quiet), options, photos, token)
        address = address_of(listening)

        def tell() -> None:
            click.echo(f"{service.predictor.name} answers at {address} - Ctrl-C ends it")
            then(f"{address}/#token={token}" if token else address)

        run_server(service, listening, on_ready=tell, quiet=quiet)
    finally:
        listening.close()


def open_socket_near(options: ServeOptions) -> ServeOptions:
    """Return options with a free port if the usual one is taken."""
    if options.port != ServeOptions.port:
        return options
    with socket.socket() as probe:
        try:
            probe.bind((options.host, options.port))
        except OSError:
            return replace(options, port=0)
    return options


def open_browser(address: str) -> None:
    """Open an address in the user's browser, without waiting for it."""
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
