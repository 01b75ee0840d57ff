"""The metrics of gradient estimates: no bias from the noise of few replicates, and sums that merge."""

import pytest
import torch

from ils_lightning.metrics import GradientCosine, RelativeBias, RelativeVariance, SignalToNoise

KINDS = (RelativeBias, RelativeVariance, GradientCosine, SignalToNoise)


def noisy(replicates: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimates with relative bias .5, relative variance 1 and cosine 1 / sqrt(1.25)."""
    G = torch.zeros(rows, 2, 5)
    G[..., 0] = 1 / 2**0.5
    bias = torch.zeros(rows, 2, 5)
    bias[..., 1] = 0.5 / 2**0.5
    return G + bias + torch.randn(replicates, rows, 2, 5) / 10**0.5, G


@pytest.mark.parametrize("replicates", [2, 50])
def test_the_noise_of_few_replicates_is_taken_off(replicates):
    metrics = [kind() for kind in KINDS]
    for _ in range(100):
        for metric in metrics:
            metric.update(*noisy(replicates, 1000 // replicates))
    bias, variance, cosine, snr = (metric.compute().item() for metric in metrics)
    assert bias == pytest.approx(0.5, abs=0.02)
    assert variance == pytest.approx(1.0, abs=0.02)
    assert cosine == pytest.approx(1.25**-0.5, abs=0.01)
    assert snr == pytest.approx(1.25**0.5, abs=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_merge_by_adding_their_sums(kind):
    first, second = noisy(4, 3), noisy(4, 5)
    ranks, whole = [kind(), kind()], kind()
    for metric, data in zip(ranks, (first, second), strict=True):
        metric.update(*data)
    for name, reduce in whole._reductions.items():
        setattr(whole, name, reduce(torch.stack([getattr(metric, name) for metric in ranks])))
    whole._update_count = 1
    alone = kind()
    alone.update(torch.cat([first[0], second[0]], dim=1), torch.cat([first[1], second[1]]))
    torch.testing.assert_close(whole.compute(), alone.compute())


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"at least 2 of them.* given \[1, 3, 2, 5\]"):
        RelativeBias().update(*noisy(1, 3))
    with pytest.raises(ValueError, match=r"given \[4, 3, 2, 5\] and \[2, 2, 5\]"):
        RelativeBias().update(noisy(4, 3)[0], torch.zeros(2, 2, 5))
