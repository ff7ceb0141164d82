"""The face of the package: everything that a model can be asked, checked on the way in."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from mobilesam.core.arrays import ArrayLike, Image
from mobilesam.core.errors import ConfigError, ImageWarning, PromptError, PromptWarning
from mobilesam.core.phrases import check_texts
from mobilesam.core.prompts import ValidPrompt, names_with, to_prompt
from mobilesam.core.rle import MAX_AREA
from mobilesam.core.text import shortened
from mobilesam.core.types import SAM_THRESHOLDS, Embedding, FoundMask, MaskThresholds, Prompt
from mobilesam.detectors.base import Detector
from mobilesam.detectors.head import HeadDetector
from mobilesam.detectors.load import detector_for, text_model_for
from mobilesam.formats.image import MAX_PIXELS, Remarks, check_size, read_with_remarks
from mobilesam.runtimes.base import Runtime
from mobilesam.runtimes.load import FROM_FILES, check_is_folder, exported_index, load_runtime
from mobilesam.segment.batches import as_prompts, images_at_once, named_images, pair_prompts
from mobilesam.segment.everything.options import EverythingOptions
from mobilesam.segment.everything.search import (
    Progress,
    no_progress,
    segment_everything,
    stream_everything,
)
from mobilesam.segment.predictor import Predictor
from mobilesam.segment.results import Everything, Segmentation, TextMatches
from mobilesam.segment.text import TextOptions, segment_text
from mobilesam.storage.embeddings import KeptEmbeddings
from mobilesam.weights import (
    DEFAULT_MODEL,
    decoder_path,
    entry_of,
    entry_of_network,
    network_of_file,
    weights_path,
)

if TYPE_CHECKING:
    from mobilesam.segment.cutout import Cutout, CutoutOptions
    from mobilesam.segment.session import Session
    from mobilesam.segment.track.prompts import TrackPrompt
    from mobilesam.segment.track.results import TrackedFrame
    from mobilesam.segment.track.stream import Progress as FramesProgress
    from mobilesam.segment.track.stream import TrackOptions

# What a mask by prompts does not need is imported by the methods that do: a command starts the sooner.


def load(
    name: str | None = None,
    *,
    checkpoint: str | Path | None = None,
    decoder: str | Path | None = None,
    runtime: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    threads: int | None = None,
    embeddings: str | Path | None = None,
    rectangular: bool = False,
) -> Model:
    """Load a model. Nothing is ever downloaded here.

    Args:
        name: ``pocket``, which comes with the package, or a published one such as ``mobile_sam``,
            whose file has to be there; ``mobilesam weights pull mobile_sam`` fetches it; or one of your own
            (``mobilesam finetune --name``). By default ``pocket``, or the model whose network
            ``checkpoint`` has.
        checkpoint: another file of the same network, ``.pt`` or ``.safetensors``; for the runtimes ``litert``,
            ``executorch`` and ``ncnn`` the folder that ``mobilesam export`` wrote.
        decoder: replaces the model's own decoder: MobileSAMv2's ``prompt_guided_decoder``, or a file of it.
        runtime: ``onnx`` (the default), ``openvino`` or ``torch``; ``litert``, ``executorch`` or ``ncnn`` with files
            that ``mobilesam export`` wrote, by default into a folder of that name beside fetched weights.
        device: ``cpu``, ``cuda`` or, with torch, ``mps``.
        dtype: ``float32``; with torch also ``bfloat16`` and, on a GPU, ``float16``.
        threads: processor threads of the onnx runtime; where None, ``OMP_NUM_THREADS`` or one for each core.
        embeddings: a folder that keeps the embeddings of images, as float16; the embedding of an image that was
            encoded before with the same weights is read from there.
        rectangular: whether ``mobile_sam`` sees photos with little padding instead of in a square: the encoder does
            a quarter to a half less work, and masks differ. ``pocket`` always does so.

    Raises:
        ConfigError: for an unknown name, runtime, device or dtype, or for ``rectangular`` with another network.
        WeightsError: if the weights are missing, damaged or of another network.
        MissingExtraError: if the runtime is not installed.

    Example:
        >>> import mobilesam
        >>> model = mobilesam.load("pocket")
        >>> model.name
        'pocket-7'
    """
    for argument, path in (("checkpoint", checkpoint), ("decoder", decoder)):
        if path is not None and not isinstance(path, str | os.PathLike):
            raise ConfigError(f"{argument}: is {shortened(path)}; must be the path of a file, or None")
    if not isinstance(rectangular, bool):
        raise ConfigError(f"rectangular: is {shortened(rectangular)}; must be True or False")
    check_is_folder(runtime, checkpoint)
    if name is None and checkpoint is not None and not os.path.isdir(checkpoint):
        entry = entry_of_network(network_of_file(checkpoint))
    else:
        entry = entry_of(DEFAULT_MODEL if name is None else name)
    chosen = load_runtime(
        entry,
        checkpoint=checkpoint,
        decoder=decoder,
        runtime=runtime,
        device=device,
        dtype=dtype,
        threads=threads,
        rectangular=rectangular,
    )
    called = entry.name if checkpoint is None else f"{entry.network} network with {_file_name(checkpoint)}"
    if decoder is not None:
        called = f"{called} and decoder {_file_name(decoder)}"
    if rectangular:
        called = f"{called}, rectangular"
    kept = None
    if embeddings is not None:
        files = [checkpoint or weights_path(entry), *([] if decoder is None else [decoder_path(decoder)])]
        if runtime in FROM_FILES:  # whose arrays are those of a square
            files = [exported_index(entry, str(runtime), checkpoint)]
        network = f"{entry.network} rectangular" if rectangular else entry.network
        kept = KeptEmbeddings(embeddings, " ".join([network, dtype or "float32", *map(_sum_of, files)]))
    return Model(chosen, name=called, thresholds=entry.thresholds, kept=kept)


def _file_name(path: str | Path) -> str:
    """Return what tells a file of weights from others: its name, and the start of its checksum."""
    if not Path(path).is_file():  # an entry's name
        return str(path)
    return f"{Path(path).name} ({_sum_of(path)[:8]})"


def _sum_of(path: str | Path) -> str:
    """Return a file's SHA-256."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Model:
    """A promptable model. It keeps no current image: embeddings are values.

    Args:
        runtime: what runs the network.
        name: the model's name that embeddings carry.
        thresholds: which masks :meth:`everything` keeps, where its options do not say.
        kept: where embeddings are kept, if anywhere; :func:`load` makes it from a folder.

    Example:
        >>> import numpy as np, mobilesam
        >>> model = mobilesam.load("pocket")
        >>> embedding = model.embed(np.zeros((60, 80, 3), np.uint8))
        >>> result = model.segment(embedding, mobilesam.Prompt(points=[40, 30]))
        >>> result.masks.shape
        (3, 60, 80)
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        name: str,
        thresholds: MaskThresholds = SAM_THRESHOLDS,
        kept: KeptEmbeddings | None = None,
    ) -> None:
        self.predictor = Predictor(runtime, name=name, thresholds=thresholds, kept=kept)

    @property
    def runtime(self) -> Runtime:
        """What runs the network."""
        return self.predictor.runtime

    @property
    def name(self) -> str:
        """The model's name that embeddings carry."""
        return self.predictor.name

    @property
    def thresholds(self) -> MaskThresholds:
        """Which masks :meth:`everything` keeps, where its options do not say."""
        return self.predictor.thresholds

    def __repr__(self) -> str:
        return f"Model({self.name!r}, runtime={self.runtime.name!r}, device={self.runtime.device!r})"

    def embed(self, image: ArrayLike, *, max_pixels: int = MAX_PIXELS) -> Embedding:
        """Compute everything that depends on the image alone, once for all its prompts.

        Args:
            image: a path, the bytes of a file, a PIL image or an array (H, W, 3) uint8 RGB.
            max_pixels: greatest height times width, checked before pixels are decoded.

        Raises:
            ImageError: if it cannot be read.
            LimitError: if it is too large.

        Warns:
            ImageWarning: for what is read but may not be intended, such as an animation's first
                frame; also in the embedding's ``remarks``.
        """
        rgb, remarks = _read(image, None, max_pixels)
        return self.predictor.embed(rgb, remarks)

    def embed_batch(
        self, images: Iterable[ArrayLike], *, memory: int | None = None, max_pixels: int = MAX_PIXELS
    ) -> tuple[Embedding, ...]:
        """Embed several images, of any sizes, with the same result as one by one.

        All images are read before the first is encoded, so an error wastes no work. A GPU
        takes as many at once as ``memory`` allows; a processor takes them one by one, which is
        fastest there.

        Args:
            images: each as :meth:`embed` takes it; there may be none.
            memory: bytes that the call may add at its peak, besides the images, the embeddings and
                the model; by default 2 GB, or what one image takes.
            max_pixels: greatest height times width of each image.

        Returns:
            One embedding for each image, in their order.

        Raises:
            ImageError: names the image that cannot be read, ``images[3]``.
            LimitError: if an image is too large, or ``memory`` is too small for one.

        Warns:
            ImageWarning: as :meth:`embed` does.

        Example:
            >>> import numpy as np, mobilesam
            >>> model = mobilesam.load("pocket")
            >>> wide, high = np.zeros((60, 80, 3), np.uint8), np.zeros((90, 40, 3), np.uint8)
            >>> [embedding.original_size for embedding in model.embed_batch([wide, high])]
            [(60, 80), (90, 40)]
        """
        at_once = images_at_once(self.runtime, memory)
        read = []
        for name, image in named_images(images):
            read.append(_read(image, name, max_pixels))
        rgbs, remarks = [rgb for rgb, _ in read], [told for _, told in read]
        return tuple(self.predictor.embed_all(rgbs, remarks, at_once))

    @overload
    def segment(
        self,
        embedding: Embedding,
        prompts: Prompt | dict[str, Any],
        *,
        multimask: bool | None = None,
        memory: int | None = None,
    ) -> Segmentation: ...

    @overload
    def segment(
        self,
        embedding: Embedding,
        prompts: Iterable[Prompt | dict[str, Any]],
        *,
        multimask: bool | None = None,
        memory: int | None = None,
    ) -> tuple[Segmentation, ...]: ...

    def segment(
        self,
        embedding: Embedding,
        prompts: Prompt | dict[str, Any] | Iterable[Prompt | dict[str, Any]],
        *,
        multimask: bool | None = None,
        memory: int | None = None,
    ) -> Segmentation | tuple[Segmentation, ...]:
        """Segment one object, or several at once with the same result as one by one.

        Args:
            embedding: from :meth:`embed` of this model.
            prompts: one prompt, or one for each object; there may be none. A dict such as ``{"box": [9, 9, 50, 50]}``
                will do for a prompt.
            multimask: whether to return three masks or one. By default three for a single point,
                which may mean a part or the whole, and one for everything else.
            memory: bytes that the call may add at its peak, besides its results and the model;
                by default 2 GB, or what one prompt takes.

        Returns:
            One segmentation for one prompt, a tuple for several, in their order.

        Raises:
            PromptError: names the wrong argument and what is allowed.
            LimitError: for too many points or prompts, or a ``memory`` too small for one.
            ConfigError: if the embedding is from another model.

        Warns:
            PromptWarning: for what is valid but may not be intended; also in ``remarks``.
        """
        self._check(embedding, "embedding", multimask)
        if isinstance(prompts, Prompt | dict):
            given = [to_prompt(prompts, "prompts")]
        else:
            given = as_prompts(prompts, "prompts")
        prefixes = [f"prompts[{i}]." for i in range(len(given))] if len(given) != 1 else [""]
        valid = self.predictor.validate(embedding, given, [names_with(one) for one in prefixes], memory)
        warn_of_remarks(valid)
        results = self.predictor.segment(embedding, valid, multimask=multimask, memory=memory)
        return results[0] if isinstance(prompts, Prompt | dict) else results

    def segment_batch(
        self,
        embeddings: Iterable[Embedding],
        prompts: Iterable[Iterable[Prompt | dict[str, Any]]],
        *,
        multimask: bool | None = None,
        memory: int | None = None,
    ) -> tuple[tuple[Segmentation, ...], ...]:
        """Segment objects in several images, with the same result as one by one.

        All prompts are checked before the first is decoded, so an error wastes no work.

        Args:
            embeddings: from :meth:`embed_batch` or :meth:`embed` of this model.
            prompts: for each embedding a list of its prompts, one for each object; ``[]`` for none.
            multimask: as :meth:`segment` takes it.
            memory: as :meth:`segment` takes it.

        Returns:
            For each embedding, one segmentation for each of its prompts, all in the order given.

        Raises:
            PromptError: names the argument, ``prompts[3][0].box``, and what is allowed.
            LimitError: for too many points or prompts, or a ``memory`` too small for one.
            ConfigError: if an embedding is from another model.

        Warns:
            PromptWarning: as :meth:`segment` does.

        Example:
            >>> import numpy as np, mobilesam
            >>> model = mobilesam.load("pocket")
            >>> embeddings = model.embed_batch([np.zeros((60, 80, 3), np.uint8)] * 2)
            >>> point, box = mobilesam.Prompt(points=[40, 30]), mobilesam.Prompt(box=[9, 9, 50, 50])
            >>> [len(results) for results in model.segment_batch(embeddings, [[point, box], []])]
            [2, 0]
        """
        pairs = pair_prompts(embeddings, prompts)
        valid = []
        for i, (embedding, given) in enumerate(pairs):
            self._check(embedding, f"embeddings[{i}]", multimask)
            names = [names_with(f"prompts[{i}][{j}].") for j in range(len(given))]
            valid.append(self.predictor.validate(embedding, given, names, memory))
        warn_of_remarks([prompt for some in valid for prompt in some])
        return tuple(
            self.predictor.segment(embedding, some, multimask=multimask, memory=memory)
            for (embedding, _), some in zip(pairs, valid, strict=True)
        )

    def subject(self, embedding: Embedding, *, detector: Detector | None = None) -> Segmentation:
        """Segment the subject of an image without a prompt: what stands out from the ground.

        It takes as long as three embeddings, because the image is looked at again mirrored and in a window.

        Args:
            embedding: from :meth:`embed` of this model.
            detector: what finds boxes of objects where there is no clear ground; by default this model's own head,
                or ``pocket``'s.

        Returns:
            One mask. Where it is not clear what the subject is, its ``predicted_iou`` is low and ``remarks`` say so.

        Raises:
            ConfigError: if the embedding is from another model.

        Example:
            >>> import numpy as np, mobilesam
            >>> image = np.full((60, 80, 3), 200, np.uint8)
            >>> image[20:45, 25:50] = (180, 30, 30)
            >>> model = mobilesam.load("pocket")
            >>> bool(model.subject(model.embed(image)).mask[32, 37])
            True
        """
        self._check(embedding, "embedding", None)
        from mobilesam.segment.subject import find_subject

        found_by = detector or detector_for(self.runtime, self.name, None)
        return find_subject(self.predictor, embedding, found_by)

    def cutout(
        self,
        image: ArrayLike | Embedding,
        prompts: Prompt | dict[str, Any] | Iterable[Prompt | dict[str, Any]] | None = None,
        *,
        subtract: Prompt | dict[str, Any] | Iterable[Prompt | dict[str, Any]] = (),
        options: CutoutOptions | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Cutout:
        """Cut something out of an image, with a soft edge and without the colours of what is behind it.

        Args:
            image: as :meth:`embed` takes it, or an embedding of this model.
            prompts: what to cut out, one prompt for each object; the subject where None.
            subtract: what to take away from it, one prompt for each object.
            options: edge, background and size.
            max_pixels: greatest height times width.

        Raises:
            ImageError, LimitError: as :meth:`embed` does.
            PromptError: as :meth:`segment` does.
            MissingExtraError: if ``options.matte`` is asked for and ``mobilesam[matting]`` is not installed.

        Example:
            >>> import numpy as np, mobilesam
            >>> image = np.full((60, 80, 3), 200, np.uint8)
            >>> image[20:45, 25:50] = (180, 30, 30)
            >>> mobilesam.load("pocket").cutout(image).rgba().shape
            (60, 80, 4)
        """
        from mobilesam.segment.cutout import CutoutOptions, make_cutout

        embedding = image if isinstance(image, Embedding) else self.embed(image, max_pixels=max_pixels)
        self._check(embedding, "image", None)
        kept = (self.subject(embedding),) if prompts is None else self._all(embedding, prompts)
        return make_cutout(embedding, kept, self._all(embedding, subtract), options or CutoutOptions())

    def _all(
        self, embedding: Embedding, prompts: Prompt | dict[str, Any] | Iterable[Prompt | dict[str, Any]]
    ) -> tuple[Segmentation, ...]:
        """Segment one object or several."""
        return self.segment(embedding, [prompts] if isinstance(prompts, Prompt | dict) else prompts)

    def session(self, image: ArrayLike | Embedding, *, max_pixels: int = MAX_PIXELS) -> Session:
        """Begin to point at an object and to correct its mask, step by step.

        Args:
            image: as :meth:`embed` takes it, or an embedding of this model.
            max_pixels: greatest height times width.

        Returns:
            A session in which nothing has been asked yet; each action on it returns a new one.

        Raises:
            ImageError, LimitError: as :meth:`embed` does.
            ConfigError: if the embedding is from another model.

        Example:
            >>> import numpy as np, mobilesam
            >>> image = np.full((60, 80, 3), 200, np.uint8)
            >>> image[20:45, 25:50] = (180, 30, 30)
            >>> session = mobilesam.load("pocket").session(image).click([37, 32])
            >>> bool(session.mask[32, 37])
            True
        """
        from mobilesam.segment.session import Session

        embedding = image if isinstance(image, Embedding) else self.embed(image, max_pixels=max_pixels)
        self._check(embedding, "image", None)
        return Session(self.predictor, embedding)

    def everything(
        self,
        image: ArrayLike,
        options: EverythingOptions | None = None,
        *,
        detector: str | Path | Detector | Model | None = None,
        max_pixels: int = MAX_PIXELS,
        progress: Progress = no_progress,
    ) -> Everything:
        """Segment everything in an image.

        Args:
            image: as :meth:`embed` takes it. With ``tile`` an array (H, W, 3) uint8 is read tile by tile from where
                it lies, such as a ``numpy.memmap`` or a ``Raster``, and ``max_pixels`` is no limit.
            options: how to search the image.
            detector: what finds boxes: the name of a model with a head for objects, or the model itself;
                ``detector_nano``; a detector's file; or a :class:`mobilesam.Detector` of your own. By default
                this model's own head, or ``pocket``'s.
            max_pixels: greatest height times width.
            progress: called with how many prompts are done, and how many there are.

        Returns:
            The masks, best first; with a grid, the best of each crop first.

        Raises:
            ImageError: if the image cannot be read.
            LimitError: if it is too large.
            ConfigError: if ``detector`` is not a detector.
            WeightsError: if a detector's file is missing or damaged.
        """
        options = options or EverythingOptions()
        return segment_everything(
            self.predictor,
            _read_to_search(image, options, max_pixels),
            options,
            detector=self._detector(detector, options),
            progress=progress,
        )

    def stream_everything(
        self,
        image: ArrayLike,
        options: EverythingOptions | None = None,
        *,
        detector: str | Path | Detector | Model | None = None,
        max_pixels: int = MAX_PIXELS,
        progress: Progress = no_progress,
    ) -> Iterator[FoundMask]:
        """Yield the masks of :meth:`everything` as they are found; those of a grid when it is done.

        Example:
            >>> import numpy as np, mobilesam
            >>> model, image = mobilesam.load("pocket"), np.zeros((60, 80, 3), np.uint8)
            >>> len(list(model.stream_everything(image))) == len(model.everything(image))
            True
        """
        options = options or EverythingOptions()
        return stream_everything(
            self.predictor,
            _read_to_search(image, options, max_pixels),
            options,
            detector=self._detector(detector, options),
            progress=progress,
        )

    def segment_text(
        self,
        embedding: Embedding,
        texts: str | Sequence[str],
        *,
        text_model: str | Path | Detector | None = None,
        options: TextOptions | None = None,
        memory: int | None = None,
    ) -> TextMatches:
        """Segment the objects that texts name: a text model finds their boxes, this one their masks.

        Args:
            embedding: from :meth:`embed` of this model.
            texts: one phrase or several, such as ``["a dog", "leash"]``; taken literally.
            text_model: what finds boxes: from :func:`mobilesam.load_text_model`, which is worth
                keeping; a folder for it; or an object of your own with ``find(embedding, texts)``, see
                :class:`mobilesam.Detector`. Where None, the text model in the folder of the weights.
            options: which boxes are believed.
            memory: as :meth:`segment` takes it.

        Returns:
            A segmentation of one mask for each object, with ``label`` and ``text_score``, best first;
            none if there is no such object.

        Raises:
            PromptError: names the text that is wrong and what is allowed.
            LimitError: for too many or too long texts, or a ``memory`` too small for one object.
            ConfigError: if the embedding is from another model, or ``text_model`` is not a text model.
            MissingExtraError: if ``mobilesam[text]`` is not installed.
            WeightsError: if the text model is missing, damaged or of another network.
            DeadlineError: if it takes too long.

        Warns:
            PromptWarning: for texts that are not read in full or may not be understood; also in
                the result's ``remarks``.

        Example:
            >>> import numpy as np, mobilesam
            >>> class Whole:
            ...     def find(self, embedding, texts):
            ...         height, width = embedding.original_size
            ...         return mobilesam.Boxes(np.array([[0, 0, width, height]]), np.array([0.9]), np.array([1]))
            >>> model = mobilesam.load("pocket")
            >>> embedding = model.embed(np.zeros((60, 80, 3), np.uint8))
            >>> found = model.segment_text(embedding, ["a dog", "a wall"], text_model=Whole())
            >>> [(result.label, result.text_score, result.mask.shape) for result in found]
            [('a wall', 0.9, (60, 80))]
        """
        self._check(embedding, "embedding", None)
        checked = check_texts(texts)
        found = segment_text(
            self.predictor, embedding, checked, text_model_for(text_model), options or TextOptions(), memory
        )
        for remark in found.remarks:
            warnings.warn(remark, PromptWarning, stacklevel=2)
        return found

    def track(
        self,
        frames: Any,
        prompts: Prompt | TrackPrompt | dict[str, Any] | Iterable[Prompt | TrackPrompt | dict[str, Any]],
        *,
        options: TrackOptions | None = None,
        max_pixels: int = MAX_PIXELS,
        progress: FramesProgress | None = None,
    ) -> Iterator[TrackedFrame]:
        """Follow objects through a video: yield each frame with their masks while the next one is read.

        Args:
            frames: the path of a video; of a folder of pictures, in the order of their names; a list of images, each
                as :meth:`embed` takes it; or an iterator of images, such as a camera's.
            prompts: what to follow. A plain prompt is an object of its own on the first frame. A
                :class:`TrackPrompt`, or a dict with ``frame`` and ``object`` beside a prompt's keys, says on which
                frame (from 1) and which object (from 1); later prompts of an object correct it. Points
                alone correct the current mask; a box or a mask begins anew.
            options: in which direction to follow, and how long to look for a lost object.
            max_pixels: greatest height times width of a frame.
            progress: called with how many frames are done, and how many there are, or None where that is unknown.

        Yields:
            The frames in order. A lost object has an empty mask and a ``question``; it is
            looked for on the following frames, and its state is ``followed`` again where it is found.

        Raises:
            PromptError: names the prompt that is wrong and what is allowed.
            ConfigError: for ``frames`` of another kind, or that cannot be read as many times as ``options`` need.
            ImageError, LimitError: for a frame that cannot be read or is too large.
            MissingExtraError: for a video, if ``mobilesam[video]`` is not installed.

        Warns:
            PromptWarning: for what is valid but may not be intended.
            ImageWarning: for a video with fewer frames than it declares.

        Example:
            >>> import numpy as np, mobilesam
            >>> frames = [np.full((60, 80, 3), 200, np.uint8) for _ in range(3)]
            >>> for i, frame in enumerate(frames):
            ...     frame[20:45, 10 + 4 * i : 35 + 4 * i] = (180, 30, 30)
            >>> model = mobilesam.load("pocket")
            >>> [frame[1].state for frame in model.track(frames, mobilesam.Prompt(box=[10, 20, 35, 45]))]
            ['prompted', 'followed', 'followed']
        """
        from mobilesam.segment.track.frames import open_frames
        from mobilesam.segment.track.prompts import read_plans
        from mobilesam.segment.track.stream import TrackOptions, no_progress, track

        plans = read_plans(prompts)
        source = open_frames(frames, max_pixels=max_pixels)
        return track(self.predictor, source, plans, options or TrackOptions(), progress or no_progress)

    def _detector(
        self, detector: str | Path | Detector | Model | None, options: EverythingOptions | None
    ) -> Detector | None:
        """Return what finds boxes; None for a grid."""
        if options is not None and options.sampler == "grid":
            return None
        if isinstance(detector, Model):
            return HeadDetector(detector.runtime, detector.name)
        return detector_for(self.runtime, self.name, detector)

    def _check(self, embedding: Embedding, name: str, multimask: bool | None) -> None:
        if not isinstance(embedding, Embedding):
            raise ConfigError(f"{name}: is a {type(embedding).__name__}; make one with model.embed(image)")
        if embedding.model != self.name:
            raise ConfigError(
                f"{name}: was made by {embedding.model}, this model is {self.name}; embed the image again"
            )
        if multimask is not None and not isinstance(multimask, bool):
            raise PromptError(f"multimask: is {multimask!r}; must be True, False or None", code="U")


def _read(image: ArrayLike, name: str | None, max_pixels: int) -> tuple[Image, Remarks]:
    """Return an image that nobody can change any more, and the remarks made when reading it."""
    rgb, remarks = read_with_remarks(image, max_pixels=max_pixels, name=name)
    for remark in remarks:
        warnings.warn(f"{name or 'image'}: {remark}", ImageWarning, stacklevel=3)
    rgb.flags.writeable = False
    return rgb, remarks


def _read_to_search(image: ArrayLike, options: EverythingOptions, max_pixels: int) -> Image:
    """Return an image; for tiles, an array (H, W, 3) uint8 stays where it is, such as in a mapped file.

    Whatever has the shape, the type and the slices of such an array counts as one: h5py's, zarr's, a raster.
    """
    shape: tuple[int, ...] = getattr(image, "shape", ())
    if options.tile is not None and getattr(image, "dtype", None) == np.uint8 and shape[2:] == (3,):
        check_size(shape[0], shape[1], "image", MAX_AREA)
        return image
    rgb, _ = _read(image, None, max_pixels)
    return rgb


def warn_of_remarks(prompts: Iterable[ValidPrompt]) -> None:
    """Warn the caller's caller of what is valid but may not be intended."""
    for remark in (remark for prompt in prompts for remark in prompt.remarks):
        warnings.warn(remark, PromptWarning, stacklevel=3)
