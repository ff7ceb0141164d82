"""``mobilesam serve``: masks over HTTP."""

from __future__ import annotations

import os
import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from mobilesam.cli.engines import EngineOptions
from mobilesam.cli.fields import options_from
from mobilesam.cli.options import ModelOptions, load_model
from mobilesam.core.errors import missing_extra
from mobilesam.server.options import ServeOptions, check_token
from mobilesam.work.base import RAY

if TYPE_CHECKING:
    from mobilesam.segment.model import Model
    from mobilesam.server.photos import Photos
    from mobilesam.server.service import Service

TOKEN = "MOBILESAM_TOKEN"
PACKAGES = ("starlette", "uvicorn", "python_multipart")


@click.command()
@options_from(ServeOptions, "options")
@options_from(EngineOptions, "engine")
@click.option("--quiet", "-q", is_flag=True, help="Log warnings and errors only.")
@options_from(ModelOptions, "model")
def serve(options: ServeOptions, engine: EngineOptions, quiet: bool, model: ModelOptions) -> int:
    """Answer programs over HTTP, and show the page to click on.

    An image is sent once, and asked about as often as you like. Nothing leaves this machine. If other
    machines are to reach the server, the environment variable MOBILESAM_TOKEN must hold a token, which they
    send along. The log is JSON, a line for each request, on standard error.

    \b
    mobilesam serve
    mobilesam serve --port 9000 --memory 4000
    MOBILESAM_TOKEN=... mobilesam serve --host 0.0.0.0
    mobilesam serve --engine ray --workers 8
    """
    if engine.workers is not None:
        engine.check_ray("--workers")
    run(options, model, None, quiet=quiet, then=lambda address: None, engine=engine)
    return 0


def run(
    options: ServeOptions,
    model: ModelOptions,
    photos: Photos | None,
    *,
    quiet: bool,
    then: Callable[[str], None],
    engine: EngineOptions | None = None,
) -> None:
    """Serve until a signal comes.

    Args:
        options: how it listens, and what it allows.
        model: which model.
        photos: that the page may open.
        quiet: log warnings and errors only.
        then: is called with the address once requests are answered.
        engine: what does the work; this process where None.

    Raises:
        MissingExtraError: without the packages of the extra.
        ConfigError: if the address is taken, or a token is missing.
    """
    if not all(map(find_spec, PACKAGES)):
        raise missing_extra("mobilesam serve", "serve")
    if engine is not None and engine.engine == RAY and find_spec("ray") is None:
        raise missing_extra("mobilesam serve --engine ray", "serve-ray")
    token = os.environ.get(TOKEN) or None
    check_token(token, options)
    from mobilesam.server.run import address_of, open_socket, run_server
    from mobilesam.server.service import make_service

    listening = open_socket(options)
    try:
        loaded = load_model(model, quiet=quiet)
        service = make_service(loaded, options, photos, token)
        address = address_of(listening)

        def tell() -> None:
            click.echo(f"{service.predictor.name} answers at {address} - Ctrl-C ends it")
            then(f"{address}/#token={token}" if token else address)

        with _application(loaded, service, engine) as application:
            run_server(service, listening, on_ready=tell, quiet=quiet, cluster=application)
    finally:
        listening.close()


def _application(model: Model, service: Service, engine: EngineOptions | None) -> AbstractContextManager[Any]:
    """Return the application that sends requests on to a cluster; None where this process does the work."""
    cluster = engine.ray() if engine is not None else None
    if cluster is None:
        return nullcontext()
    from mobilesam.server.cluster import on_cluster

    return on_cluster(model, service, cluster)


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
