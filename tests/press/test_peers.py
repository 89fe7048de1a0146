"""Boosted around a network of another library: the DRAEM of anomalib, not a line of it changed.

It has two sub-networks in one `forward`, ReLUs that work in place, an encoder that returns six
features, a pooling layer that runs twice, and two kinds of output.
"""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmabs_lite.attention import SpatioChannelAttention
from fmabs_lite.detector import Detector, Prepared
from fmabs_lite.mimicry import Boosted
from fmabs_lite.models.autoencoder import damaged

pytest.importorskip("anomalib", reason='anomalib is not installed: pip install -e ".[peers]"')
from anomalib.models.image.draem.torch_model import DraemModel  # noqa: E402

RECONSTRUCTIVE = "reconstructive_subnetwork.encoder.block5"
ENCODER = "discriminative_subnetwork.encoder_segment"
DISCRIMINATIVE = f"{ENCODER}.block6"
CHANNELS = {RECONSTRUCTIVE: 1024, DISCRIMINATIVE: 512}


class Draem(Detector):
    """Repair a painted square and say where it was: all that Boosted asks of a stranger."""

    def __init__(self, network: DraemModel):
        super().__init__()
        self.network = network

    def prepare(self, batch: Tensor) -> Prepared:
        return Prepared(damaged(batch, 0.4) if self.training else batch, batch)

    def loss(self, prepared: Prepared) -> Tensor:
        repaired, logits = self.network(prepared.input)
        return draem_loss(repaired, logits, prepared)

    def score(self, prepared: Prepared) -> dict[str, Tensor]:
        found = self.network(prepared.input)
        return {"S_o": found.pred_score, "map_o": found.anomaly_map}


def draem_loss(repaired: Tensor, logits: Tensor, prepared: Prepared) -> Tensor:
    painted = (prepared.input != prepared.target).any(dim=1).long()
    return F.mse_loss(repaired, prepared.target) + F.cross_entropy(logits, painted)


