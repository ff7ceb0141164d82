"""``mobilesam export``: a model as files for other runtimes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from mobilesam.cli.fields import option_field, options_from
from mobilesam.cli.options import tell_default
from mobilesam.core.errors import ConfigError, WeightsError, missing_extra
from mobilesam.core.text import counted, printable
from mobilesam.export.programs import LAYOUTS
from mobilesam.export.targets import TARGETS, Target, certificate_paths
from mobilesam.server.integrations.cvat import function_files
from mobilesam.storage.atomic import check_folder, refuse_existing, write_bytes
from mobilesam.weights import DEFAULT_MODEL, WeightsEntry, entry_of, read_detector, read_weights

PRECISIONS = ("float32", "float16")
INTEGERS = "int8"


@click.group()
def export() -> None:
    """Write a model for other runtimes.

    \b
    mobilesam export onnx --model pocket --out onnx
    mobilesam export verify --model pocket --out onnx
    mobilesam export litert --model pocket --out litert --verify
    mobilesam export page --out site
    mobilesam export cvat --out mobilesam-cvat
    """


@dataclass(frozen=True)
class ExportOptions:
    """What is exported, and where to.

    Attributes:
        model: ``pocket``, ``mobile_sam`` or another model of ``mobilesam info``.
        checkpoint: other weights of the same network.
        out: folder for the files.
        graphs_only: leave the weights out; this is how the package's own graphs are made.
        overwrite: replace files that are there.
        weights: how the files hold the weights. float16 has half the bytes; what it does not hold exactly is
            rounded, and it holds pocket's exactly. The arithmetic stays float32. int8 is for pocket's encoder and
            computes in integers too; it needs --calibrate.
        calibrate: for int8, folder of a few dozen photos of the kind that the model will see.
        verify: ask the files and the network in PyTorch for 600 masks, and write a certificate.
        program: write NAME.encoder.onnx and NAME.decoder.onnx as this program expects them instead; x-anylabeling
            also gets NAME.yaml.
    """

    model: str | None = option_field(None, shown_default=DEFAULT_MODEL)
    checkpoint: str | None = option_field(None, metavar="FILE")
    out: str = option_field("onnx", metavar="DIR")
    graphs_only: bool = False
    overwrite: bool = False
    weights: str = option_field(
        "float32", type=click.Choice((*PRECISIONS, INTEGERS)), metavar="|".join((*PRECISIONS, INTEGERS))
    )
    calibrate: str | None = option_field(None, metavar="PHOTOS")
    verify: bool = False
    program: str | None = option_field(
        None, "--for", type=click.Choice(list(LAYOUTS)), metavar="|".join(LAYOUTS)
    )

    def __post_init__(self) -> None:
        if self.program is not None and self.graphs_only:
            raise ConfigError("--for: files for a program carry their weights; leave --graphs-only out")
        for flag, given in (("--for", self.program is not None), ("--graphs-only", self.graphs_only)):
            for other, asked in (
                ("--verify", self.verify),
                (f"--weights {self.weights}", self.weights != "float32"),
            ):
                if given and asked:
                    raise ConfigError(f"{flag}: not with {other}; leave one of them out")
        if (self.weights == INTEGERS) != (self.calibrate is not None):
            raise ConfigError("--weights int8 and --calibrate PHOTOS: only together; pass both or none")


@dataclass(frozen=True)
class TargetOptions:
    """What is exported for another runtime, and where to.

    Attributes:
        model: ``pocket``, ``mobile_sam`` or another model of ``mobilesam info``.
        checkpoint: other weights of the same network.
        out: folder for the files.
        weights: how the files hold the weights; of these targets openvino and triton have float16.
        verify: ask the files and the network in PyTorch for 600 masks, and write a certificate.
        overwrite: replace files that are there.
    """

    model: str | None = option_field(None, shown_default=DEFAULT_MODEL)
    checkpoint: str | None = option_field(None, metavar="FILE")
    out: str | None = option_field(None, metavar="DIR", shown_default="a folder with the target's name")
    weights: str = option_field("float32", type=click.Choice(PRECISIONS), metavar="|".join(PRECISIONS))
    verify: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class VerifyOptions:
    """Which files are compared with which network.

    Attributes:
        model: ``pocket``, ``mobile_sam`` or another model of ``mobilesam info``.
        checkpoint: the weights that were exported, if not the published ones.
        out: folder that the files lie in.
        prompts: how many are asked.
        seed: of picture and prompts.
    """

    model: str | None = option_field(None, shown_default=DEFAULT_MODEL)
    checkpoint: str | None = option_field(None, metavar="FILE")
    out: str = option_field("onnx", metavar="DIR")
    prompts: int = option_field(200, type=click.IntRange(min=1), metavar="N")
    seed: int = option_field(0, type=click.IntRange(min=0), metavar="N")


@dataclass(frozen=True)
class CvatOptions:
    """Where the function's folder goes.

    Attributes:
        out: folder for the files.
        overwrite: replace files that are there.
    """

    out: str = option_field("mobilesam-cvat", metavar="DIR")
    overwrite: bool = False


@dataclass(frozen=True)
class PageOptions:
    """What the page is made of, and where it goes.

    Attributes:
        out: folder for the files.
        checkpoint: other weights of pocket.
        runtime: onnxruntime-web, as npm's archive or a folder of its files; fetched from npm without it.
        overwrite: replace files that are there.
    """

    out: str = option_field("site", metavar="DIR")
    checkpoint: str | None = option_field(None, metavar="FILE")
    runtime: str | None = option_field(None, metavar="FILE|DIR")
    overwrite: bool = False


@export.command()
@options_from(CvatOptions, "options")
def cvat(options: CvatOptions) -> None:
    """Write the folder of a function that CVAT calls as an interactor; nuctl deploys it."""
    for name, text in function_files().items():
        write_bytes(Path(options.out) / name, text.encode(), overwrite=options.overwrite)
    click.echo(f"{printable(options.out)}: nuctl deploy --project-name cvat --path {printable(options.out)}")


@export.command()
@options_from(ExportOptions, "options")
def onnx(options: ExportOptions) -> None:
    """Write ONNX files: encoder, decoder, and decoder for mask prompts.

    Inputs and outputs are listed in docs/reference/onnx.md; what other programs do with files that are
    written for them is in docs/how-to/onnx-programs.md.

    \b
    mobilesam export onnx --model pocket --out onnx
    mobilesam export onnx --model mobile_sam --checkpoint mobile_sam.pt
    mobilesam export onnx --model detector_nano
    mobilesam export onnx --model pocket --weights float16 --verify
    mobilesam export onnx --model pocket --weights int8 --calibrate photos
    mobilesam export onnx --for x-anylabeling --model mobile_sam --out onnx
    """
    try:
        from mobilesam.export.layouts import export_for

        if options.graphs_only:
            from mobilesam.export.graphs import write_graphs
            from mobilesam.networks.build import DETECTORS, NETWORKS
    except ModuleNotFoundError as error:
        raise missing_extra("export onnx", "export") from error
    if options.model is None and options.checkpoint is None:
        tell_default()
    model, out = options.model or DEFAULT_MODEL, Path(options.out)
    if options.graphs_only:
        name = model if model in (*NETWORKS, *DETECTORS) else entry_of(model).network
        paths = write_graphs(name, out, overwrite=options.overwrite)
    elif options.program is None:
        write_for(TARGETS["onnx"], entry_of(model), out, options)
        return
    else:
        entry = entry_of(model)
        read = read_detector if entry.detector else read_weights
        weights, network = read(entry, options.checkpoint), entry.network or entry.detector
        paths = export_for(options.program, network, weights, out, name=model, overwrite=options.overwrite)
    tell(paths)


def tell(paths: list[Path]) -> None:
    """Print files and their sizes."""
    for path in paths:
        click.echo(f"{printable(path)}: {path.stat().st_size / 1e6:.1f} MB")


def write_for(target: Target, entry: WeightsEntry, out: Path, options: ExportOptions | TargetOptions) -> None:
    """Write a model's files for a target and, if asked for, their certificate."""
    half = options.weights == "float16"
    if half and not target.half:
        raise ConfigError(f"--weights float16: export {target.name} has {target.weights} and no choice")
    if entry.detector and (target.fixed or options.verify):
        what = "--verify" if options.verify else target.name
        raise ConfigError(f"export {what}: {entry.name} takes no prompts; choose a model that does")
    module = target.load()
    if options.verify:
        try:
            from mobilesam.export.certificate import certify, check, tell_result, write_certificate
        except ModuleNotFoundError as error:
            raise missing_extra("--verify", "torch") from error
    read = read_detector if entry.detector else read_weights
    weights, network = read(entry, options.checkpoint), entry.network or entry.detector
    certificates = certificate_paths(network, target.name, out)
    for path in certificates:
        refuse_existing(path, overwrite=options.overwrite)
    check_folder(out)  # before a conversion that takes minutes
    for path in certificates:  # they are of the files that are there now
        path.unlink(missing_ok=True)
    photos = options.calibrate if isinstance(options, ExportOptions) else None
    how = {} if photos is None else {"calibration": Path(photos)}
    paths = module.write(network, weights, out, half=half, overwrite=options.overwrite, **how)
    tell(paths)
    if not options.verify:
        return
    called = entry.name
    if options.checkpoint is not None:
        called = f"{entry.network} network with {Path(options.checkpoint).name}"
    certificate = certify(target, called, network, weights, paths, half=half, integers=photos is not None)
    tell(write_certificate(certificate, out))
    click.echo(tell_result(certificate))
    check(certificate)


