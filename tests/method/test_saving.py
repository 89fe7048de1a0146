"""A system judges like the functions it is made of; one file holds it; export gives it away."""

import numpy as np
import pytest
import torch

from fmabs_lite.attention import SpatioChannelAttention
from fmabs_lite.mimicry import Boosted
from fmabs_lite.models import AutoEncoder, Reconstruction
from fmabs_lite.saving import System
from fmabs_lite.scoring import enlarge, peak, smooth
from fmabs_lite.training import collect

IMAGES = torch.randint(0, 256, (12, 3, 16, 24), generator=torch.Generator().manual_seed(0)).byte()
TRAIN, TEST = IMAGES[:8], IMAGES[8:]


def plain(seed: int = 0) -> Reconstruction:
    torch.manual_seed(seed)
    return Reconstruction(AutoEncoder(width=4, code=8), damage=0.3)


def boosted(lam: float | None = 0.3) -> Boosted:
    return Boosted(plain(1), plain(0).network, "bottleneck", SpatioChannelAttention(8, 2),
                   score_weight=lam)  # fmt: skip


@pytest.mark.parametrize("sigma", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("lam", [0.3, None])
def test_a_boosted_is_judged_as_by_collect_total_smooth_and_peak(lam, sigma):
    student = boosted(lam)
    seen, known = collect(student, TEST), collect(student, TRAIN)
    maps = smooth(student.total(seen, known)["map_total"], sigma)
    scores, found = System.of(student, TRAIN, sigma=sigma).judge(TEST, batch_size=3)
    np.testing.assert_allclose(found, maps, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores, peak(maps), rtol=1e-4, atol=1e-5)


def test_a_plain_detector_is_judged_by_its_own_map():
    own = collect(plain(), TEST)["map_o"]
    scores, found = System(plain(), (16, 24)).judge(TEST)
    np.testing.assert_allclose(found, own, rtol=1e-5)
    np.testing.assert_allclose(scores, peak(own), rtol=1e-5)


class Scores(Reconstruction):
    """Has a score and no map, or a map of half the size."""

    def __init__(self, half: bool):
        super().__init__(plain().network)
        self.half = half

    def score(self, prepared):
        parts = super().score(prepared)
        if self.half:
            return parts | {"map_o": parts["map_o"][:, ::2, ::2]}
        return {"S_o": parts["S_o"]}


def test_a_detector_without_a_map_is_judged_by_its_score():
    scores, found = System(Scores(half=False), (16, 24)).judge(TEST)
    assert found is None
    np.testing.assert_allclose(scores, collect(plain(), TEST)["S_o"], rtol=1e-5)


def test_a_small_map_is_enlarged_to_the_systems_size():
    detector = Scores(half=True)
    found = System(detector, (16, 24)).judge(TEST)[1]
    expected = enlarge(collect(detector, TEST)["map_o"], (16, 24))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_pictures_of_another_size_floats_and_missing_statistics_are_refused():
    with pytest.raises(ValueError, match="are 16×16; this system takes 16×24. Resize"):
        System(plain(), (16, 24)).judge(TEST[..., :16])
    with pytest.raises(TypeError, match="are torch.float32; give a tensor of uint8"):
        System(plain(), (16, 24)).judge(TEST / 255)
    with pytest.raises(ValueError, match=r"λ is 0\.3, and map_fea is not .*System\.of"):
        System(boosted(), (16, 24)).judge(TEST)
