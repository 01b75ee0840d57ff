"""Tokenisers against vector quantisation: released quantisers, what codes cost, and the comparison of both."""

import csv
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from lightning import Trainer, seed_everything
from torchmetrics.image import PeakSignalNoiseRatio

from ils_lightning.callbacks import TokenizerMeasures
from ils_lightning.callbacks.tokenizer_measures import psnr
from ils_lightning.cli import main
from ils_lightning.compare import compare
from ils_lightning.compare.grid.spec import read
from ils_lightning.data import Digits, Images
from ils_lightning.data.image_set import ImageSet, Splits
from ils_lightning.layers import Quantizer, ReleasedQuantizer
from ils_lightning.modules import CategoricalFit, DiscreteVAE, VectorQuantizedVAE
from ils_lightning.packaged import find

RELEASED = [
    ("VectorQuantize", {"rotation_trick": False}),
    ("VectorQuantize", {"rotation_trick": True}),
    ("SimVQ", {}),
    ("FSQ", {"levels": [8, 4]}),
    ("LFQ", {}),
]
SHAPE = [1, 8, 8]
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


def quantized_vae(quantizer=None, **options):
    torch.manual_seed(0)
    return VectorQuantizedVAE(quantizer or Quantizer(4, 8), 16, image_shape=SHAPE, **options)


def measured(model, *callbacks, data=None):
    seed_everything(5, verbose=False)
    trainer = Trainer(**QUIET, callbacks=list(callbacks))
    (found,) = trainer.test(model, datamodule=data or Digits(), verbose=False)
    return found


@pytest.mark.parametrize(("name", "options"), RELEASED)
def test_released_quantisers_have_the_interface_of_ours(name, options):
    torch.manual_seed(0)
    quantizer = ReleasedQuantizer(name, dim=6, codebook_size=32, options=options).eval()
    x = torch.randn(5, 2, 7, 6, requires_grad=True)
    quantized, codes, loss = quantizer(x)
    assert quantized.shape == x.shape
    assert (codes.shape, codes.dtype, loss.shape) == ((5, 2, 7), torch.int64, ())
    assert len(codes.unique()) > 3
    assert codes.max() < 32
    torch.testing.assert_close(quantizer.indices_to_codes(codes), quantized)
    (gradient,) = torch.autograd.grad(quantizer.train()(x)[0].square().sum(), x)
    assert gradient.norm() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("VectorQuantise", 4, 8),
            "name must be one of VectorQuantize, SimVQ, FSQ, LFQ; given 'VectorQuantise', did you",
        ),
        (("FSQ", 4, 8), "FSQ does not take .* missing 1 required positional argument: 'levels'"),
        (("FSQ", 4, 8, {"levels": [3, 3]}), "this FSQ has 9 codes; given codebook_size 8"),
        (("LFQ", 4, 9), "your codebook size must be a power of 2"),
        (("SimVQ", 4, 8, {"decya": 1}), "unexpected keyword argument 'decya'"),
    ],
)
def test_what_a_released_quantiser_does_not_take_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ReleasedQuantizer(*arguments)


def test_vectors_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"with dim = 6; given \[2, 3, 5\]"):
        ReleasedQuantizer("SimVQ", 6, 8)(torch.zeros(2, 3, 5))


def test_a_missing_package_is_named_before_anything_is_trained(monkeypatch, tmp_path):
    monkeypatch.setattr("ils_lightning.extras.find_spec", lambda package: None)
    with pytest.raises(ValueError, match=r"needs vector_quantize_pytorch: pip install 'ils-lightning\[quantizers\]'"):
        ReleasedQuantizer("SimVQ", 4, 8)
    with pytest.raises(ValueError, match=r"run 'SimVQ': ReleasedQuantizer SimVQ needs vector_quantize_pytorch: pip"):
        compare(few(tmp_path), tmp_path / "out", runs=["SimVQ"], workers=1)
    assert not list(tmp_path.rglob("result.pt"))


