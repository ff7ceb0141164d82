"""``mobilesam serve``: masks over HTTP."""

from __future__ import annotations

import os
import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from mobilesam.annotate.engines.base import ENGINES, LOCAL, RAY
from mobilesam.annotate.engines.ray import RayEngine
from mobilesam.cli.fields import option_field, options_from
from mobilesam.cli.options import ModelOptions, load_model
from mobilesam.core.errors import missing_extra
from mobilesam.core.text import printable
from mobilesam.server.options import ServeOptions, check_token

if TYPE_CHECKING:
    from mobilesam.segment.model import Model
    from mobilesam.server.photos import Photos
    from mobilesam.server.service import Service

TOKEN = "MOBILESAM_TOKEN"
PACKAGES = ("starlette", "uvicorn", "python_multipart")


@dataclass(frozen=True)
class ServeEngine:
    """What does the work.

    Attributes:
        engine: what does the work: ``local``, this process, or ``ray``, the processes of a cluster.
        workers: with ``--engine ray``: processes, each with the model and images of its own.
        address: of a Ray cluster that runs, HOST:PORT or ``auto``.
    """

    engine: str = option_field(LOCAL, metavar="NAME")
    workers: int | None = option_field(None, metavar="N", shown_default="one for each core")
    address: str | None = option_field(
        None, metavar="HOST:PORT", shown_default="a cluster of this machine alone"
    )

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise click.UsageError(f"--engine: is {printable(self.engine)!r}; choose {LOCAL} or {RAY}")
        for name in ("workers", "address"):
            if getattr(self, name) is not None and self.engine != RAY:
                raise click.UsageError(f"--{name}: is of a Ray cluster; give --engine ray as well")


@click.command(short_help="Answer programs over HTTP.")
@options_from(ServeOptions, "options")
@options_from(ServeEngine, "engine")
@click.option("--quiet", "-q", is_flag=True, help="Log warnings and errors only.")
@options_from(ModelOptions, "model")
def serve(options: ServeOptions, engine: ServeEngine, quiet: bool, model: ModelOptions) -> int:
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
    run(options, model, None, quiet=quiet, then=lambda address: None, engine=engine)
    return 0


def run(
    options: ServeOptions,
    model: ModelOptions,
    photos: Photos | None,
    *,
    quiet: bool,
    then: Callable[[str], None],
    engine: ServeEngine | None = None,
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


def _application(model: Model, service: Service, engine: ServeEngine | None) -> AbstractContextManager[Any]:
    """Return the application that sends requests on to a cluster; None where this process does the work."""
    if engine is None or engine.engine == LOCAL:
        return nullcontext()
    from mobilesam.server.cluster import on_cluster

    return on_cluster(model, service, RayEngine(engine.workers, engine.address))


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
