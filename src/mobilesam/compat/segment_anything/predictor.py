"""segment_anything's ``SamPredictor`` over ours."""

from __future__ import annotations

import math
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilesam.compat.errors import (
    ConfigAssertionError,
    NoImageError,
    PromptAssertionError,
)
from mobilesam.compat.segment_anything.batch_prompts import certain, mask_tokens_of, validate_batch
from mobilesam.compat.segment_anything.utils.transforms import ResizeLongestSide
from mobilesam.core.arrays import ArrayLike, Image, Logits, Masks, Size, to_numpy
from mobilesam.core.errors import ConfigError, ImageError, PromptError, PromptWarning, missing_extra
from mobilesam.core.frame import Frame, input_size_of
from mobilesam.core.postprocess import MASK_THRESHOLD, enlarge_logits, enlarge_masks
from mobilesam.core.preprocess import preprocess
from mobilesam.core.prompts import (
    FieldNames,
    prompts_to_decoder_inputs,
    validate_prompt,
)
from mobilesam.core.resize import resize_image
from mobilesam.core.types import Prompt
from mobilesam.formats.image import array_to_rgb
from mobilesam.segment.model import Model

if TYPE_CHECKING:
    from torch import Tensor

    from mobilesam.compat.segment_anything.modeling.sam import Sam

NAMES = FieldNames("prompt", "point_coords", "point_labels", "box", "mask_input")
BATCH_NAMES = FieldNames("prompt", "point_coords", "point_labels", "boxes", "mask_input")