def command_for(target: Target) -> click.Command:
    """Return the command of a target."""
    certified = (
        "--verify compares the files with the network in PyTorch, and writes a certificate."
        if target.runs
        else "It cannot be run here, and its certificate says so."
    )

    @click.command(target.name, help=f"Write {target.about}.\n\n{certified} See docs/how-to/export.md.")
    @options_from(TargetOptions, "options")
    def command(options: TargetOptions) -> None:
        if options.model is None and options.checkpoint is None:
            tell_default()
        entry = entry_of(options.model or DEFAULT_MODEL)
        write_for(target, entry, Path(options.out or target.name), options)

    return command


for _target in TARGETS.values():
    if _target.name != "onnx":
        export.add_command(command_for(_target))


@export.command()
@options_from(PageOptions, "options")
def page(options: PageOptions) -> None:
    """Write the page with pocket in it, as a folder to host anywhere.

    Photos stay on the visitor's device. After the first visit it works without a network.

    \b
    mobilesam export page --out site
    python -m http.server --directory site --bind 127.0.0.1 8000
    """
    try:
        from mobilesam.export.page import NETWORK, export_page
    except ModuleNotFoundError as error:
        raise missing_extra("export page", "page") from error
    site = export_page(
        read_weights(entry_of(NETWORK), options.checkpoint),
        Path(options.out),
        runtime=None if options.runtime is None else Path(options.runtime),
        overwrite=options.overwrite,
    )
    first = sum(site.files[name] for name in site.first_visit)
    click.echo(
        f"{printable(options.out)}: {counted(len(site.files), 'files')}, {sum(site.files.values()) / 1e6:.1f} MB"
    )
    click.echo(f"a first visit fetches {first / 1e6:.1f} MB; version {site.version}")


