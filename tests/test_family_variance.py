"""The variance of the ILS family against ReinMax's, at the same number of evaluations, on `random_problems`.

The set was written before anything was run on it. Sets 0, 1 and 2 were run first; they showed that ILSCV with one
coefficient for all categories (.75 in the median at 100 rows, .70 with infinitely many, at worst 5.6) does not hold
what it promises, and it was changed. The bounds here are those asked of the family before, tested on set 3, which
played no part. `python experiments/variance_table.py --seeds "[3,4,5]"` prints the ratios.

Two limits. With few rows ILSCV knows too little to pay: at 8 rows alike it keeps nine tenths of the variance and may
add two thousandths; from 32 on it added nothing on sets 3 to 5. Where rows differ it may add 5 per cent at 32 rows and
.6 at 100. And no bound on the ratio holds for all problems, because ReinMax's variance can vanish by coincidence, as
the last test shows. One problem of set 2 comes close (two categories, variance a thousandth of the squared gradient):
base .5 has 8.5 times ReinMax's there, still less than a hundredth of the squared gradient, and base 0 has .57.
"""

import functools

import pytest
import torch
from random_problems import newton_step
from torch import Tensor
from variance_table import MAKE, ratios

from ils_lightning.estimators import ReinMax

SET = 3


@functools.cache
def alike(name: str) -> Tensor:
    return ratios(MAKE[name], SET, count=12)


@functools.cache
def differing(name: str) -> Tensor:
    return ratios(MAKE[name], SET, alike=False, count=24)


def test_control_variate_never_adds_variance():
    ratio = alike("ILSCV")
    assert ratio.median() <= 0.4
    assert ratio.max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("ILSNewton(base=0)", 0.15),
        ("ILSNewton", 0.25),
        pytest.param("ILSDiagonal", 0.3, marks=pytest.mark.long),
        pytest.param("ILSIsotropic", 0.4, marks=pytest.mark.long),
    ],
)
def test_learnt_curvature_removes_most_of_the_variance(name, most):
    assert alike(name).median() <= most


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "most"),
    [("ILSCV", 0.85), ("ILSNewton(base=0)", 0.25), ("ILSNewton", 0.35), ("ILSDiagonal", 0.4), ("ILSIsotropic", 0.45)],
)
def test_less_is_won_where_rows_differ(name, most):
    assert alike(name).median() < differing(name).median() <= most


@pytest.mark.long
@pytest.mark.parametrize(("rows", "most", "worst"), [(8, 1.0, 1.05), (32, 0.6, 1.01), (256, 0.2, 0.9)])
def test_control_variate_wins_more_with_more_rows(rows, most, worst):
    ratio = ratios(MAKE["ILSCV"], SET, rows=rows, count=max(24, 4000 // rows))
    assert ratio.median() <= most
    assert ratio.max() <= worst


def test_no_bound_holds_where_the_noise_of_reinmax_vanishes():
    pi = torch.tensor([0.8, 0.2], dtype=torch.float64).expand(2, 1, 2)
    z = torch.eye(2, dtype=torch.float64).unsqueeze(1)
    slope = torch.tensor([1.0, 0.25], dtype=torch.float64).reshape(2, 1, 1)  # p_2 G_1 = p_1 G_2, G = g_1 - g_2
    g = slope * torch.tensor([1.0, 0.0], dtype=torch.float64)
    reinmax = ReinMax().pullback(pi.log(), pi, z, g)
    torch.testing.assert_close(reinmax[0], reinmax[1])
    H = torch.diag(torch.tensor([0.75, 0.0], dtype=torch.float64)).unsqueeze(0)  # f's own curvature, G_1 - G_2
    at = {s: newton_step(pi, z, g, H, s) for s in (0.0, 0.5)}
    torch.testing.assert_close(at[0.0], reinmax)
    assert (at[0.5][0] - at[0.5][1]).abs().max() > 0.01
