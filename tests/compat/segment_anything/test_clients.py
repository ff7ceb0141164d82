"""What programs that use segment_anything do, call by call, on seeded MobileSAM and on ``pocket``.

None of their code is here: each test is a program's sequence of calls, written from what it uses. Where the
reference's outputs were captured, the results are compared with these.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobilesam import ConfigError
from mobilesam.compat.segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
from mobilesam.compat.segment_anything.modeling import (
    MaskDecoder,
    PromptEncoder,
    Sam,
    TinyViT,
    TwoWayTransformer,
)
from mobilesam.compat.segment_anything.utils.amg import MaskData
from mobilesam.compat.segment_anything.utils.transforms import ResizeLongestSide
from mobilesam.runtimes.base import Weights
from mobilesam.segment.model import Model
from tests.photos import cat
from tests.seeded import seeded_image
from tests.series import one_in

GOLDEN_SIZE = (480, 640)  # of image 0
CAT_BOX = np.array([60, 10, 440, 290])


@pytest.fixture(scope="module")
def mobile_sam(torch_vit_t: Model) -> Sam:
    """Seeded; not to be changed."""
    return torch_vit_t.runtime.network


@pytest.fixture(scope="module")
def pocket_network() -> Sam:
    return sam_model_registry["pocket"]()


@pytest.fixture(scope="module")
def seen(mobile_sam: Sam) -> SamPredictor:
    """Seeded MobileSAM with the first image of the captures."""
    predictor = SamPredictor(mobile_sam)
    predictor.set_image(seeded_image(*GOLDEN_SIZE, 0))
    return predictor


@pytest.fixture(scope="module")
def cat_seen(pocket_network: Sam) -> SamPredictor:
    predictor = SamPredictor(pocket_network)
    predictor.set_image(cat())
    return predictor


def check_low_res(low_res: np.ndarray, golden: dict, name: str, *, atol: float = 1e-3) -> None:
    assert np.abs(low_res[:, ::4, ::4] - golden[f"image0/{name}/low_res_every4"]).max() <= atol


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def image_as_medsam(network: Sam, image: np.ndarray) -> Tensor:
    """The whole image in the square, its sides not kept in proportion, normalised to 0..1."""
    side = network.image_encoder.img_size
    pixels = torch.as_tensor(image).permute(2, 0, 1)[None].float()
    square = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    return (square - square.min()) / (square.max() - square.min()).clamp(min=1e-8)


@torch.no_grad()
def ask_as_medsam(network: Sam, embedding: Tensor, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes of the square, (B, 4), go in as (B, 1, 4); probabilities are enlarged at once to the image."""
    corners = torch.as_tensor(boxes, dtype=torch.float)[:, None, :]
    sparse, dense = network.prompt_encoder(points=None, boxes=corners, masks=None)
    logits, _ = network.mask_decoder(
        image_embeddings=embedding,
        image_pe=network.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    likely = F.interpolate(torch.sigmoid(logits), size=size, mode="bilinear", align_corners=False)
    return likely.squeeze().numpy() > 0.5


def test_medsams_inference(pocket_network: Sam, cat_seen: SamPredictor) -> None:
    image = cat()
    height, width = image.shape[:2]
    pocket_network.eval()
    side = pocket_network.image_encoder.img_size
    with torch.no_grad():  # MedSAM's weights want 0..1, pocket's the usual pixels
        pixels = image_as_medsam(pocket_network, image) * 255
        embedding = pocket_network.image_encoder(pocket_network.preprocess(pixels))
    box = CAT_BOX[None] / np.array([width, height, width, height]) * side
    mask = ask_as_medsam(pocket_network, embedding, box, (height, width))
    wanted = cat_seen.predict(box=CAT_BOX, multimask_output=False)[0][0]
    assert mask.shape == (height, width) and overlap(mask, wanted) > 0.85


@torch.no_grad()
def test_medsams_calls_give_the_captured_logits(mobile_sam: Sam, seen: SamPredictor, golden: dict) -> None:
    resized = torch.as_tensor(seen.transform.apply_image(seeded_image(*GOLDEN_SIZE, 0)))
    embedding = mobile_sam.image_encoder(mobile_sam.preprocess(resized.permute(2, 0, 1)[None]))
    assert np.abs(embedding[0, :, ::4, ::4].numpy() - golden["image0/embedding_every4"]).max() <= 1e-4
    boxes = golden["image0/batched_boxes/in_boxes"]
    moved = seen.transform.apply_boxes_torch(torch.as_tensor(boxes), GOLDEN_SIZE)
    sparse, dense = mobile_sam.prompt_encoder(points=None, boxes=moved[:, None], masks=None)
    assert sparse.shape == (3, 2, 256) and dense.shape == (3, 256, 64, 64)
    logits, ious = mobile_sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=mobile_sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    wanted = golden["image0/batched_boxes/low_res_every4"]
    assert np.abs(logits[:, 0, ::4, ::4].numpy() - wanted.reshape(3, 64, 64)).max() <= 1e-3
    assert np.abs(ious.numpy() - golden["image0/batched_boxes/iou"].reshape(3, 1)).max() <= 1e-4
    masks = mobile_sam.postprocess_masks(logits, seen.input_size, seen.original_size)
    assert masks.shape == (3, 1, *GOLDEN_SIZE)


class LightningModel(nn.Module):
    """lightning-sam's: a frozen encoder, and each image's boxes asked in turn."""

    def __init__(self, network: Sam) -> None:
        super().__init__()
        self.model = network
        self.model.train()
        for part in (self.model.image_encoder, self.model.prompt_encoder):
            for parameter in part.parameters():
                parameter.requires_grad = False

    def forward(self, images: Tensor, boxes: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        _, _, height, width = images.shape
        with torch.no_grad():
            embeddings = self.model.image_encoder(images)
        masks, ious = [], []
        for embedding, box in zip(embeddings, boxes, strict=True):
            with torch.no_grad():
                sparse, dense = self.model.prompt_encoder(points=None, boxes=box, masks=None)
            low_res, quality = self.model.mask_decoder(
                image_embeddings=embedding.unsqueeze(0),
                image_pe=self.model.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
            masks.append(
                F.interpolate(low_res, (height, width), mode="bilinear", align_corners=False).squeeze(1)
            )
            ious.append(quality)
        return masks, ious


@pytest.mark.parametrize(("name", "steps"), one_in(2, [("pocket_network", 3), ("mobile_sam", 1)]))
def test_lightning_sams_fine_tuning(name: str, steps: int, request: pytest.FixtureRequest) -> None:
    network = copy.deepcopy(request.getfixturevalue(name))
    model = LightningModel(network)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    side = network.image_encoder.img_size
    transform = ResizeLongestSide(side)
    image = cat()
    resized = torch.as_tensor(transform.apply_image(image)).permute(2, 0, 1)
    height, width = resized.shape[-2:]
    images = F.pad(resized[None].float() / 255, (0, side - width, 0, side - height))
    boxes = [torch.as_tensor(transform.apply_boxes(CAT_BOX[None], image.shape[:2]))]
    x0, y0, x1, y1 = boxes[0][0].int().tolist()
    wanted = torch.zeros(1, side, side)
    wanted[:, y0:y1, x0:x1] = 1  # all of its box
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-4)
    losses = []
    for _ in range(steps):
        (masks,), (ious,) = model(images, boxes)
        overlaps = ((masks > 0) & (wanted > 0)).sum() / ((masks > 0) | (wanted > 0)).sum()
        loss = F.binary_cross_entropy_with_logits(masks, wanted) + F.mse_loss(ious, overlaps.view(1, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    trained = {key for key in changed if "running_" not in key and "num_batches" not in key}
    assert trained and all(key.startswith("mask_decoder.") for key in trained)
    learned = {f"mask_decoder.{key}" for key, p in network.mask_decoder.named_parameters() if p.grad.any()}
    assert learned <= changed
    if name == "mobile_sam":  # its random weights need more steps to show it
        return
    assert losses[-1] < losses[0]
    predictor = SamPredictor(network.eval())
    predictor.set_image(image)
    assert predictor.predict(box=CAT_BOX, multimask_output=False)[0].shape == (1, *image.shape[:2])


def set_up_mobile_sam(encoder: nn.Module | None = None) -> Sam:
    """As samexporter and Grounded-SAM put MobileSAM together, part by part."""
    channels, side = 256, 1024
    grid = side // 16
    return Sam(
        image_encoder=encoder
        or TinyViT(
            img_size=1024,
            in_chans=3,
            num_classes=1000,
            embed_dims=[64, 128, 160, 320],
            depths=[2, 2, 6, 2],
            num_heads=[2, 4, 5, 10],
            window_sizes=[7, 7, 14, 7],
            mlp_ratio=4.0,
            drop_rate=0.0,
            drop_path_rate=0.0,
            use_checkpoint=False,
            mbconv_expand_ratio=4.0,
            local_conv_size=3,
            layer_lr_decay=0.8,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=channels,
            image_embedding_size=(grid, grid),
            input_image_size=(side, side),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=channels, mlp_dim=2048, num_heads=8),
            transformer_dim=channels,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )


class OwnEncoder(nn.Module):
    """A program's own image encoder, of which segment_anything knows ``img_size`` and what it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.img_size = 1024
        self.inside = TinyViT(
            1024, embed_dims=(64, 128, 160, 320), num_heads=(2, 4, 5, 10), drop_path_rate=0.0
        )

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-2:] == (1024, 1024)
        return self.inside(x)


@pytest.mark.parametrize("encoder", one_in(2, [OwnEncoder, None]), ids=["the program's", "ours"])
def test_grounded_sams_setup(encoder: type | None, vit_t_weights: Weights, golden: dict) -> None:
    network = set_up_mobile_sam(encoder and encoder())
    tensors = {name: torch.as_tensor(array) for name, array in vit_t_weights.items()}
    if encoder:
        tensors = {key.replace("image_encoder.", "image_encoder.inside."): t for key, t in tensors.items()}
    assert network.load_state_dict(tensors, strict=True).missing_keys == []
    predictor = SamPredictor(network.to(device="cpu").eval())
    predictor.set_image(seeded_image(*GOLDEN_SIZE, 0))
    box = golden["image0/box/in_box"]
    masks, scores, low_res = predictor.predict(box=box, multimask_output=False)
    assert masks.shape == (1, *GOLDEN_SIZE) and masks.dtype == bool
    check_low_res(low_res, golden, "box")
    best = predictor.predict(box=box, multimask_output=True)[1].argmax()  # as its annotator takes it
    assert 0 <= best < 3 and np.abs(scores - golden["image0/box/iou"]).max() <= 1e-4


def rebuild_sparse(encoder: PromptEncoder, coords: Tensor, labels: Tensor, side: int) -> Tensor:
    """Points as samexporter and others embed them for a graph, from the prompt encoder's tensors."""
    embedding = encoder.pe_layer._pe_encoding((coords + 0.5) / side)
    kinds = labels.unsqueeze(-1).expand_as(embedding)
    embedding = embedding * (kinds != -1) + encoder.not_a_point_embed.weight * (kinds == -1)
    for i in range(encoder.num_point_embeddings):
        embedding = embedding + encoder.point_embeddings[i].weight * (kinds == i)
    return embedding


@torch.no_grad()
def test_samexporters_own_decoder(mobile_sam: Sam, pocket_network: Sam) -> None:
    coords = torch.tensor([[[100.0, 200], [50, 60], [900, 700], [0, 0]]])
    labels = torch.tensor([[1.0, 0, 1, -1]])
    encoder = mobile_sam.prompt_encoder
    sparse, _ = encoder(points=(coords[:, :-1], labels[:, :-1]), boxes=None, masks=None)
    torch.testing.assert_close(rebuild_sparse(encoder, coords, labels, 1024), sparse, atol=1e-5, rtol=0)
    mask = torch.linspace(-4, 4, 256 * 256).view(1, 1, 256, 256)
    for given in (0.0, 1.0):
        has = torch.tensor([given])
        rebuilt = has * encoder.mask_downscaling(mask)
        rebuilt = rebuilt + (1 - has) * encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        _, asked = encoder(points=None, boxes=None, masks=mask if given else None)
        torch.testing.assert_close(rebuilt.expand_as(asked), asked)
    with pytest.raises(ConfigError, match="pocket also draws its prompts on the grid"):
        rebuild_sparse(pocket_network.prompt_encoder, coords, labels, 768)


class GeoPredictor(SamPredictor):
    """samgeo's: what it needs is set by itself, never by the constructor above it."""

    def __init__(self, sam_model: Sam) -> None:
        self.model = sam_model
        self.transform = ResizeLongestSide(sam_model.image_encoder.img_size)

    def set_image(self, image: np.ndarray) -> None:
        super().set_image(image)

    def predict(self, geo_box: list[float], scale: float) -> Any:
        return super().predict(None, None, np.array(geo_box) * scale, None, False, False)


@pytest.mark.parametrize("name", ["seen", "cat_seen"])
def test_samgeos_predictor(name: str, request: pytest.FixtureRequest) -> None:
    plain = request.getfixturevalue(name)
    predictor = GeoPredictor(plain.model)
    assert not predictor.is_image_set and predictor.features is None and predictor.original_size is None
    with pytest.raises(RuntimeError, match="set_image"):
        predictor.predict([1, 2, 3, 4], 1)
    predictor.set_image(cat() if name == "cat_seen" else seeded_image(*GOLDEN_SIZE, 0))
    assert predictor.is_image_set and predictor.original_size == plain.original_size
    found = predictor.predict((CAT_BOX / 2).tolist(), 2)
    for ours, theirs in zip(found, plain.predict(box=CAT_BOX, multimask_output=False), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["seen", "cat_seen"])
def test_micro_sams_kept_embeddings(name: str, request: pytest.FixtureRequest) -> None:
    """Embeddings are written as arrays, and put back into a predictor that never saw the image."""
    predictor = request.getfixturevalue(name)
    kept = predictor.get_image_embedding().cpu().numpy()
    again = SamPredictor(predictor.model)
    again.features = torch.from_numpy(kept).to(again.device)
    again.original_size, again.input_size = predictor.original_size, predictor.input_size
    again.is_image_set = True
    for prompt in ({"box": CAT_BOX}, {"point_coords": np.array([[200, 150]]), "point_labels": np.array([1])}):
        for ours, theirs in zip(again.predict(**prompt), predictor.predict(**prompt), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
    again.reset_image()
    assert not again.is_image_set


def test_napari_plugins_clicks(seen: SamPredictor, golden: dict) -> None:
    """Each click asks with all clicks so far, as float labels, and with the logits of the last answer."""
    name = "image0/points_fg_bg"
    coords, labels = golden[f"{name}/in_point_coords"], golden[f"{name}/in_point_labels"]
    coords = np.concatenate([coords[labels == 1], coords[labels == 0]])
    labels = np.concatenate([np.ones(int((labels == 1).sum())), np.zeros(int((labels == 0).sum()))])
    masks, scores, logits = seen.predict(
        point_coords=coords, point_labels=labels, box=None, mask_input=None, multimask_output=True
    )
    check_low_res(logits, golden, "points_fg_bg")
    best = logits[scores.argmax()][None]
    masks, _, logits = seen.predict(
        point_coords=coords, point_labels=labels, box=None, mask_input=best, multimask_output=False
    )
    assert masks.shape == (1, *GOLDEN_SIZE) and logits.shape == (1, 256, 256)
    drawn = np.array([[120, 90], [420, 300]])  # a rectangle's corners, (2, 2)
    np.testing.assert_array_equal(
        seen.predict(box=drawn, multimask_output=False)[2],
        seen.predict(box=drawn.reshape(4), multimask_output=False)[2],
    )


class CountingGenerator(SamAutomaticMaskGenerator):
    """A program's own steps between segment_anything's."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.least = 0.5
        self.batches: list[int] = []
        self.crops: list[list[int]] = []

    def _process_crop(
        self, image: np.ndarray, crop_box: list[int], crop_layer_idx: int, orig_size: tuple[int, int]
    ) -> MaskData:
        self.crops.append(list(crop_box))
        return super()._process_crop(image, crop_box, crop_layer_idx, orig_size)

    def _process_batch(
        self,
        points: np.ndarray,
        im_size: tuple[int, int],
        crop_box: list[int],
        orig_size: tuple[int, int],
    ) -> MaskData:
        self.batches.append(len(points))
        assert self.predictor.is_image_set and self.predictor.original_size == im_size
        data = super()._process_batch(points, im_size, crop_box, orig_size)
        data.filter(torch.as_tensor(data["iou_preds"] > self.least))
        return data

    def _generate_masks(self, image: np.ndarray) -> MaskData:
        self.data = super()._generate_masks(image)
        return self.data


def test_a_generators_steps_can_be_changed(pocket: Model) -> None:
    settings = {
        "points_per_side": 3,
        "points_per_batch": 6,
        "crop_n_layers": 1,
        "crop_n_points_downscale_factor": 2,
        "pred_iou_thresh": 0.2,
        "stability_score_thresh": 0.1,
    }
    image = cat()
    generator = CountingGenerator(pocket, **settings)
    records = generator.generate(image)
    assert generator.batches == [6, 3, 1, 1, 1, 1]
    assert len(generator.crops) == 5 and generator.crops[0] == [0, 0, 451, 300]
    data = generator.data
    columns = {"rles", "iou_preds", "stability_score", "boxes", "points", "crop_boxes"}
    assert {key for key, _ in data.items()} == columns
    assert all(isinstance(column, list | np.ndarray) for _, column in data.items())
    assert 0 < len(records) == len(data["rles"])
    assert [record["predicted_iou"] for record in records] == data["iou_preds"].tolist()
    generator.least = 0.0
    everything = generator.generate(image)
    assert len(everything) > len(records)
    for record in everything:
        mask, (x, y, width, height) = record["segmentation"], record["bbox"]
        assert mask.shape == (300, 451) and mask.sum() == record["area"]
        assert mask[y : y + height + 1, x : x + width + 1].sum() == record["area"]


def test_thresholds_below_everything_let_everything_through(pocket: Model) -> None:
    generator = SamAutomaticMaskGenerator(pocket, 2, box_nms_thresh=7.0)
    generator.pred_iou_thresh, generator.stability_score_thresh = -1.0, -2.0
    assert len(generator.generate(cat())) == 12  # three masks a point


def test_thresholds_above_everything_let_nothing_through(pocket: Model) -> None:
    for name in ("pred_iou_thresh", "stability_score_thresh"):
        generator = SamAutomaticMaskGenerator(pocket, 2, pred_iou_thresh=0.0, stability_score_thresh=0.0)
        setattr(generator, name, 1.5)
        with pytest.warns(UserWarning, match="no mask of pocket"):
            assert generator.generate(cat()) == []
    lonely = SamAutomaticMaskGenerator(
        pocket, 2, pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=-1.0
    )
    (best,) = lonely.generate(cat())
    assert best["predicted_iou"] > 0