@pytest.fixture(scope="module")
def networks() -> list[DraemModel]:
    """A student and a teacher, 97 million parameters each: made once, never trained.

    Their batch normalisation knows its statistics. Left as it is built, it makes the features so
    small in eval mode that no two images differ.
    """
    torch.manual_seed(0)
    pair = [DraemModel().train(), DraemModel().train()]
    norms = [m for network in pair for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        for momentum in (1.0, norms[0].momentum):
            for norm in norms:
                norm.momentum = momentum
            for network in pair:
                network(torch.rand(4, 3, 32, 32))
    return pair


@pytest.fixture
def student(networks) -> DraemModel:
    return copy.deepcopy(networks[0])


@pytest.fixture
def teacher(networks) -> DraemModel:
    return networks[1]


@pytest.fixture
def batch() -> Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def attention(at: str) -> SpatioChannelAttention:
    torch.manual_seed(1)
    return SpatioChannelAttention(CHANNELS[at])


def by_hand(student: DraemModel, teacher: DraemModel, at: str, attend, prepared: Prepared):
    """L_o with Fea_S ⊙ M in the student, and L_fea, with the sub-networks called one by one."""

    def until(network: DraemModel, x: Tensor) -> tuple[Tensor, Tensor]:
        fea = network.reconstructive_subnetwork.encoder(x)
        if at == RECONSTRUCTIVE:
            return fea, fea
        both = torch.cat([x, network.reconstructive_subnetwork.decoder(fea)], dim=1)
        return fea, network.discriminative_subnetwork.encoder_segment(both)[-1]

    x = prepared.input
    with torch.no_grad():
        fea_t = until(copy.deepcopy(teacher).eval(), x)[1]
    reconstructive, discriminative = student.children()
    fea_s = fea_r = reconstructive.encoder(x)
    if at == RECONSTRUCTIVE:
        fea_r = fea_s * attend((fea_t - fea_s).abs())
    repaired = reconstructive.decoder(fea_r)
    six = list(discriminative.encoder_segment(torch.cat([x, repaired], dim=1)))
    if at == DISCRIMINATIVE:
        fea_s = six[-1]
        six[-1] = fea_s * attend((fea_t - fea_s).abs())
    logits = discriminative.decoder_segment(*six)
    return draem_loss(repaired, logits, prepared) + (fea_t - fea_s).square().mean()


@pytest.mark.parametrize("at", CHANNELS)
def test_loss_and_gradients_are_those_written_out_by_hand(student, teacher, batch, at):
    attend = attention(at)
    plain, alike = copy.deepcopy(student).train(), copy.deepcopy(attend)
    system = Boosted(Draem(student), teacher, at=at, attention=attend).train()
    prepared = system.prepare(batch)
    loss, expected = system.loss(prepared), by_hand(plain, teacher, at, alike, prepared)
    assert loss.isfinite() and loss.item() == pytest.approx(expected.item(), rel=1e-5)

    loss.backward()
    expected.backward()
    for ours, theirs in [(attend, alike), (student, plain)]:
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert p.grad is not None, name
            assert torch.allclose(p.grad, q.grad, rtol=1e-3, atol=1e-6), name
    assert all(p.grad.abs().max() > 0 for p in attend.parameters())
    assert all(p.grad is None for p in [*system.teacher.parameters(), *teacher.parameters()])


@pytest.mark.parametrize("at", CHANNELS)
def test_every_image_has_its_own_scores(student, teacher, batch, at):
    system = Boosted(Draem(student), teacher, at=at, attention=attention(at)).eval()
    with torch.no_grad():
        scores = system.score(system.prepare(batch))
        alone = system.score(system.prepare(batch[1:2]))
    assert scores["S_fea"].shape == scores["S_o"].shape == (3,)
    assert scores["S_fea"].std() > 0.01 * scores["S_fea"].mean() > 0
    for name, values in alone.items():
        assert torch.allclose(values, scores[name][1:2], rtol=1e-3, atol=1e-3), name


def test_unboosting_gives_back_the_network_as_it_was(student, teacher, batch):
    before, names = student.eval()(batch), list(student.state_dict())
    at = RECONSTRUCTIVE
    system = Boosted(Draem(student), teacher, at=at, attention=attention(at)).eval()
    refined = system.network(batch)
    after = system.unboost()(batch)
    assert not torch.equal(refined.anomaly_map, before.anomaly_map)
    assert torch.equal(after.anomaly_map, before.anomaly_map)
    assert torch.equal(after.pred_score, before.pred_score)
    assert type(student) is DraemModel and list(student.state_dict()) == names


def test_a_twin_of_its_teacher_differs_nowhere_and_answers_as_before(student, batch):
    plain, at = Draem(copy.deepcopy(student)).eval(), [ENCODER, *CHANNELS]
    system = Boosted(Draem(student), copy.deepcopy(student), at=at).eval()
    parts, expected = system.score(system.prepare(batch)), plain.score(plain.prepare(batch))
    assert parts["S_fea"].tolist() == [0, 0, 0]
    assert all(torch.equal(parts[name], value) for name, value in expected.items())


def test_of_an_encoder_that_returns_six_features_the_shallowest_is_meant(student, teacher, batch):
    """So the deepest one is tapped where it is made, at `block6`."""
    system = Boosted(Draem(student), teacher, at=ENCODER).eval()
    found = system.score(system.prepare(batch))["map_fea"]
    shallow = []
    for network in (system.unboost(), copy.deepcopy(teacher).eval()):
        both = torch.cat([batch, network.reconstructive_subnetwork(batch)], dim=1)
        shallow.append(network.discriminative_subnetwork.encoder_segment.block1(both))
    expected = (shallow[0] - shallow[1]).square().mean(dim=1)
    assert found.shape == (3, 32, 32) and torch.allclose(found, expected, rtol=1e-4)