@export.command()
@options_from(VerifyOptions, "options")
def verify(options: VerifyOptions) -> int:
    """Compare exported ONNX files with the network in PyTorch on random prompts.

    \b
    mobilesam export verify --model pocket --out onnx
    """
    try:
        from mobilesam.export.verify import MAX_DIFFERENCE, MIN_IOU, verify_onnx
    except ModuleNotFoundError as error:
        raise missing_extra("export verify", "export") from error
    if options.model is None and options.checkpoint is None:
        tell_default()
    entry, out = entry_of(options.model or DEFAULT_MODEL), Path(options.out)
    weights = read_weights(entry, options.checkpoint)
    parity = verify_onnx(entry.network, weights, out, prompts=options.prompts, seed=options.seed)
    click.echo(f"prompts: {parity.prompts}")
    click.echo(
        f"largest difference of low-resolution logits: {parity.difference:.2g} (allowed {MAX_DIFFERENCE:g})"
    )
    click.echo(f"smallest IoU of low-resolution masks: {parity.iou:.6f} (allowed {MIN_IOU:g})")
    if parity.objectness:
        click.echo(f"largest difference of objectness: {parity.objectness:.2g} (allowed {MAX_DIFFERENCE:g})")
    if not parity.holds:
        raise WeightsError(f"{out}: these files are not {entry.network} with these weights; export again")
    return 0