class SamPredictor:
    """Holds a current image and answers prompts about it, as segment_anything's does.

    Args:
        sam_model: a model of :func:`mobilesam.load`, or a network of ``sam_model_registry``.

    Attributes:
        model: what was given.
        transform: resizes images and moves coordinates to the model's input.
        is_image_set: whether there is a current image.
        original_size: its (height, width).
        input_size: its (height, width) in the model's input.

    Example:
        >>> import numpy as np, mobilesam
        >>> predictor = mobilesam.SamPredictor(mobilesam.load("pocket"))
        >>> predictor.set_image(np.zeros((60, 80, 3), np.uint8))
        >>> masks, scores, low_res = predictor.predict(
        ...     point_coords=np.array([[40, 30]]), point_labels=np.array([1]))
        >>> masks.shape, low_res.shape
        ((3, 60, 80), (3, 384, 384))
    """

    # Programs' subclasses set model and transform themselves: everything else starts here.
    model: Model | Sam
    transform: ResizeLongestSide
    is_image_set = False
    original_size: Size | None = None
    input_size: Size | None = None
    _arrays: dict[str, Any] | None = None
    _opened: tuple[Any, Any] = (None, None)

    def __init__(self, sam_model: Model | Sam) -> None:
        self.model = sam_model
        self.transform = ResizeLongestSide(self._runtime.spec.prompt_size)
        self.reset_image()

    @property
    def _runtime(self) -> Any:
        """What runs ``model``; with PyTorch its arrays are tensors, which stay on its device."""
        if self._opened[0] is not self.model:
            self._opened = (self.model, open_model(self.model))
        return self._opened[1]

    def reset_image(self) -> None:
        """Forget the current image."""
        self._arrays = None
        self.is_image_set = False
        self.original_size = None
        self.input_size = None

    @property
    def features(self) -> Any:
        """The current image's embedding (1, C, h, w), or None.

        May be set to one that was read here before; ``original_size``, ``input_size``
        and ``is_image_set`` must be set with it. This needs a model with PyTorch.
        """
        if not self._arrays:
            return None
        if hasattr(self._runtime, "features"):
            return self._runtime.features(self._arrays)
        return self._arrays["image_embedding"]

    @features.setter
    def features(self, image_embedding: Tensor | None) -> None:
        if image_embedding is None:
            self._arrays = None
        elif hasattr(self._runtime, "prepare"):
            self._arrays = self._runtime.prepare(image_embedding)
        else:
            raise ConfigError("features: can be set with PyTorch only; keep what model.embed(image) returns")

    @property
    def orig_h(self) -> int | None:
        """Height of the current image."""
        return self.original_size[0] if self.original_size else None

    @property
    def orig_w(self) -> int | None:
        """Width of the current image."""
        return self.original_size[1] if self.original_size else None

    @property
    def input_h(self) -> int | None:
        """Height of the current image in the model's input."""
        return self.input_size[0] if self.input_size else None

    @property
    def input_w(self) -> int | None:
        """Width of the current image in the model's input."""
        return self.input_size[1] if self.input_size else None

    @property
    def device(self) -> Any:
        """Where the model runs: a ``torch.device`` with PyTorch, otherwise its name."""
        return self._runtime.device

    def set_image(self, image: Image, image_format: str = "RGB") -> None:
        """Embed an image for the prompts that follow.

        Args:
            image: (H, W, 3) uint8, or float with whole numbers in 0..255.
            image_format: ``RGB`` or ``BGR``.

        Raises:
            ConfigError: for another format.
            ImageError: for an array that is not such an image; there is no current image then.
        """
        self.reset_image()
        if image_format not in ("RGB", "BGR"):
            raise ConfigAssertionError(f"image_format: is {image_format!r}; must be 'RGB' or 'BGR'")
        rgb = image_to_rgb(image, image_format)
        runtime = self._runtime
        if runtime.name == "torch":  # the network's own mean, deviation and padding
            resized = resize_image(rgb, input_size_of(rgb.shape[:2], runtime.spec.image_size))
            pixels = runtime.pixels(_torch_part("set_image").image_to_tensor(resized))
        else:
            pixels = preprocess(rgb, runtime.spec)
        self._arrays = runtime.encode(pixels)
        frame = Frame.fit(rgb.shape[:2], self._runtime.spec.prompt_size)
        self.original_size, self.input_size = frame.original_size, frame.input_size
        self.is_image_set = True

    def set_torch_image(self, transformed_image: Tensor, original_image_size: Size) -> None:
        """Embed an image that was resized already, for the prompts that follow.

        Args:
            transformed_image: (1, 3, h, w) RGB in 0..255, not normalised, whose longer side is
                the model's, as ``transform.apply_image_torch`` makes it.
            original_image_size: (height, width) before resizing.

        Raises:
            ImageError: for another tensor; there is no current image then.
            ConfigError: for a size that is not valid.
        """
        self.reset_image()
        torch_part = _torch_part("set_torch_image")
        torch_part.check_size(original_image_size, "original_image_size")
        runtime = self._runtime
        torch_part.check_resized(transformed_image, runtime.spec)
        if runtime.name == "torch":
            self._arrays = runtime.encode(runtime.pixels(transformed_image))
        else:
            pixels = torch_part.resized_to_pixels(transformed_image, runtime.spec)
            self._arrays = runtime.encode(to_numpy(pixels))
        height, width = transformed_image.shape[-2:]
        scale = runtime.spec.prompt_size // runtime.spec.image_size
        self.original_size = (original_image_size[0], original_image_size[1])
        self.input_size = (height * scale, width * scale)
        self.is_image_set = True

    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Masks | Logits, np.ndarray, Logits]:
        """Return masks, their IoU predictions and low-resolution logits for one prompt.

        Args:
            point_coords: (N, 2) x and y in pixels of the image.
            point_labels: (N,) 1 foreground, 0 background.
            box: (4,) x0, y0, x1, y1; or these four in another shape.
            mask_input: (1, 256, 256) logits, (1, 384, 384) for ``pocket``, usually from an earlier prediction.
                Infinite ones are certain.
            multimask_output: three masks, or one.
            return_logits: logits instead of boolean masks.

        Returns:
            Masks (C, H, W), IoU predictions (C,) and logits (C, 256, 256), (C, 384, 384) for ``pocket``.

        Raises:
            NoImageError: before :meth:`set_image`.
            PromptError: for a prompt that makes no sense.
        """
        arrays, frame = self._current()
        tokens = mask_tokens_of(multimask_output)
        _check_labels_given(point_coords, point_labels)
        valid = validate_prompt(
            Prompt(*points_of(point_coords, point_labels, box, mask_input), four(box), certain(mask_input)),
            frame,
            grid=self._grid,
            names=NAMES,
            clip_box=False,
        )
        for remark in valid.remarks:
            warnings.warn(remark, PromptWarning, stacklevel=2)
        inputs = prompts_to_decoder_inputs([valid], frame)
        low_res, ious = (np.array(to_numpy(a)[0]) for a in self._runtime.decode(arrays, inputs, tokens))
        if return_logits:
            return enlarge_logits(low_res, frame), ious, low_res
        masks = enlarge_masks(low_res, frame, threshold=self._threshold)
        return masks, ious, low_res

    def predict_torch(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return masks, IoU predictions and low-resolution logits for many objects, as tensors on the model's device.

        Coordinates are those of the resized image, as ``transform.apply_coords_torch`` and
        ``transform.apply_boxes_torch`` make them.

        Args:
            point_coords: (B, N, 2) x and y.
            point_labels: (B, N) 1 foreground, 0 background, -1 a pad, 2 and 3 a box's corners.
            boxes: (B, 4) x0, y0, x1, y1.
            mask_input: (B, 1, 256, 256) logits, or (1, 1, 256, 256) for all.
            multimask_output: three masks for each object, or one.
            return_logits: logits instead of boolean masks.

        Returns:
            Masks (B, C, H, W), IoU predictions (B, C) and logits (B, C, 256, 256).

        Raises:
            NoImageError: before :meth:`set_image`.
            PromptError: for a prompt that makes no sense.
        """
        arrays, frame = self._current()
        tokens = mask_tokens_of(multimask_output)
        _check_labels_given(point_coords, point_labels)
        inputs = validate_batch(
            point_coords,
            point_labels,
            boxes,
            mask_input,
            input_size=frame.input_size,
            grid=self._grid,
            names=BATCH_NAMES,
        )
        torch_part = _torch_part("predict_torch")
        threshold = None if return_logits else self._threshold
        enlarger = torch_part.Enlarger(frame, threshold)
        return torch_part.decode_batch(self._runtime, arrays, inputs, tokens, enlarger)

    def get_image_embedding(self) -> Any:
        """Return the current image's embedding (1, C, h, w): a tensor with PyTorch, otherwise an array.

        Raises:
            NoImageError: before :meth:`set_image`.
        """
        self._current()
        return self.features

    def _current(self) -> tuple[dict[str, Any], Frame]:
        """Return the current image's arrays and its frame, whose two sizes users may have set."""
        if not self.is_image_set or not self._arrays or not self.original_size or not self.input_size:
            raise NoImageError("image: none is set; call set_image(...) first")
        return self._arrays, Frame(
            (self.original_size[0], self.original_size[1]),
            (self.input_size[0], self.input_size[1]),
            self._runtime.spec.prompt_size,
        )

    @property
    def _grid(self) -> int:
        """Side of the image embedding's grid."""
        arrays, _ = self._current()
        return int(max(arrays["image_embedding"].shape[-2:]))

    @property
    def _threshold(self) -> float:
        return getattr(self.model, "mask_threshold", MASK_THRESHOLD)


def image_to_rgb(image: Image, image_format: str = "RGB") -> Image:
    """Check an image (H, W, 3), however narrow, and return it as uint8 RGB.

    Raises:
        ImageError: for anything but such an array, or for floats that may mean something else.
        LimitError: for too many pixels.
    """
    wanted = "must be an array (H, W, 3) uint8"
    if not isinstance(image, np.ndarray):
        raise ImageError(f"image: is a {type(image).__name__}; {wanted}", code="U")
    if image.dtype.kind == "f" and image.size and image.max() != 1:  # up to 1 may be all there is
        whole = np.clip(np.nan_to_num(image), 0, 255).astype(np.uint8)
        image = whole if (whole == image).all() else image
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ImageError(f"image: has shape {image.shape} and type {image.dtype}; {wanted}", code="U")
    return array_to_rgb(image if image_format == "RGB" else image[..., ::-1], max_ratio=math.inf)


def open_model(model: Model | Sam) -> Any:
    """Return what runs a model or a network for a predictor."""
    opened = model if isinstance(model, Model) else network_to_model(model)
    if opened.runtime.name != "torch":
        return opened.runtime
    return _torch_part("SamPredictor").model_to_tensor_runtime(opened)


def network_to_model(network: Sam) -> Model:
    """Return a model that runs a PyTorch network."""
    if not hasattr(network, "image_encoder"):
        raise ConfigError(
            f"sam_model: is a {type(network).__name__}; give mobilesam.load(...) or sam_model_registry[...](...)"
        )
    from mobilesam.compat.segment_anything.torch_part import network_to_model

    return network_to_model(network)


def _torch_part(what: str) -> Any:
    """Return the module that needs PyTorch, which ``what`` is about to use."""
    try:
        return import_module("mobilesam.compat.segment_anything.torch_part")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise missing_extra(what, "torch") from error


def _check_labels_given(point_coords: ArrayLike, point_labels: ArrayLike) -> None:
    if point_coords is not None and point_labels is None:
        raise PromptAssertionError("point_labels: must be supplied if point_coords is supplied")


def points_of(
    point_coords: ArrayLike, point_labels: ArrayLike, *others: ArrayLike
) -> tuple[ArrayLike, ArrayLike]:
    """Return points and labels in segment_anything's form (N, 2); beside another prompt there may be none.

    Raises:
        PromptError: for one bare point, which is not taken for a list of points.
    """
    if point_coords is None:
        return None, point_labels
    if np.ndim(point_coords) == 1 and np.size(point_coords):
        raise PromptError(f"point_coords: has shape {np.shape(point_coords)}; must be (N, 2)", code="U")
    none = not np.size(point_coords) and not np.size(point_labels)
    return (
        (None, None) if none and any(other is not None for other in others) else (point_coords, point_labels)
    )


def four(box: ArrayLike) -> ArrayLike:
    """Return a box as four numbers, in whatever shape they came: (1, 4), (2, 2), (4, 1) and the like."""
    if box is None or isinstance(box, list | tuple):
        return box
    return box.reshape(4) if getattr(box, "shape", ()) not in ((), (4,)) and np.size(box) == 4 else box
