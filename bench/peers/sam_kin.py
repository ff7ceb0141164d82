"""Measures SAM's and MobileSAM's original code; see mobilesam.benchmark.protocol."""

from __future__ import annotations

import importlib

import numpy as np
import torch
from speak import facts_of, protocol, use_threads

PACKAGES = {"mobile_sam": "mobilesam-mirror", "segment_anything": "segment-anything"}
GRID = 8  # points along each side


def load(asked: dict):
    """Load a model and make its phases."""
    use_threads(asked)
    package, kind = asked["system"].split(".")
    module = importlib.import_module(package)
    network = module.sam_model_registry[kind](checkpoint=None).eval()
    image = told.image_at(asked["photo"])
    kept = {}

    def pixels():
        predictor = module.SamPredictor(network)
        resized = predictor.transform.apply_image(image)
        return network.preprocess(torch.as_tensor(resized).permute(2, 0, 1)[None])

    def with_image():
        if "predictor" not in kept:
            kept["predictor"] = module.SamPredictor(network)
            kept["predictor"].set_image(image)
        return kept["predictor"]

    @torch.inference_mode()
    def encode(given):
        return network.image_encoder(given)

    def encoder():
        given = pixels()
        return lambda: encode(given)

    def decoder(count):
        def prepare():
            predictor, points = with_image(), points_in(image, count)
            placed = torch.as_tensor(predictor.transform.apply_coords(points, image.shape[:2]))
            labels = torch.ones(count, 1, dtype=torch.int)
            return lambda: decode(network, predictor.features, placed[:, None].float(), labels)

        return prepare

    def enlarge():
        predictor = with_image()
        placed = torch.as_tensor(predictor.transform.apply_coords(points_in(image, 1), image.shape[:2]))
        small = decode(
            network, predictor.features, placed[:, None].float(), torch.ones(1, 1, dtype=torch.int)
        )[0]
        one = small[:, :1]

        @torch.inference_mode()
        def act():
            size = predictor.input_size, predictor.original_size
            return network.postprocess_masks(one, *size) > network.mask_threshold

        return act

    def everything():
        generator = module.SamAutomaticMaskGenerator(
            network,
            points_per_side=GRID,
            pred_iou_thresh=-1e9,
            stability_score_thresh=0.0,
            box_nms_thresh=1.0,
        )
        return lambda: generator.generate(image)

    phases = {
        "pre-processing": lambda: pixels,
        "encoder": encoder,
        "decoder, 1 prompt": decoder(1),
        "decoder, 8 prompts": decoder(8),
        "decoder, 64 prompts": decoder(64),
        "post-processing": enlarge,
        "everything": everything,
    }
    return told.Loaded(facts_of(network, PACKAGES[package]), phases)


@torch.inference_mode()
def decode(network, features, coords, labels):
    """Three small masks for each point."""
    sparse, dense = network.prompt_encoder(points=(coords, labels), boxes=None, masks=None)
    return network.mask_decoder(
        image_embeddings=features,
        image_pe=network.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )


def points_in(image: np.ndarray, count: int) -> np.ndarray:
    """So many points (count, 2), spread over an image (H, W, 3)."""
    places = (np.arange(count) + 0.5) / count
    across = (places * np.sqrt(count)) % 1 if count > 1 else places
    return np.stack([across * image.shape[1], places * image.shape[0]], axis=1)


told = protocol()
told.serve(load)
