"""Quantizer: shapes, codes, levels, masks, restarts, and an autoencoder written for another package's interface."""

import pytest
import torch
from torch import nn

from ils_lightning.estimators import (
    DecoupledStraightThroughGumbelSoftmax,
    ILSDiagonal,
    LeaveOneOut,
    ReinMax,
    SparseMixer,
    TopKSubset,
)
from ils_lightning.layers import Quantizer


@pytest.mark.parametrize(("heads", "levels", "extra"), [(1, 1, ()), (2, 1, (2,)), (1, 3, (3,)), (2, 3, (3, 2))])
@pytest.mark.parametrize("training", [True, False])
def test_shapes_and_codes(heads, levels, extra, training):
    torch.manual_seed(0)
    quantizer = Quantizer(8, 16, heads=heads, levels=levels, codebook_dim=3).train(training)
    x = torch.randn(2, 5, 8)
    quantized, indices, loss = quantizer(x)
    assert quantized.shape == x.shape
    assert indices.shape == (2, 5, *extra)
    assert indices.dtype == torch.int64
    assert loss.shape == ()
    torch.testing.assert_close(quantizer.indices_to_codes(indices), quantized)


def test_images_with_channels_first():
    quantizer = Quantizer(8, 16, channels_first=True)
    quantized, indices, _ = quantizer(torch.randn(2, 8, 4, 5))
    assert quantized.shape == (2, 8, 4, 5)
    assert indices.shape == (2, 4, 5)
    torch.testing.assert_close(quantizer.indices_to_codes(indices), quantized)


def test_evaluation_takes_the_nearest_code():
    quantizer = Quantizer(8, 16).eval()
    x = torch.randn(50, 8)
    expected = torch.cdist(x, quantizer.codebooks[0].codes[0]).argmin(dim=-1)
    assert torch.equal(quantizer(x)[1], expected)


def test_loss_is_the_divergence_from_the_even_distribution():
    quantizer = Quantizer(8, 16, heads=2, kl_weight=0.5)
    x = torch.randn(10, 8)
    logits = quantizer.codebooks[0].logits(x.unflatten(-1, (2, 4)))
    even = torch.full_like(logits, 1 / 16)
    p = torch.distributions.Categorical(logits=logits)
    expected = 0.5 * torch.distributions.kl_divergence(p, torch.distributions.Categorical(even)).sum(-1).mean()
    torch.testing.assert_close(quantizer(x)[2], expected)


def test_later_levels_send_gradient_through_earlier_draws():
    torch.manual_seed(0)
    quantizer = Quantizer(4, 8, "StraightThrough", levels=2, kl_weight=0)
    found = []
    for cut in (False, True):
        torch.manual_seed(1)
        x = torch.randn(20, 4, requires_grad=True)
        if cut:
            rest = x
            total = torch.zeros_like(x)
            for codebook, estimator in zip(quantizer.codebooks, quantizer.estimators, strict=True):
                q = codebook.mixed(estimator.sample(codebook.logits(rest.unsqueeze(1)))).squeeze(1)
                rest, total = rest - q.detach(), total + q
        else:
            total = quantizer(x)[0]
        (total - 1).square().sum().backward()
        found.append(x.grad)
    assert not torch.allclose(found[0], found[1])


def test_masked_vectors_count_nowhere():
    torch.manual_seed(0)
    quantizer, x = Quantizer(4, 8, ILSDiagonal()), torch.randn(6, 5, 4, requires_grad=True)
    mask = torch.rand(6, 5) > 0.5
    quantized, indices, loss = quantizer(x, mask)
    assert (indices[~mask] == -1).all()
    (quantized.square().sum() + loss).backward()
    assert (x.grad[~mask] == 0).all()
    torch.testing.assert_close(loss, quantizer.eval()(x[mask])[2])


def test_dead_codes_are_restarted_at_vectors_of_the_batch():
    torch.manual_seed(0)
    quantizer = Quantizer(4, 32, restart_below=0.1)
    with torch.no_grad():
        quantizer.codebooks[0].codes[:, 8:] += 100
    for _ in range(400):
        quantizer(torch.randn(256, 4))
    assert quantizer.usage()["code_usage"] > 0.9
    assert quantizer.codebooks[0].codes.abs().max() < 10


@pytest.mark.parametrize("passes", [1, 2])
def test_codes_may_restart_between_forward_and_backward(passes):
    """The gradient is that of the codes that were used, also where a second pass moves some before backward."""
    found = []
    for restart_below in (0.0, 0.9):
        torch.manual_seed(0)
        quantizer, x = Quantizer(4, 8, "StraightThrough", restart_below=restart_below), torch.randn(60, 4)
        x.requires_grad_()
        for _ in range(20 * bool(restart_below)):  # until some codes are dead
            quantizer.codebooks[0].use.mul_(0.8)
        before = quantizer.codebooks[0].codes.detach().clone()
        torch.manual_seed(1)
        losses = [quantizer(part)[0].square().sum() for part in x.chunk(passes)[:1]]
        quantizer(x) if passes > 1 else None
        moved = not torch.equal(before, quantizer.codebooks[0].codes)
        assert moved == bool(restart_below)
        torch.stack(losses).sum().backward()
        found.append(x.grad)
    torch.testing.assert_close(found[0], found[1])


