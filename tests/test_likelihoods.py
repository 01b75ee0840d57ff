"""The likelihoods: they are laws, agree with torch.distributions, and stay finite at extremes."""

import math

import pytest
import torch
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Normal
from torch.nn import functional

from ils_lightning.describe import create, describe
from ils_lightning.likelihoods import Bernoulli, DiscretizedLogistic, Gaussian, Likelihood

CASES = [(Bernoulli, {}), (Gaussian, {}), (Gaussian, {"scale": 0.1}), (DiscretizedLogistic, {})]


@pytest.fixture(params=CASES, ids=str)
def likelihood(request) -> Likelihood:
    kind, options = request.param
    return kind(**options)


def output_for(likelihood: Likelihood, *leading: int, channels: int = 3, size: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*leading, channels * likelihood.parameters_per_pixel, size, size, generator=generator)


def grey(*shape: int) -> torch.Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(1)) / 255


@pytest.mark.parametrize("leading", [(), (5,), (2, 5), (2, 0)])
def test_log_prob_sums_over_pixels_and_broadcasts_x(likelihood, leading):
    output, x = output_for(likelihood, *leading), grey(*leading[-1:], 3, 4, 4)
    log_prob = likelihood.log_prob(output, x)
    assert log_prob.shape == leading
    repeated = x.expand(*leading, 3, 4, 4).clone()
    torch.testing.assert_close(log_prob, likelihood.log_prob(output, repeated))
    torch.testing.assert_close(log_prob, likelihood.pixel_log_prob(output, x).flatten(-3).sum(-1))
    assert likelihood.mean(output).shape == (*leading, 3, 4, 4)


def test_bernoulli_is_torchs_and_the_binary_cross_entropy():
    output, x = output_for(Bernoulli(), 2, 5), grey(5, 3, 4, 4)
    hard = x.round()
    expected = TorchBernoulli(logits=output).log_prob(hard).flatten(-3).sum(-1)
    torch.testing.assert_close(Bernoulli().log_prob(output, hard), expected)
    entropy = functional.binary_cross_entropy_with_logits(output, x.expand_as(output), reduction="none")
    torch.testing.assert_close(Bernoulli().log_prob(output, x), -entropy.flatten(-3).sum(-1))
    torch.testing.assert_close(Bernoulli().mean(output), torch.sigmoid(output))


@pytest.mark.parametrize("scale", [None, 0.1, 3.0])
def test_gaussian_is_torchs(scale):
    likelihood = Gaussian(scale)
    output, x = output_for(likelihood, 2, 5), grey(5, 3, 4, 4)
    expected = Normal(output, 0.5 if scale is None else scale).log_prob(x).flatten(-3).sum(-1)
    torch.testing.assert_close(likelihood.log_prob(output, x), expected)


def test_gaussian_scale_is_drawn_to_the_root_mean_square_deviation():
    likelihood = Gaussian()
    output, x = output_for(likelihood, 20), grey(20, 3, 4, 4)
    for scale in (0.5, float((x - output).square().mean().sqrt()), 3.0):
        likelihood.load_state_dict({"log_scale": torch.tensor(scale).log()})
        (gradient,) = torch.autograd.grad(likelihood.log_prob(output, x).sum(), likelihood.log_scale)
        expected = ((x - output).square() / scale**2 - 1).sum()
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-2)
    assert not list(Gaussian(scale=0.1).parameters())


