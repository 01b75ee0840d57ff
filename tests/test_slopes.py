"""Which of df/dz an estimate uses: a claim that is tested in both directions, and the routers built on it."""

import pytest
import torch
from examples import EXAMPLES, Example

from ils_lightning.estimators import Sampler, SparseMixer, SparseMixerV2, SparseMixerV2Star

SAMPLERS = [e for e in EXAMPLES if isinstance(e.make(), Sampler) and e.name not in ("Grouped", "Average")]


@pytest.mark.parametrize("example", SAMPLERS, ids=str)
def test_slopes_at_other_categories_matter_if_it_says_all(example: Example):
    estimator = example.make()
    logits = torch.randn(64, 2, 2 if estimator.binary else 4, requires_grad=True)
    found = []
    for other in (0.0, 1.0):
        torch.manual_seed(0)
        z = estimator.sample(logits)
        g = torch.where(z.detach() > 0, torch.linspace(1, 2, 64)[:, None, None], other)
        found.append(torch.autograd.grad(z, logits, g)[0])
    same = torch.allclose(found[0], found[1], rtol=1e-5, atol=1e-7)
    soft = bool((z.detach() > 0).all())  # every category of a relaxed draw is drawn
    assert soft or same == (estimator.needs_slopes == "drawn")


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_none_are_used_where_f_need_not_be_differentiable(example: Example):
    assert (example.make().needs_slopes == "none") == (not example.make().needs_gradient)


def released(theta: torch.Tensor, z: torch.Tensor, B: torch.Tensor, shorter: float, factor: float) -> tuple:
    """The routing weight of the drawn expert and its slope in theta, row by row, as the papers' algorithms write it."""
    weights, slopes = [], []
    for row, drawn, first in zip(theta, z, B, strict=True):
        p = row.exp() / row.exp().sum()
        k = int(drawn.argmax())
        a = 1.0 if k == int(p.argmax()) or bool(first) else shorter
        weights.append(a * p[k])
        slopes.append(torch.stack([factor * p[k] * (float(j == k) - p[j]) for j in range(len(p))]))
    return torch.stack(weights), torch.stack(slopes)


@pytest.mark.parametrize(
    ("make", "chance", "shorter", "factor"),
    [(SparseMixer, 0.5, 0.5, 2), (SparseMixerV2, 0.25, 1 / 3, 1), (SparseMixerV2Star, 0.625, 1 / 3, 2)],
)
def test_sparse_mixer_follows_the_published_algorithm(make, chance, shorter, factor, monkeypatch):
    theta = torch.randn(200, 1, 4, dtype=torch.float64, requires_grad=True)
    B = torch.rand(200, 1, 1) < chance
    uniforms = torch.where(B, 0.0, 0.999)
    torch.manual_seed(0)
    z = torch.nn.functional.one_hot(torch.randint(4, (200, 1)), 4).double()
    monkeypatch.setattr("ils_lightning.estimators.sparse_mixer.draw", lambda p: z)
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: uniforms)
    found = make().sample(theta)
    weights, slopes = released(theta.detach()[:, 0], z[:, 0], B[:, 0, 0], shorter, factor)
    torch.testing.assert_close(found.detach().sum(-1)[:, 0], weights)
    (grad,) = torch.autograd.grad((found * z).sum(), theta)
    torch.testing.assert_close(grad[:, 0], slopes)


def test_jitter_masks_what_noise_would_never_put_on_top():
    theta = torch.tensor([[[2.0, 1.7, 1.0, -3.0]]])
    masked = SparseMixer(jitter=0.1).masked(theta)
    assert torch.equal(masked == float("-inf"), torch.tensor([[[False, False, True, True]]]))


@pytest.mark.parametrize("name", ["redge", "redge_cov"])
def test_redge_is_the_released_program(name, monkeypatch):
    program = pytest.importorskip("redge", reason="the released program is an optional part")
    from ils_lightning.estimators import Redge, RedgeCov

    theta, weight = torch.randn(500, 1, 5, requires_grad=True), torch.randn(500, 1, 5)
    noise = torch.randn(500, 1, 5)
    for name_of in ("torch.randn", f"ils_lightning.estimators.{name}.gaussian"):
        monkeypatch.setattr(name_of, lambda *shape, **options: noise)
    torch.manual_seed(1)
    (expected,) = torch.autograd.grad((getattr(program, name)(theta, n_steps=4, t_1=0.7) * weight).sum(), theta)
    torch.manual_seed(1)
    made = {"redge": Redge, "redge_cov": RedgeCov}[name](steps=4, first_time=0.7)
    (found,) = torch.autograd.grad((made.sample(theta) * weight).sum(), theta)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