def test_masked_indices_become_zero_and_others_that_are_no_codes_are_refused():
    quantizer = Quantizer(8, 16, heads=2, levels=3, codebook_dim=3)
    x, mask = torch.randn(2, 5, 8), torch.rand(2, 5) > 0.5
    quantized, indices, _ = quantizer(x, mask)
    torch.testing.assert_close(quantizer.indices_to_codes(indices), quantized)
    with pytest.raises(ValueError, match="0 to 15, or -1"):
        quantizer.indices_to_codes(indices.clamp(min=0) + 16)
    with pytest.raises(ValueError, match=r"3 levels, 2 heads\], as forward returns them; given \[2, 5\]"):
        quantizer.indices_to_codes(indices[..., 0, 0])


@pytest.mark.parametrize("training", [True, False])
def test_a_batch_without_vectors(training):
    quantizer = Quantizer(8, 16, "ILSNewton", levels=2, restart_below=0.5).train(training)
    before = quantizer.codebooks[0].use.clone()
    x = torch.randn(2, 5, 8, requires_grad=True)
    for vectors, mask in ((x, torch.zeros(2, 5)), (x[:0], None)):
        quantized, indices, loss = quantizer(vectors, mask)
        assert quantized.shape == vectors.shape
        assert indices.shape == (*vectors.shape[:-1], 2)
        assert (quantized == 0).all()
        assert (indices == -1).all()
        (quantized.sum() + loss).backward()
    assert (x.grad == 0).all()
    assert loss == 0
    torch.testing.assert_close(quantizer.codebooks[0].use.sum(), before.sum())
    assert torch.isfinite(quantizer.usage()["perplexity"])


@pytest.mark.parametrize("estimator", ["ReinMax", "StraightThrough", "StraightThroughGumbelSoftmax", "ILSCV"])
def test_an_autoencoder_for_the_usual_interface_trains(estimator):
    """Encoder and decoder of a script for `quantized, indices, loss = vq(x)`, on points near eight centres."""
    torch.manual_seed(0)
    centres = torch.randn(8, 6)
    encoder, vq, decoder = nn.Linear(6, 4), Quantizer(4, 8, estimator, kl_weight=1e-3), nn.Linear(4, 6)
    model = nn.ModuleList([encoder, vq, decoder])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    errors = []
    for _ in range(400):
        x = centres[torch.randint(8, (128,))] + 0.05 * torch.randn(128, 6)
        quantized, _, loss = vq(encoder(x))
        error = (decoder(quantized) - x).square().mean()
        optimizer.zero_grad(), (error + loss).backward(), optimizer.step()
        errors.append(error.item())
    assert sum(errors[-20:]) < 0.3 * sum(errors[:20])


def test_memory_is_linear_in_what_is_used():
    quantizer = Quantizer(16, 65_536, "StraightThrough")
    quantized, indices, loss = quantizer(torch.randn(64, 16, requires_grad=True))
    (quantized.sum() + loss).backward()
    assert indices.max() < 65_536
    held = sum(x.numel() for x in [*quantizer.parameters(), *quantizer.buffers()])
    assert held < 65_536 * (16 + 2)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (
            {"dim": 7, "codebook_size": 4, "heads": 2},
            "heads must divide dim unless .* given 2 and 7$",
        ),
        ({"dim": 8, "codebook_size": 0}, "^Quantizer: codebook_size must be at least 1; given 0$"),
        ({"dim": 8, "codebook_size": 4, "restart_below": 1.0}, "restart_below"),
        ({"dim": 8, "codebook_size": 4, "unimix": -0.1}, r"\[0, 1\)"),
    ],
)
def test_refusals(arguments, rule):
    with pytest.raises(ValueError, match=rule):
        Quantizer(**arguments)


def test_refuses_other_widths_masks_and_estimators():
    with pytest.raises(ValueError, match="dim = 8"):
        Quantizer(8, 4)(torch.zeros(2, 7))
    with pytest.raises(ValueError, match=r"floating-point x .* given int64 \[2, 8\]"):
        Quantizer(8, 4)(torch.zeros(2, 8, dtype=torch.int64))
    with pytest.raises(ValueError, match="mask says"):
        Quantizer(8, 4)(torch.zeros(2, 8), torch.ones(3))
    for made in (TopKSubset(2), SparseMixer(), DecoupledStraightThroughGumbelSoftmax(forward_temperature=2.0)):
        with pytest.raises(ValueError, match="Quantizer takes draws of one category"):
            Quantizer(8, 4, made)
    with pytest.raises(ValueError, match="LeaveOneOut"):
        Quantizer(8, 4, LeaveOneOut())
    assert isinstance(Quantizer(8, 4, ReinMax(1.3)).estimators[0], ReinMax)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_indices_of_any_integer_type_are_read(dtype):
    quantizer = Quantizer(4, 5).eval()
    quantized, indices, _ = quantizer(torch.randn(3, 6, 4))
    torch.testing.assert_close(quantizer.indices_to_codes(indices.to(dtype)), quantized)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_refuses_indices_that_are_no_integers(dtype):
    with pytest.raises(ValueError, match="indices are integers"):
        Quantizer(4, 5).indices_to_codes(torch.zeros(3, dtype=dtype))


def test_exported_it_finds_the_same_codes():
    quantizer, x = Quantizer(4, 5).eval(), torch.randn(3, 6, 4)
    exported = torch.export.export(quantizer, (x,)).module()
    for found, expected in zip(exported(x), quantizer(x), strict=True):
        torch.testing.assert_close(found, expected)