def test_codes_that_are_not_drawn_cost_what_all_of_them_do():
    model, x = quantized_vae().eval(), torch.rand(5, *SHAPE)
    found = model.evaluate(x, 3)
    codes = model.encode(x)
    wanted = -model.likelihood.log_prob(model.decoder(model.quantizer.indices_to_codes(codes)), x)
    assert found.reconstruction.shape == (3, 5)
    torch.testing.assert_close(found.reconstruction[2], wanted)
    torch.testing.assert_close(found.kl, torch.full((5, 1), 16 * math.log(8)))
    torch.testing.assert_close(found.log_weights[0], -wanted - 16 * math.log(8))
    assert torch.equal(found.z[1].argmax(dim=-1), codes)
    torch.testing.assert_close(model.image_of(codes), model.decode(found.z[0]))


def test_what_a_quantiser_s_loss_weighs():
    """With the KL of 16 vectors in nats it is -ELBO of the posterior that the quantiser draws from."""
    model, x = quantized_vae(Quantizer(4, 8, kl_weight=1.0), loss_weight=16), torch.rand(5, *SHAPE)
    loss, cost, parts = model.objective(x)
    logits = model.quantizer.codebooks[0].logits(model.encoder(x).reshape(-1, 1, 4))
    kl = (logits.log_softmax(-1) + math.log(8)).mul(logits.softmax(-1)).sum() / 5
    torch.testing.assert_close(loss - parts["reconstruction"], kl)
    torch.testing.assert_close(cost.mean(), parts["reconstruction"] + 16 * math.log(8))


@pytest.mark.parametrize(
    ("quantizer", "options", "message"),
    [
        (Quantizer(4, 8), {"loss_weight": -1.0}, "loss_weight must be at least 0 and finite; given -1"),
        (Quantizer(4, 8, levels=2), {}, r"one code for each of 16 vectors; .* gives \[16, 2\]: one head and one level"),
    ],
)
def test_bad_quantised_autoencoders_are_refused(quantizer, options, message):
    with pytest.raises(ValueError, match=message):
        quantized_vae(quantizer, **options).objective(torch.rand(2, *SHAPE))


def test_there_is_no_estimator_to_diagnose():
    with pytest.raises(ValueError, match="a model that draws its codes, such as DiscreteVAE"):
        quantized_vae().problem(Images(torch.rand(2, *SHAPE), torch.zeros(2).long()))


def test_psnr_is_that_of_each_image():
    model, x = quantized_vae().eval(), torch.rand(5, *SHAPE)
    measure = PeakSignalNoiseRatio(data_range=1.0)
    again = model.image_of(model.most_probable(x))
    wanted = torch.stack([measure(one, other) for one, other in zip(again, x, strict=True)])
    torch.testing.assert_close(psnr(model, x), wanted)


def test_psnr_of_an_image_that_is_met_exactly_is_a_number():
    x = torch.rand(2, 1, 4, 4)
    model = SimpleNamespace(most_probable=lambda _: None, image_of=lambda _: torch.stack([x[0], x[1] / 2]))
    assert psnr(model, x).tolist()[0] == 100
    assert psnr(model, x).tolist()[1] < 30


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["drawn", "nearest"])
def test_with_an_even_prior_nats_are_those_of_the_tokeniser(kind):
    torch.manual_seed(0)
    drawn = DiscreteVAE("ReinMax", 16, 8, draws=1, importance_samples=1, image_shape=SHAPE)
    model = drawn if kind == "drawn" else quantized_vae()
    found, alone = measured(model, TokenizerMeasures(epochs=0)), measured(model)
    assert found["test/code_nats"] == pytest.approx(16 * math.log(8), rel=1e-5)
    assert {name: found[name] for name in alone} == alone  # measuring draws nothing from the test's random numbers
    # one draw each of the same posterior; where nothing is drawn they are one number
    assert found["test/nats"] == pytest.approx(found["test/loss"], rel=0.01 if kind == "drawn" else 1e-5)


class TwoImages(Digits):
    """Black and white images, half of each, in random order."""

    def load(self):
        white = torch.arange(600) % 2
        pixels = (255 * white).to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, *SHAPE)
        return Splits(*[ImageSet(pixels.contiguous(), white)] * 3)


