"""Measures SAM 2's image model in transformers; see mobilesam.benchmark.protocol."""

from __future__ import annotations

import numpy as np
import torch
from speak import facts_of, protocol, use_threads
from transformers import Sam2Config, Sam2Model
from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig, Sam2VisionConfig

# SAM 2's published configurations; tiny is transformers' default.
BACKBONES = {
    "tiny": {},
    "base_plus": {
        "hidden_size": 112,
        "num_attention_heads": 2,
        "blocks_per_stage": [2, 3, 16, 3],
        "embed_dim_per_stage": [112, 224, 448, 896],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "window_size_per_stage": [8, 4, 14, 7],
        "global_attention_blocks": [12, 16, 20],
        "window_positional_embedding_background_size": [14, 14],
    },
}
SIDE = 1024
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def load(asked: dict):
    """Load a model and make its phases."""
    use_threads(asked)
    given = BACKBONES[asked["system"]]
    backbone = Sam2HieraDetConfig(**given)
    channels = list(reversed(given.get("embed_dim_per_stage", [96, 192, 384, 768])))
    vision = Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=channels)
    network = Sam2Model(Sam2Config(vision_config=vision)).eval()
    image = told.image_at(asked["photo"])
    kept = {}

    def pixels():
        from PIL import Image

        resized = np.asarray(
            Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32
        )
        return torch.from_numpy(((resized / 255 - MEAN) / STD).transpose(2, 0, 1).astype(np.float32))[None]

    @torch.inference_mode()
    def encode(given):
        return network.get_image_embeddings(given)

    def embedding():
        if "embedding" not in kept:
            kept["embedding"] = encode(pixels())
        return kept["embedding"]

    def encoder():
        given = pixels()
        return lambda: encode(given)

    def decoder(count):
        def prepare():
            there = embedding()
            places = (np.arange(count) + 0.5) / count
            across = (places * np.sqrt(count)) % 1 if count > 1 else places
            points = torch.from_numpy(np.stack([across, places], 1).astype(np.float32) * SIDE)
            labels = torch.ones(1, count, 1, dtype=torch.int)

            @torch.inference_mode()
            def act():
                return network(
                    image_embeddings=there,
                    input_points=points[None, :, None],
                    input_labels=labels,
                    multimask_output=True,
                )

            return act

        return prepare

    def enlarge():
        small = decoder(1)()().pred_masks[:, 0, :1]
        size = image.shape[:2]

        @torch.inference_mode()
        def act():
            return torch.nn.functional.interpolate(small, size, mode="bilinear", align_corners=False) > 0

        return act

    phases = {
        "pre-processing": lambda: pixels,
        "encoder": encoder,
        "decoder, 1 prompt": decoder(1),
        "decoder, 8 prompts": decoder(8),
        "decoder, 64 prompts": decoder(64),
        "post-processing": enlarge,
    }
    return told.Loaded(facts_of(network, "transformers"), phases)


told = protocol()
told.serve(load)
