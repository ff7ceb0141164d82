"""The head for the subject in NumPy is the network that was trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mobilesam import Model
from mobilesam.detectors.subject_head import SUBJECT_HEAD, SubjectHead, subject_head
from mobilesam.networks.checkpoints import load_tensors
from mobilesam.networks.subject_head import INPUTS
from mobilesam.networks.subject_head import SubjectHead as Network
from mobilesam.weights import entry_of, read_detector
from tests.photos import cat


def arrays_of(height: int, width: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(height)
    scales = {"objects_stride32": 2}
    return {
        name: torch.randn(1, n, height // scales.get(name, 1), width // scales.get(name, 1))
        for name, n in INPUTS.items()
    }


@pytest.mark.parametrize("size", [(36, 48), (48, 30), (6, 48)])
def test_the_two_agree(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network, arrays = Network(), arrays_of(*size)
    head = SubjectHead({name: tensor.numpy() for name, tensor in network.state_dict().items()})
    with torch.no_grad():
        logits, there = network(arrays)
    found, likely = head.look({name: tensor.numpy() for name, tensor in arrays.items()})
    np.testing.assert_allclose(found, logits[0, 0], atol=2e-5)
    assert likely == pytest.approx(there.sigmoid().item(), abs=1e-5)


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    network, arrays = Network(), arrays_of(36, 48)
    padded = {name: F.pad(t, (0, 0, 0, t.shape[-1] - t.shape[-2])) for name, t in arrays.items()}
    seen = torch.zeros(1, 1, 48, 48)
    seen[:, :, :36] = 1
    with torch.no_grad():
        logits, there = network(arrays)
        of_padded, there_of_padded = network(padded, seen)
    torch.testing.assert_close(of_padded[:, :, :36], logits, atol=2e-5, rtol=0)
    torch.testing.assert_close(there_of_padded, there, atol=1e-5, rtol=0)


def test_what_is_shipped_is_read_by_the_network(pocket: Model) -> None:
    network = load_tensors(Network(), read_detector(entry_of(SUBJECT_HEAD)), SUBJECT_HEAD)
    arrays = pocket.embed(cat()).arrays
    found, likely = subject_head().look(arrays)
    with torch.no_grad():
        logits, there = network({name: torch.from_numpy(arrays[name]) for name in INPUTS})
    np.testing.assert_allclose(found, logits[0, 0], atol=1e-4)
    assert likely == pytest.approx(there.sigmoid().item(), abs=1e-4)
