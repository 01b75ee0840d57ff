"""OrdinalEncoder: the law of its levels, what it learns from, a VAE of ordered levels."""

import pytest
import torch
from lightning import Trainer, seed_everything

from ils_lightning.data import Digits
from ils_lightning.describe import create, describe
from ils_lightning.errors import Refusal
from ils_lightning.estimators import ReinMax
from ils_lightning.modules import DiscreteVAE
from ils_lightning.networks import MLP, Network, OrdinalEncoder
from ils_lightning.variables import Ordinal


def built(**options):
    torch.manual_seed(0)
    encoder = OrdinalEncoder(MLP([6]), **options)
    encoder.build((1, 3, 3), (2, 4))
    return encoder


def test_levels_follow_the_proportional_odds_of_the_networks_answer():
    encoder, x = built(spacing=1.5), torch.randn(7, 1, 3, 3)
    theta = encoder.layers[0](x)
    assert theta.shape == (7, 2)
    above = encoder(x).softmax(dim=-1).flip(-1).cumsum(dim=-1).flip(-1)[..., 1:]
    torch.testing.assert_close(above, torch.sigmoid(theta.unsqueeze(-1) - Ordinal(4, 1.5).cuts))


def test_leading_axes_fold_and_the_gradient_arrives():
    encoder = built()
    answer = encoder(torch.randn(2, 3, 1, 3, 3))
    assert answer.shape == (2, 3, 2, 4)
    answer[..., 0].sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())


def test_it_is_described_and_made_again():
    again = create(describe(built(spacing=2.0)), Network)
    assert (again.spacing, again.network.hidden) == (2.0, [6])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: OrdinalEncoder(spacing=0.0), "spacing must be greater than 0"),
        (lambda: OrdinalEncoder().build((4,), (3,)), r"an answer must be \[latents, levels\]; given \[3\]"),
        (lambda: OrdinalEncoder().build((4,), (3, 1)), "levels must be at least 2"),
        (lambda: built().set_output_bias(torch.zeros(2, 4)), "is no decoder"),
    ],
)
def test_bad_input_is_refused(make, words):
    with pytest.raises(Refusal, match=words):
        make()


def test_a_vae_of_ordered_levels_learns(tmp_path):
    seed_everything(0, verbose=False)
    networks = {"encoder": OrdinalEncoder(MLP([16]), spacing=3.0), "decoder": MLP([16])}
    model = DiscreteVAE(ReinMax(), 4, 3, **networks, optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_epochs=8, accelerator="cpu", default_root_dir=tmp_path, enable_model_summary=False, **quiet)
    trainer.fit(model, datamodule=Digits())
    _, values = model.curve()
    assert values[-1] < values[0] - 1