def level_log_probs(levels: int, location: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
    """Log-probabilities `[levels, points]` of every level."""
    output = torch.stack([location, log_scale], dim=-1)[..., None, None]
    x = torch.arange(levels).div(levels - 1).reshape(-1, 1, 1, 1, 1)
    return DiscretizedLogistic(levels).log_prob(output, x)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_discretized_logistic_sums_to_one_over_the_levels(levels):
    location = torch.tensor([0.0, 0.5, 1.0, 0.3, -2.0, 3.0]).repeat_interleave(5)
    log_scale = torch.tensor([-7.0, -4.0, -1.0, 2.0, 7.0]).repeat(6)
    log_probs = level_log_probs(levels, location, log_scale)
    total = log_probs.double().exp().sum(dim=0)
    torch.testing.assert_close(total, torch.ones(30, dtype=torch.float64), rtol=0, atol=2e-4)


def test_discretized_logistic_is_the_difference_of_distribution_functions():
    location, log_scale = torch.tensor([0.4, 0.1]), torch.tensor([-3.0, -1.5])
    borders = (torch.arange(1, 17, dtype=torch.float64) - 0.5)[:, None] / 16
    below = torch.sigmoid((borders - location.double()) / log_scale.double().exp())
    zero, one = torch.zeros(1, 2), torch.ones(1, 2)
    expected = torch.diff(torch.cat([zero, below, one]), dim=0).log().float()
    torch.testing.assert_close(level_log_probs(17, location, log_scale), expected, rtol=1e-4, atol=1e-5)


def test_discretized_logistic_counts_x_as_the_nearest_level():
    likelihood, output = DiscretizedLogistic(levels=5), output_for(DiscretizedLogistic())
    x = torch.full((3, 4, 4), 0.5)
    torch.testing.assert_close(likelihood.log_prob(output, x + 0.12), likelihood.log_prob(output, x))
    assert (likelihood.log_prob(output, x + 0.13) - likelihood.log_prob(output, x)).abs() > 0.1


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_discretized_logistic_mean_is_the_expected_level(levels):
    location, log_scale = torch.tensor([0.0, 0.37, 1.2, 5.0]), torch.tensor([-1.0, -6.0, 0.0, 7.0])
    level = torch.arange(levels)[:, None] / (levels - 1)
    expected = (level_log_probs(levels, location, log_scale).exp() * level).sum(dim=0)
    mean = DiscretizedLogistic(levels).mean(torch.stack([location, log_scale], dim=-1)[..., None, None])
    torch.testing.assert_close(mean.flatten(), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("extreme", [-1e4, -100.0, 100.0, 1e4])
@pytest.mark.parametrize("pixel", [0.0, 128 / 255, 1.0])
def test_extremes_are_finite_with_finite_gradients(likelihood, extreme, pixel):
    outputs = [torch.full_like(output_for(likelihood, 2), extreme), output_for(likelihood, 2)]
    outputs[1][:, -1] = extreme
    for output in outputs:
        output.requires_grad_()
        log_prob = likelihood.log_prob(output, torch.full((2, 3, 4, 4), pixel))
        log_prob.sum().backward()
        assert torch.isfinite(log_prob).all()
        assert torch.isfinite(output.grad).all()


def test_output_bias_describes_the_mean(likelihood):
    pixel_mean = 0.05 + 0.9 * torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(2))
    bias = likelihood.output_bias(pixel_mean)
    assert bias.shape == (3 * likelihood.parameters_per_pixel, 4, 4)
    torch.testing.assert_close(likelihood.mean(bias), pixel_mean, rtol=0, atol=1e-4)
    assert torch.isfinite(likelihood.output_bias(pixel_mean.round())).all()


def test_bernoulli_bias_keeps_pixels_that_never_change_off_the_borders():
    bias = Bernoulli().output_bias(torch.tensor([[[0.0, 1.0]]]))
    torch.testing.assert_close(bias, torch.tensor([[[-math.log(999), math.log(999)]]]), rtol=1e-4, atol=0)


def test_half_precision_is_widened(likelihood):
    output, x = output_for(likelihood, 5), grey(5, 3, 4, 4)
    low = output.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_prob = likelihood.log_prob(low, x)
    assert log_prob.dtype == torch.float32
    torch.testing.assert_close(log_prob, likelihood.log_prob(low.float(), x))
    assert likelihood.double().log_prob(output.double(), x).dtype == torch.float64


def test_derivatives_agree_with_finite_differences(likelihood):
    likelihood = likelihood.double()
    output, x = output_for(likelihood, 2, channels=1, size=2).double().requires_grad_(), grey(2, 1, 2, 2).double()
    assert torch.autograd.gradcheck(lambda output: likelihood.log_prob(output, x), output)
    assert torch.autograd.gradgradcheck(lambda output: likelihood.log_prob(output, x), output)


def test_shapes_that_do_not_match_are_named(likelihood):
    output = output_for(likelihood, 2)
    for x in (grey(2, 1, 4, 4), grey(2, 3, 4, 1), grey(2, 3, 5, 4)):
        with pytest.raises(ValueError, match=r"needs output \[\*any, channels \* \d, height, width\]"):
            likelihood.log_prob(output, x)
    with pytest.raises(ValueError, match=r"needs output"):
        likelihood.log_prob(output, torch.zeros(4, 4))


def test_description_makes_the_same_likelihood(likelihood):
    again = create(describe(likelihood), Likelihood)
    output, x = output_for(likelihood, 2), grey(2, 3, 4, 4)
    torch.testing.assert_close(again.log_prob(output, x), likelihood.log_prob(output, x))


@pytest.mark.parametrize(
    ("kind", "options", "match"),
    [
        (Gaussian, {"scale": 0.0}, "greater than 0 and finite, or null to learn it; given 0.0"),
        (Gaussian, {"scale": math.nan}, "given nan"),
        (DiscretizedLogistic, {"levels": 1}, "at least 2; given 1"),
        (Likelihood, {}, "abstract"),
    ],
)
def test_bad_options_are_named(kind, options, match):
    with pytest.raises(ValueError, match=match):
        kind(**options)
