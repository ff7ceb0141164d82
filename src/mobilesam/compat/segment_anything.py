"""segment_anything's names over ours: ``SamPredictor`` and ``sam_model_registry``.

Signatures, shapes and the order of results are segment_anything's. What it computed
silently from a NaN, a wrong label or an inverted box is an error here that names the
argument.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilesam.core.arrays import ArrayLike, Image, Logits, Masks
from mobilesam.core.errors import ConfigError, ImageError, PromptError, PromptWarning, missing_extra
from mobilesam.core.postprocess import enlarge_logits, enlarge_masks
from mobilesam.core.prompts import FieldNames, prompts_to_decoder_inputs, validate_prompt
from mobilesam.core.types import MULTIMASK, SINGLE_MASK, Embedding, Prompt
from mobilesam.predictor import Model

if TYPE_CHECKING:
    from mobilesam.networks.sam import Sam

# segment_anything's names, and MobileSAM's, for ours.
REGISTERED = {name: name for name in ("vit_h", "vit_l", "vit_b", "vit_t")} | {"default": "vit_h"}
NAMES = FieldNames("prompt", "point_coords", "point_labels", "box", "mask_input")


class NoImageError(ConfigError, RuntimeError):
    """A question about the current image before there is one; segment_anything's RuntimeError."""


class SamPredictor:
    """Holds a current image and answers prompts about it, as segment_anything's does.

    Args:
        sam_model: a model of :func:`mobilesam.load`, or a network of ``sam_model_registry``.

    Example:
        >>> import numpy as np, mobilesam
        >>> predictor = mobilesam.SamPredictor(mobilesam.load("pocket"))
        >>> predictor.set_image(np.zeros((60, 80, 3), np.uint8))
        >>> masks, scores, low_res = predictor.predict(
        ...     point_coords=np.array([[40, 30]]), point_labels=np.array([1]))
        >>> masks.shape, low_res.shape
        ((3, 60, 80), (3, 256, 256))
    """

    def __init__(self, sam_model: Model | Sam) -> None:
        self.model = sam_model
        self._model = sam_model if isinstance(sam_model, Model) else network_to_model(sam_model)
        self._embedding: Embedding | None = None

    @property
    def is_image_set(self) -> bool:
        """Whether there is a current image."""
        return self._embedding is not None

    @property
    def original_size(self) -> tuple[int, int] | None:
        """(height, width) of the current image."""
        return self._embedding.original_size if self._embedding else None

    @property
    def input_size(self) -> tuple[int, int] | None:
        """(height, width) of the current image in the model's input."""
        return self._embedding.input_size if self._embedding else None

    @property
    def features(self) -> Any:
        """The current image's embedding, or None."""
        return self.get_image_embedding() if self._embedding else None

    @property
    def device(self) -> str:
        """Where the model runs."""
        return self._model.runtime.device

    def set_image(self, image: Image, image_format: str = "RGB") -> None:
        """Embed an image for the prompts that follow.

        Args:
            image: (H, W, 3) uint8.
            image_format: ``RGB`` or ``BGR``.

        Raises:
            ConfigError: for another format.
            ImageError: for an array that is no such image; there is no current image then.
        """
        self.reset_image()
        if image_format not in ("RGB", "BGR"):
            raise ConfigError(f"image_format: is {image_format!r}; must be 'RGB' or 'BGR'")
        if not isinstance(image, np.ndarray):
            raise ImageError(
                f"image: is a {type(image).__name__}; must be an array (H, W, 3) uint8", code="U"
            )
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ImageError(
                f"image: has shape {image.shape} and type {image.dtype}; must be (H, W, 3) uint8", code="U"
            )
        if image_format == "BGR":
            image = image[..., ::-1]
        self._embedding = self._model.embed(image)

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
            box: (4,) x0, y0, x1, y1.
            mask_input: (1, 256, 256) logits, usually of an earlier prediction.
            multimask_output: three masks, or one.
            return_logits: logits instead of boolean masks.

        Returns:
            Masks (C, H, W), IoU predictions (C,) and logits (C, 256, 256).

        Raises:
            NoImageError: before :meth:`set_image`.
            PromptError: for a prompt that cannot be meant.
        """
        embedding = self._current()
        if point_coords is not None and point_labels is None:
            raise PromptError("point_labels: must be supplied if point_coords is supplied")
        if not isinstance(multimask_output, bool | np.bool_):
            raise PromptError(f"multimask_output: is {multimask_output!r}; must be True or False", code="U")
        valid = validate_prompt(
            Prompt(_own(point_coords), point_labels, box, mask_input),
            embedding.original_size,
            grid=embedding.image_embedding.shape[-1],
            input_size=embedding.input_size,
            image_size=embedding.image_size,
            names=NAMES,
            clip_box=False,
        )
        for remark in valid.remarks:
            warnings.warn(remark, PromptWarning, stacklevel=2)
        inputs = prompts_to_decoder_inputs([valid], embedding.original_size, embedding.input_size)
        tokens = MULTIMASK if multimask_output else SINGLE_MASK
        low_res, ious = self._model.runtime.decode(embedding.arrays, inputs, tokens)
        low_res, ious = np.array(low_res[0]), np.array(ious[0])
        enlarge = enlarge_logits if return_logits else enlarge_masks
        masks = enlarge(low_res, embedding.image_size, embedding.input_size, embedding.original_size)
        return masks, ious, low_res

    def get_image_embedding(self) -> Any:
        """Return the current image's embedding (1, C, h, w): a tensor for a PyTorch network, else an array.

        Raises:
            NoImageError: before :meth:`set_image`.
        """
        array = self._current().image_embedding
        if isinstance(self.model, Model):
            return array
        from mobilesam.compat.segment_anything_torch import array_to_tensor

        return array_to_tensor(array, self.model)

    def reset_image(self) -> None:
        """Forget the current image."""
        self._embedding = None

    def _current(self) -> Embedding:
        if self._embedding is None:
            raise NoImageError("image: none is set; call set_image(...) first")
        return self._embedding


def network_to_model(network: Sam) -> Model:
    """Return a model that runs a PyTorch network."""
    if not hasattr(network, "image_encoder"):
        raise ConfigError(
            f"sam_model: is a {type(network).__name__}; give mobilesam.load(...) or sam_model_registry[...](...)"
        )
    from mobilesam.compat.segment_anything_torch import network_to_model

    return network_to_model(network)


class Registry(Mapping[str, Callable[..., "Sam"]]):
    """``sam_model_registry``: builders of PyTorch networks by name, found without loading PyTorch."""

    def __getitem__(self, name: str) -> Callable[..., Sam]:
        if name not in REGISTERED:
            raise KeyError(name)

        def build(checkpoint: str | Path | None = None) -> Sam:
            """Return the network in eval mode, with random weights where no checkpoint is given."""
            try:
                from mobilesam.compat.segment_anything_torch import build_sam
            except ModuleNotFoundError as error:
                if error.name != "torch":
                    raise
                raise missing_extra("sam_model_registry", "torch") from error
            return build_sam(REGISTERED[name], checkpoint)

        return build

    def __iter__(self) -> Iterator[str]:
        return iter(REGISTERED)

    def __len__(self) -> int:
        return len(REGISTERED)


sam_model_registry = Registry()


def _own(point_coords: ArrayLike) -> ArrayLike:
    """segment_anything has (N, 2) only: one bare point is not taken for a list of points."""
    if point_coords is not None and np.ndim(point_coords) == 1:
        raise PromptError(f"point_coords: has shape {np.shape(point_coords)}; must be (N, 2)", code="U")
    return point_coords
