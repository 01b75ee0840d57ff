"""CodePrior: a causal, normalised distribution of codes, learnt from a tokeniser's checkpoint that need not stay."""

from pathlib import Path

import pytest
import torch

from ils_lightning.cli import main
from ils_lightning.cli.sample import load
from ils_lightning.data import Images
from ils_lightning.data.image_set import ImageSet
from ils_lightning.estimators.categorical import enumerate_states
from ils_lightning.modules import CodePrior
from ils_lightning.networks.causal import CausalCodes

QUIET = ("--trainer.enable_progress_bar=false", "--trainer.limit_test_batches=1")
SMALL = (
    "--model.encoder.channels=4",
    "--model.decoder.channels=4",
    "--model.categories=5",
    "--model.draws=1",
    "--model.importance_samples=1",
)


def prior(latents=4, categories=3):
    network = {"init_args": {"channels": 4}}
    settings = {"estimator": "ReinMax", "latents": latents, "categories": categories, "image_shape": [1, 8, 8]}
    settings |= {
        "encoder": {"class_path": "ConvEncoder", **network},
        "decoder": {"class_path": "ConvDecoder", **network},
    }
    return CodePrior(settings, channels=8, blocks=2)


def test_a_place_sees_those_before_it_and_no_other():
    network = CausalCodes(categories=4, height=4, width=4, channels=8, blocks=2).double()
    codes = torch.randint(4, (1, 4, 4))
    before = network(codes).flatten(1, 2)
    changed = torch.zeros(16, 16, dtype=torch.bool)  # of the logits at a place (column) by the code at a place (row)
    for place in range(16):
        other = codes.flatten(1).clone()
        other[0, place] = (other[0, place] + 1) % 4
        changed[place] = (network(other.unflatten(1, (4, 4))).flatten(1, 2) != before)[0].any(dim=-1)
    assert not changed.tril().any()
    assert all(changed[place, place + 1] for place in range(15) if place % 4 != 3)
    assert all(changed[place, place + 4] for place in range(12))
    assert changed[0].sum() == 15


def test_probabilities_of_all_codes_sum_to_one_and_samples_follow_them():
    model = prior()
    assert model.map_size == (2, 2)
    torch.nn.init.normal_(model.network.last.weight)
    states = enumerate_states(4, 3, like=torch.zeros(3)).argmax(dim=-1)
    with torch.no_grad():
        p = (-model.negative_log_prob(states)).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    assert p.max() > 3 * p.mean()
    count = 20_000
    drawn = model.sample_codes(count, torch.Generator().manual_seed(0))
    numbers = (drawn * torch.tensor([27, 9, 3, 1])).sum(dim=1)
    frequency = torch.bincount(numbers, minlength=81) / count
    z_score = (frequency - p) / (p * (1 - p) / count).sqrt()
    assert z_score[p * count > 5].abs().max() < 4.5


def test_the_elbo_with_an_even_prior_is_that_of_the_tokeniser():
    model = prior()
    torch.nn.init.zeros_(model.network.last.weight)
    torch.nn.init.zeros_(model.network.last.bias)
    x = (torch.rand(1, 1, 8, 8) > 0.5).float().expand(500, -1, -1, -1)
    model.measure(Images(x, torch.zeros(len(x), dtype=torch.long)))
    found = model.tokenizer.evaluate(x[:1], 500)
    expected = found.reconstruction.mean() + found.kl.sum()
    error = found.log_weights.std() * (2 / 500) ** 0.5
    assert model.metrics["elbo"].compute().item() == pytest.approx(expected.item(), abs=4.5 * error.item())
    assert model.metrics["loss"].compute().item() == pytest.approx(4 * torch.tensor(3.0).log().item(), abs=1e-4)


@pytest.mark.slow
def test_two_stages_by_the_command_line_and_samples_from_the_last_checkpoint_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["fit", "--config=tokenizer_digits", "--trainer.max_epochs=1", *QUIET, *SMALL])
    (tokenizer,) = Path().rglob("last.ckpt")
    main(["fit", "--config=code_prior_digits", f"--model.tokenizer={tokenizer}", "--trainer.max_epochs=4", *QUIET])
    (path,) = Path("lightning_logs/version_1").rglob("last.ckpt")
    tokenizer.unlink()
    model = load(str(path))
    steps, values = model.curve()
    assert steps.tolist() == [13, 26, 39, 52]
    assert values[-1] < values[0]
    saved = torch.load(path, weights_only=True)["state_dict"]
    assert any(name.startswith("tokenizer.decoder") for name in saved)
    main(["sample", f"--ckpt_path={path}", "--count=4", "--output=a.png", "--images=a.pt"])
    assert torch.load("a.pt").shape == (4, 1, 8, 8)
    assert "25.8 nats if even" in capsys.readouterr().out


def test_the_tokeniser_does_not_learn():
    model = prior()
    model.negative_log_prob(model.codes(torch.rand(3, 1, 8, 8))[0]).sum().backward()
    assert all(parameter.grad is None for parameter in model.tokenizer.parameters())
    assert all(parameter.grad is not None for parameter in model.parameter_groups())


def test_what_is_no_tokeniser_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"tokenizer must be a checkpoint of a DiscreteVAE.*'missing.ckpt' cannot"):
        CodePrior("missing.ckpt")
    with pytest.raises(ValueError, match="channels must be at least 1"):
        CodePrior("missing.ckpt", channels=0)
    torch.save({"hyper_parameters": {"_class_path": "ils_lightning.modules.CategoricalFit"}}, tmp_path / "toy.ckpt")
    with pytest.raises(ValueError, match=r"of a DiscreteVAE, .* writes; '.*toy.ckpt' holds a CategoricalFit$"):
        CodePrior(str(tmp_path / "toy.ckpt"))


def test_a_margin_is_blank():
    images = ImageSet(torch.full((2, 1, 3, 3), 7, dtype=torch.uint8), torch.arange(2))
    wide = images.within(2)
    assert wide.pixels.shape == (2, 1, 7, 7)
    assert torch.equal(wide.pixels[..., 2:5, 2:5], images.pixels)
    assert wide.pixels.sum() == images.pixels.sum()
    assert images.within(0) is images