@pytest.mark.slow
def test_codes_of_two_kinds_of_images_cost_one_bit():
    """An untrained encoder has one code for each of them, in 16 places of 8: 33.3 nats if even, log 2 if learnt."""
    model = quantized_vae()
    black, white = model.encode(torch.stack([torch.zeros(SHAPE), torch.ones(SHAPE)]))
    assert (black != white).sum() > 8
    found = measured(model, TokenizerMeasures(epochs=60, lr=0.01), data=TwoImages())
    # a prior that was fitted is near its optimum, not at it; it began at 33.3 nats
    assert found["test/code_nats"] == pytest.approx(math.log(2), abs=0.1)
    assert found["test/nats"] == pytest.approx(found["test/reconstruction"] + found["test/code_nats"], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, ": epochs must be at least 0; given -1$"),
        ({"lr": 0.0}, ": lr must be greater than 0 and finite; given 0.0$"),
    ],
)
def test_bad_priors_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TokenizerMeasures(**options)


def test_a_model_without_codes_is_refused():
    model = CategoricalFit(estimator="ReinMax")
    with pytest.raises(ValueError, match=r"needs a DiscreteVAE or VectorQuantizedVAE .* given CategoricalFit"):
        TokenizerMeasures().setup(Trainer(**QUIET), model, "fit")


def few(tmp_path):
    """The packaged comparison on the digits, small."""
    content = yaml.safe_load(find("compare/tokenizer_fashion").read_text())
    small = {"trainer.max_epochs": 1, "trainer.limit_train_batches": 3, "trainer.limit_test_batches": 1}
    digits = {"data": {"class_path": "Digits", "init_args": {"batch_size": 32}}}
    content["change"] = {**digits, **small, "model.init_args.latents": 16}
    for run in content["runs"]:
        model = run["change"].get("model")
        if model is not None:
            model["init_args"]["latents"] = 16
    content |= {"seeds": [1], "tune": None}
    file = tmp_path / "few.yaml"
    file.write_text(yaml.safe_dump(content))
    return str(file)


@pytest.mark.parametrize(("name", "code"), [("tokenizer_fashion", (49, 128)), ("tokenizer_fashion_512", (64, 512))])
def test_all_runs_have_the_same_networks_and_bits(name, code):
    comparison = read(f"compare/{name}")
    for run in comparison.runs:
        options = comparison.configuration(run, 1)["model"]["init_args"]
        size = options.get("categories") or options["quantizer"]["init_args"]["codebook_size"]
        assert (options["latents"], size) == code
        for network in ("encoder", "decoder"):
            assert options[network]["init_args"] == {"channels": 32, "residual_blocks": 1}
        assert options["likelihood"]["init_args"] == {"scale": 0.1}


@pytest.mark.long
def test_the_packaged_comparison_runs_and_resumes(tmp_path):
    file = few(tmp_path)
    folder = compare(file, tmp_path / "out", workers=1)
    with (folder / "results.csv").open() as lines:
        found = list(csv.DictReader(lines))
    assert not [row["failed"] for row in found if row["failed"]]
    assert all(math.isfinite(float(row[f"test/{name}"])) for row in found for name in ("psnr", "nats", "code_nats"))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("result.pt")}
    compare(file, folder, workers=1)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("result.pt")} == before


@pytest.mark.long
def test_a_released_quantiser_is_trained_resumed_and_shown_by_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--data=Digits", "--model=VectorQuantizedVAE", "--model.quantizer=ReleasedQuantizer"]
    words += ["--model.quantizer.name=VectorQuantize", "--model.quantizer.dim=4", "--model.quantizer.codebook_size=16"]
    words += ["--trainer.callbacks+=TokenizerMeasures", "--trainer.max_epochs=1", "--trainer.limit_test_batches=1"]
    main(["fit", *words])
    said = capsys.readouterr().out
    assert "PSNR of most probable codes" in said
    assert "ReleasedQuantizer(name='VectorQuantize'" in said
    (checkpoint,) = Path().rglob("last.ckpt")
    main(["fit", f"--ckpt_path={checkpoint}", "--trainer.max_epochs=2"])
    main(["encode", f"--ckpt_path={checkpoint}", "--splits=test"])
    assert "codes of 297 rows (test)" in capsys.readouterr().out
    main(["sample", f"--ckpt_path={checkpoint}", "--count=4"])
    assert Path("samples.png").exists()
