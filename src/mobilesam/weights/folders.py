"""Where files of weights are: in the package, in a folder of the user's, or in the cache."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from mobilesam.weights.registry import WeightsEntry

HOME_VARIABLE = "MOBILESAM_HOME"
OFFLINE_FOLDER_VARIABLE = "MOBILESAM_OFFLINE_DIR"
FOLDER_DIGITS = 12
SHIPPED = Path(__file__).parents[1] / "shipped"
TEXT_MODEL = "owlv2-base-patch16-ensemble"  # the folder of the network that finds what texts name
TEXT_MODEL_SOURCE = f"Xenova/{TEXT_MODEL}"  # on the Hugging Face Hub; Apache-2.0
TEXT_MODEL_FILES = ("tokenizer.json", "preprocessor_config.json", "onnx/model.onnx")


def weights_home() -> Path:
    """Return the cache: the folder that fetched weights are put into."""
    if os.environ.get(HOME_VARIABLE):
        return Path(os.environ[HOME_VARIABLE])
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mobilesam"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "mobilesam"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mobilesam"


def own_folder() -> Path:
    """Return the folder of weights that the user has named."""
    return weights_home() / "own"


def prepared_folder(checksum: str) -> Path:
    """Return where graphs are kept that were prepared for weights with a published checksum."""
    return weights_home() / "prepared" / checksum[:FOLDER_DIGITS]


def cached_path(entry: WeightsEntry) -> Path:
    """Return where an entry's file is in the cache, or would be.

    The folder's name is the start of the published checksum, so two versions of one name,
    wanted by two versions of this package, can exist side by side.
    """
    if entry.own:
        return own_folder() / entry.file
    return weights_home() / (entry.sha256 or entry.git_blob)[:FOLDER_DIGITS] / entry.file


def weights_path(entry: WeightsEntry) -> Path:
    """Return where an entry's file is, or would be.

    The folder that ``MOBILESAM_OFFLINE_DIR`` names comes before the cache, and is only read.
    """
    if entry.shipped:
        return SHIPPED / entry.file
    offline = os.environ.get(OFFLINE_FOLDER_VARIABLE)
    if offline and (Path(offline) / entry.file).is_file():
        return Path(offline) / entry.file
    return cached_path(entry)


def how_to_get(entry: WeightsEntry) -> str:
    """Return what to do to get an entry's file."""
    if entry.shipped:
        return "install the package again"
    if weights_path(entry) != cached_path(entry):
        return f"{OFFLINE_FOLDER_VARIABLE} names this folder; put the published file there"
    return f"run: mobilesam weights pull {entry.name}"


def text_model_folder() -> Path:
    """Return the folder of the network that finds what texts name; it need not exist.

    As for weights, the folder that ``MOBILESAM_OFFLINE_DIR`` names comes before the cache.
    """
    offline = os.environ.get(OFFLINE_FOLDER_VARIABLE)
    if offline and (Path(offline) / TEXT_MODEL).is_dir():
        return Path(offline) / TEXT_MODEL
    return weights_home() / TEXT_MODEL


def how_to_get_text_model(folder: Path) -> str:
    """Return the command that puts such a network into a folder. This package never runs it."""
    return (
        f"run: hf download {TEXT_MODEL_SOURCE} {' '.join(TEXT_MODEL_FILES)} "
        f"--local-dir {shlex.quote(str(folder))}"
    )
