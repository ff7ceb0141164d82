"""The page as a folder to host anywhere: with the model in it, so that nothing leaves the visitor's device.

The weights are one file of float16, which holds those that the package carries exactly. The graphs read them from it by
place, so that encoder and decoders share it. onnxruntime-web runs them. It is too large for the package, and is taken
from npm in one pinned version.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from mobilesam.core.errors import ConfigError, WeightsError
from mobilesam.export.halves import exact_halves
from mobilesam.formats.file_names import open_at_once
from mobilesam.runtimes.base import Weights
from mobilesam.storage.atomic import refuse_existing, write_bytes
from mobilesam.weights import WeightsEntry, check_tensors, store
from mobilesam.weights.graph_index import GRAPHS, GraphIndex, graph_index

NETWORK = "pocket"  # the one that a browser has the time for
STATIC = Path(__file__).parents[1] / "server" / "static"
RUNTIME = WeightsEntry(
    name="onnxruntime-web",
    network="",
    file="onnxruntime-web-1.30.0.tgz",
    licence="MIT",
    about="what runs ONNX files in a browser",
    sha256="d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71",
    urls=("https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-1.30.0.tgz",),
    size=33_106_585,
)
# What a backend is made of: its module, the glue that this loads, and the WebAssembly.
BACKENDS = {
    "wasm": ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    "webgpu": (
        "ort.webgpu.min.mjs",
        "ort-wasm-simd-threaded.asyncify.mjs",
        "ort-wasm-simd-threaded.asyncify.wasm",
    ),
}
FROM_START = "wasm"  # the backend that is kept for use without a network
MAX_RUNTIME_FILE = 64 * 2**20  # bytes
SOURCE = "SOURCE"  # the page's file that says what it was built from
DIGITS = 12  # of a hash in a name, enough to tell versions apart
LEVEL = 6  # of gzip; 9 takes twice as long for a thousandth less
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; worker-src 'self' blob:; "
    "script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self' blob:"
)


@dataclass(frozen=True)
class Site:
    """A folder that was written.

    Attributes:
        files: bytes of each file, by its name below the folder.
        first_visit: the names of those that a browser fetches and keeps on its first visit.
        version: changes with any of them.
    """

    files: Mapping[str, int]
    first_visit: tuple[str, ...]
    version: str


def export_page(
    weights: Weights, folder: Path, *, runtime: Path | None = None, overwrite: bool = False
) -> Site:
    """Write the page with ``pocket`` in it; see ``docs/how-to/page.md``.

    Args:
        weights: of ``pocket``, float32.
        folder: where the files go.
        runtime: onnxruntime-web, as npm's archive of the pinned version or a folder of its files; fetched where None.
        overwrite: replace files that are there.

    Raises:
        ConfigError: if the package was built without the page.
        WeightsError: for tensors that are not ``pocket``'s, or an onnxruntime-web that is not the pinned one.
        OutputError: if a file cannot be written, or one exists and ``overwrite`` is false; then none is written.
    """
    if not (STATIC / "page.js").is_file():
        raise ConfigError("export page: the page has not been built; run make page")
    index = graph_index(NETWORK)
    check_tensors(weights, index.tensors, "weights")
    refuse_existing(folder / "index.html", overwrite=overwrite)
    files = runtime_files(runtime) | model_files(index, weights)
    files |= {path.name: path.read_bytes() for path in STATIC.iterdir() if path.name not in (SOURCE, "sw.js")}
    files["index.html"] = for_the_device(files["index.html"].decode()).encode()
    first_visit = tuple(sorted(name for name in files if not is_later(name)))
    sums = hashlib.sha256(b"".join(hashlib.sha256(files[name]).digest() for name in first_visit))
    version = sums.hexdigest()[:DIGITS]
    files["sw.js"] = service_worker(("./", *(name for name in first_visit if name != "index.html")), version)
    for name in files:  # so that no folder is of two versions
        refuse_existing(folder / name, overwrite=overwrite)
    for name, data in files.items():
        write_bytes(folder / name, data, overwrite=overwrite)
    return Site({name: len(data) for name, data in files.items()}, (*first_visit, "sw.js"), version)


def is_later(name: str) -> bool:
    """Whether a file is fetched only by those who ask for it."""
    return any(name == f"ort/{file}" for file in BACKENDS["webgpu"])


def model_files(index: GraphIndex, weights: Weights) -> dict[str, bytes]:
    """Return the weights, the graphs that read them, and ``site.json`` that names them."""
    names = sorted({name for names in index.parts.values() for name in names})
    halves = exact_halves(weights, names)
    values = halves or {name: weights[name].astype("<f4") for name in names}
    blob = packed(b"".join(values[name].tobytes() for name in names))
    sizes = np.array([weights[name].size for name in names])
    places = dict(zip(names, (np.cumsum(sizes) - sizes).tolist(), strict=True))
    file = f"model/weights-{hashlib.sha256(blob).hexdigest()[:DIGITS]}.bin"
    graphs = {part: place_weights(GRAPHS / index.files[part], places) for part in index.parts}
    named = {part: f"model/{part}.onnx" for part in graphs}
    site = {
        "weights": {"file": file, "bytes": len(blob), "dtype": "float16" if halves else "float32"},
        "graphs": named,
        "spec": {
            key: value
            for key, value in index.spec.to_dict().items()
            if key in ("image_size", "view_size", "padded_to")
        },
        "runtime": {
            backend: dict(zip(("module", "glue", "wasm"), (f"ort/{file}" for file in parts), strict=True))
            for backend, parts in BACKENDS.items()
        },
    }
    return {
        file: blob,
        "site.json": (json.dumps(site, indent=1) + "\n").encode(),
        **{named[part]: data for part, data in graphs.items()},
    }


def packed(data: bytes) -> bytes:
    """Return bytes packed by gzip, the same each time; the page unpacks them, whatever its host does."""
    return gzip.compress(data, LEVEL, mtime=0)


def place_weights(path: Path, places: Mapping[str, int]) -> bytes:
    """Return a graph whose tensors are read from one file of float32, each from its place in it."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        length = 4 * int(np.prod(tensor.dims))
        del tensor.external_data[:]
        for key, value in (("location", "weights"), ("offset", 4 * places[tensor.name]), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def runtime_files(given: Path | None) -> dict[str, bytes]:
    """Return onnxruntime-web's files as they lie in the folder, those that are large packed by gzip."""
    if given is not None and not given.exists():
        raise WeightsError(
            f"{given}: not found; give npm's archive of onnxruntime-web or a folder of its files"
        )
    wanted = [file for parts in BACKENDS.values() for file in parts]
    if given is not None and given.is_dir():
        found = from_folder(given, wanted)
    else:
        found = from_archive(checked_archive(given), wanted)
    return {f"ort/{name}": packed(data) if name.endswith(".wasm") else data for name, data in found.items()}


def checked_archive(given: Path | None) -> Path:
    """Return the pinned archive: the given one, or npm's."""
    if given is None:
        return store.pull(RUNTIME)
    with open_at_once(given) as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != RUNTIME.sha256:
            raise WeightsError(
                f"{given}: is not {RUNTIME.file} (its SHA-256 is another); fetch {RUNTIME.urls[0]}"
            )
    return given


def from_archive(path: Path, wanted: list[str]) -> dict[str, bytes]:
    """Read files of npm's archive, whose sum has been checked."""
    with tarfile.open(path) as archive:
        return {name: _member(archive, f"package/dist/{name}") for name in wanted}


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None  # the archive is the pinned one
    return file.read(MAX_RUNTIME_FILE)


def from_folder(folder: Path, wanted: list[str]) -> dict[str, bytes]:
    """Read files of an unpacked package: ``node_modules/onnxruntime-web``, or its ``dist``."""
    dist = folder / "dist" if (folder / "dist").is_dir() else folder
    missing = [name for name in wanted if not (dist / name).is_file()]
    if missing:
        raise WeightsError(
            f"{folder}: has no {missing[0]}; give a folder of onnxruntime-web {version_of_runtime()}, such as "
            "node_modules/onnxruntime-web"
        )
    about = dist.parent / "package.json"
    if (
        about.is_file()
        and json.loads(about.read_text(encoding="utf-8")).get("version") != version_of_runtime()
    ):
        raise WeightsError(
            f"{folder}: is another version of onnxruntime-web; {version_of_runtime()} is needed"
        )
    return {name: (dist / name).read_bytes() for name in wanted}


def version_of_runtime() -> str:
    """Return the version of onnxruntime-web that the page is made for."""
    return RUNTIME.file.removeprefix("onnxruntime-web-").removesuffix(".tgz")


def for_the_device(html: str) -> str:
    """Return the page's HTML as it asks the model in its own folder, and may ask nobody else."""
    changed, times = re.subn('data-engine="server"', 'data-engine="device"', html, count=1)
    assert times  # the page's own file
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    return changed.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{policy}', 1)


def service_worker(files: tuple[str, ...], version: str) -> bytes:
    """Return the service worker with what it keeps, and under which name."""
    text = (STATIC / "sw.js").read_text(encoding="utf-8")
    kept: Any = json.dumps(files)
    return text.replace("__VERSION__", version).replace("__FILES__", kept.replace('"', '\\"')).encode()
