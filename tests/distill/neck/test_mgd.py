import pytest
import torch
from torch import Tensor, nn

from edgekd.distill.neck.mgd import MGD, mgd_loss
from edgekd.errors import InputError

from ..helpers import build, moment, random_output, spec, terms
from ..independent import of_mmrazor


def test_value_by_hand() -> None:
    """Two images: 1 + 4 and 9 + 16, summed over channels and positions, halved."""
    generated = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(2, 1, 1, 2)
    assert mgd_loss(generated, torch.zeros(2, 1, 1, 2)).item() == pytest.approx(30 / 2)


def test_zero_at_identity_and_the_same_for_a_batch_twice_as_large() -> None:
    generated, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert mgd_loss(generated, generated).item() == 0.0
    twice = mgd_loss(generated.repeat(2, 1, 1, 1), teacher.repeat(2, 1, 1, 1))
    assert twice.item() == pytest.approx(mgd_loss(generated, teacher).item(), rel=1e-5)


def seen(mask: str, ratio: float) -> Tensor:
    """What reaches the generator of a student map of ones, 16 channels of 50 x 50 cells."""
    side = spec("a", (16,), (8,))
    method = build("mgd", side, side, mask=mask, ratio=ratio)
    assert isinstance(method, MGD)
    caught: list[Tensor] = []
    method.generators[0].register_forward_pre_hook(lambda _module, inputs: caught.append(inputs[0]))
    student, teacher = random_output(side, size_px=400), random_output(side, size_px=400, seed=1)
    student.taps["neck.8"].data.fill_(1.0)
    terms(method, student, teacher)
    return caught[0].detach()


def test_positions_are_hidden_in_all_channels_at_once() -> None:
    masked = seen("spatial", 0.65)
    assert set(masked.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(masked, masked[:, :1].expand_as(masked))
    assert masked.mean().item() == pytest.approx(0.35, abs=0.03)
    assert not torch.equal(masked[0], masked[1]), "drawn per image"


def test_or_whole_channels() -> None:
    masked = seen("channel", 0.5)
    assert torch.equal(masked, masked[:, :, :1, :1].expand_as(masked))
    assert 0 < masked.mean().item() < 1


def test_each_step_and_level_draws_anew_and_nothing_else_is_drawn_from() -> None:
    side = spec("a", (4, 4), (8, 8))
    method = build("mgd", side, side)
    student, teacher = random_output(side, size_px=64), random_output(side, size_px=64, seed=1)
    before = torch.get_rng_state()
    knowledge = method.knowledge(teacher, None)  # type: ignore[arg-type]
    values = [
        method.terms(student, knowledge, None, moment(seed=seed))["feature"].item()  # type: ignore[arg-type]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    assert values[0] == values[1] != values[2]


def test_magnitude_beside_a_detection_loss() -> None:
    """Unit maps of a teacher of 64, 128 and 256 channels that nothing is known of: C H W a level, times 2e-5.

    At the quickstart's 96 px that is 4 % of a detection loss of 8; at 640 px it would be 44 times as much.
    """
    side = spec("a", (64, 128, 256), (8, 16, 32))
    method = build("mgd", side, side)
    for fill in method.generators:  # type: ignore[union-attr]
        nn.init.zeros_(fill[-1].weight)
        nn.init.zeros_(fill[-1].bias)
    student, teacher = random_output(side, size_px=96), random_output(side, size_px=96, seed=1)
    expected = 64 * 144 + 128 * 36 + 256 * 9
    weighted = method.config.weight * terms(method, student, teacher)["feature"].item()
    assert weighted == pytest.approx(2e-5 * expected, rel=0.05)
    assert 0.02 < weighted / 8 < 0.06


def test_a_generator_has_the_teachers_width_or_less() -> None:
    ours, theirs = spec("a", (4,), (8,)), spec("b", (16,), (8,))
    for asked, width in ((None, 16), (3, 3)):
        first, _, last = build("mgd", ours, theirs, width=asked).generators[0]  # type: ignore[index, union-attr, misc]
        assert (first.in_channels, first.out_channels, last.in_channels, last.out_channels) == (16, width, width, 16)


def test_other_strides_are_refused() -> None:
    with pytest.raises(InputError, match="mgd: no level of equal stride: student small neck has strides 8; teacher"):
        build("mgd", spec("small", (4,), (8,)), spec("vit", (4,), (16,)))


@pytest.mark.parametrize("mask", ["spatial", "channel"])
def test_equals_independent_code(mask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights and the same random numbers."""
    connector = of_mmrazor("architectures/connectors/mgd_connector.py", "MGDConnector")
    loss = of_mmrazor("losses/mgd_loss.py", "MGDLoss")
    ours, theirs = spec("a", (4,), (8,)), spec("b", (6,), (8,))
    method = build("mgd", ours, theirs, mask=mask)
    other = connector(4, 6, mask_on_channel=mask == "channel")
    other.align.load_state_dict(method.levels.adapters[0].state_dict())  # type: ignore[union-attr, index]
    other.generation.load_state_dict(method.generators[0].state_dict())  # type: ignore[union-attr, index]
    student, teacher = random_output(ours), random_output(theirs, seed=1)
    draws = torch.rand((2, 1, 4, 4) if mask == "spatial" else (2, 6, 1, 1), generator=moment().generator)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "rand", lambda *_shape, **_keywords: 1 - draws)  # theirs hides what is large
        expected = loss()(other(student.taps["neck.8"]), teacher.taps["neck.8"])
    assert method.config.weight * terms(method, student, teacher)["feature"].item() == pytest.approx(
        expected.item(), rel=1e-5
    )
