"""segment_anything's ``modeling.mask_decoder``."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobilesam.compat.segment_anything.modeling.prompt_encoder import replace_gelu
from mobilesam.core.errors import ConfigError
from mobilesam.networks import mask_decoder


class MLP(mask_decoder.MLP):
    """Linear layers with ReLU between them."""

    def __init__(
        self, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int, sigmoid_output: bool = False
    ) -> None:
        super().__init__(input_dim, hidden_dim, output_dim, num_layers)
        self.num_layers = num_layers
        self.sigmoid_output = sigmoid_output

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., output_dim) for (..., input_dim)."""
        x = super().forward(x)
        return F.sigmoid(x) if self.sigmoid_output else x


class MaskDecoder(mask_decoder.MaskDecoder):
    """Predicts masks and their IoU from an image's and its prompts' embeddings.

    Args:
        transformer_dim: channels of the transformer.
        transformer: joins prompts and image; anything called as :class:`.transformer.TwoWayTransformer` is.
        num_multimask_outputs: masks besides the single one.
        activation: of the upscaling.
        iou_head_depth: layers of the IoU head.
        iou_head_hidden_dim: hidden width of the IoU head.
    """

    def __init__(
        self,
        *,
        transformer_dim: int,
        transformer: nn.Module,
        num_multimask_outputs: int = 3,
        activation: type[nn.Module] = nn.GELU,
        iou_head_depth: int = 3,
        iou_head_hidden_dim: int = 256,
    ) -> None:
        super().__init__(
            transformer=transformer,  # type: ignore[arg-type]  # another's is called, never joined
            embed_dim=transformer_dim,
            iou_head_hidden=iou_head_hidden_dim,
            num_multimask_outputs=num_multimask_outputs,
        )
        replace_gelu(self.output_upscaling, activation)
        self.transformer_dim = transformer_dim
        self.num_multimask_outputs = num_multimask_outputs
        if iou_head_depth != len(self.iou_prediction_head.layers):
            self.iou_prediction_head = MLP(
                transformer_dim, iou_head_hidden_dim, self.num_mask_tokens, iou_head_depth
            )

    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return low-resolution logits (B, M, 4h, 4w) and IoU predictions (B, M), of the single mask or of the others.

        Args:
            image_embeddings: (1, C, h, w) for all prompts, or (B, C, h, w).
            image_pe: (1, C, h, w), from the prompt encoder's ``get_dense_pe``.
            sparse_prompt_embeddings: (B, N, C).
            dense_prompt_embeddings: (B or 1, C, h, w).
            multimask_output: all masks but the single one, or only that one.
        """
        masks, ious = self.predict_masks(
            image_embeddings=image_embeddings,
            image_pe=image_pe,
            sparse_prompt_embeddings=sparse_prompt_embeddings,
            dense_prompt_embeddings=dense_prompt_embeddings,
        )
        chosen = slice(1, None) if multimask_output else slice(0, 1)
        return masks[:, chosen], ious[:, chosen]

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return all masks and IoU predictions, the single one's first; arguments as in :meth:`forward`."""
        tokens = self.ask(sparse_prompt_embeddings)
        check_images(image_embeddings, len(tokens))
        image = image_embeddings + dense_prompt_embeddings.to(image_embeddings.dtype)
        image = image.expand(len(tokens), -1, -1, -1)
        place = image_pe.to(image.dtype).expand(len(tokens), -1, -1, -1)
        tokens, read = self.transformer(image, place, tokens)
        every = torch.arange(self.num_mask_tokens, device=tokens.device)
        return self.answer(tokens, read, image.shape[-2:], every)


def check_images(image_embeddings: Tensor, prompts: int) -> None:
    """Check that image embeddings come from one image for all prompts, or one for each.

    Raises:
        ConfigError: for another number of images.
    """
    if len(image_embeddings) not in (1, prompts):
        raise ConfigError(
            f"image_embeddings: come from {len(image_embeddings)} images for {prompts} prompts; "
            "give one image for all, or one for each"
        )
