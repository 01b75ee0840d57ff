"""A checkpoint goes on with another estimator: weights and the optimiser's state stay, the old one's state goes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging

from ils_lightning.cli import main
from ils_lightning.data import Digits
from ils_lightning.modules import DiscreteVAE, HardAttention, HierarchicalVAE

PLAIN = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
BASELINE = {"class_path": "Reinforce", "init_args": {"baseline": "NetworkBaseline"}}


def fit(model: Any, path: Path, epochs: int, ckpt_path: Path | None = None, *callbacks: Any) -> dict[str, Any]:
    """Fits, and returns the checkpoint of the end, which is also written."""
    data = Digits(binarize="none")
    trainer = Trainer(max_epochs=epochs, enable_checkpointing=False, callbacks=list(callbacks), **PLAIN)
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path and str(ckpt_path), weights_only=True)
    trainer.save_checkpoint(path)
    return torch.load(path, weights_only=True)


def momenta(model: Any, checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Adam's first moment by the name of the parameter."""
    (optimizer,) = checkpoint["optimizer_states"]
    names = {parameter: name for name, parameter in model.named_parameters()}
    order = [names[parameter] for parameter in model.parameters()]
    numbers = [number for group in optimizer["param_groups"] for number in group["params"]]
    found = dict(zip(numbers, order, strict=True))
    return {found[number]: state["exp_avg"] for number, state in optimizer["state"].items()}


def networks(named: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in named.items() if name.startswith(("encoder", "decoder", "look", "classify"))}


PAIRS = [
    (DiscreteVAE, "ILSNewton", "ReinMax"),
    (DiscreteVAE, "ReinMax", "ILSNewton"),
    (DiscreteVAE, "ReinMax", "Rebar"),
    (DiscreteVAE, "Rebar", "LeaveOneOut"),
    (DiscreteVAE, "Rebar", BASELINE),
    (DiscreteVAE, BASELINE, "ILSNewton"),
    (HierarchicalVAE, "ILSNewton", BASELINE),
    (HierarchicalVAE, BASELINE, "ReinMax"),
    (HardAttention, "ReinMax", "ILSNewton"),
]


@pytest.mark.parametrize(("kind", "old", "new"), PAIRS)
def test_a_fit_goes_on_with_another_estimator(kind: type, old: Any, new: Any, tmp_path: Path) -> None:
    before_model = kind(estimator=old)
    before = fit(before_model, tmp_path / "old.ckpt", 1)
    model = kind(estimator=new)
    after = fit(model, tmp_path / "new.ckpt", 1, tmp_path / "old.ckpt")  # the last epoch is over: nothing is trained
    kept = networks(before["state_dict"])
    assert len(kept) >= 4
    assert all(torch.equal(kept[name], after["state_dict"][name]) for name in kept)
    moments = networks(momenta(before_model, before))
    assert len(moments) >= 4
    assert all(torch.equal(moments[name], networks(momenta(model, after))[name]) for name in moments)
    assert not any("estimator" in name or "sampler" in name for name in momenta(model, after))
    further = fit(kind(estimator=new), tmp_path / "further.ckpt", 2, tmp_path / "old.ckpt")
    assert further["global_step"] == 2 * before["global_step"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"), [("ILSNewton", "ReinMax"), ("ReinMax", "ILSNewton"), ("ILSNewton", "ILSJoint")]
)
def test_evaluation_serves_with_another_estimator_and_says_so(
    old: str, new: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = DiscreteVAE(estimator=old)
    fit(model, tmp_path / "old.ckpt", 1)
    again = DiscreteVAE.load_from_checkpoint(tmp_path / "old.ckpt", estimator=new, weights_only=True)
    assert type(again.estimator).__name__ == new
    assert torch.equal(again.encoder.layers[1].weight, model.encoder.layers[1].weight)
    for verb in ("test", "validate", "predict", "diagnose"):
        caplog.clear()
        words = [verb, "--config=vae_digits", f"--ckpt_path={tmp_path / 'old.ckpt'}", f"--model.estimator={new}"]
        words += ["--estimators=StraightThrough", "--draws=40"] if verb == "diagnose" else []
        main([*words, "--trainer.logger=false", "--trainer.enable_progress_bar=false"])
        assert f"the state of {old} in the checkpoint is dropped; {new} starts fresh" in caplog.text


def test_state_of_the_same_estimator_with_other_options_is_kept(tmp_path: Path) -> None:
    before = fit(DiscreteVAE(estimator="ILSNewton"), tmp_path / "old.ckpt", 1)
    slower = {"class_path": "ILSNewton", "init_args": {"decay": 0.999}}
    after = fit(DiscreteVAE(estimator=slower), tmp_path / "new.ckpt", 1, tmp_path / "old.ckpt")  # pyright: ignore
    assert torch.equal(after["state_dict"]["estimator.S"], before["state_dict"]["estimator.S"])


def test_an_average_of_weights_goes_on_with_another_estimator(tmp_path: Path) -> None:
    fit(DiscreteVAE(estimator="ILSNewton"), tmp_path / "old.ckpt", 1, None, EMAWeightAveraging())
    model = DiscreteVAE(estimator="Rebar")
    found = fit(model, tmp_path / "new.ckpt", 2, tmp_path / "old.ckpt", EMAWeightAveraging())
    assert {"state_dict", "current_model_state"} <= set(found)
    assert found["global_step"] == 26


def test_whatever_else_does_not_fit_is_refused(tmp_path: Path) -> None:
    fit(DiscreteVAE(estimator="ILSNewton"), tmp_path / "old.ckpt", 1)
    with pytest.raises(ValueError, match=r"model\.latents is 6, the checkpoint has 8"):
        fit(DiscreteVAE(estimator="ReinMax", latents=6), tmp_path / "new.ckpt", 1, tmp_path / "old.ckpt")
    checkpoint = torch.load(tmp_path / "old.ckpt", weights_only=True)
    del checkpoint["state_dict"]["estimator.S"]
    torch.save(checkpoint, tmp_path / "damaged.ckpt")
    with pytest.raises(ValueError, match=r"Missing key.*estimator.S"):
        fit(DiscreteVAE(estimator="ILSNewton"), tmp_path / "new.ckpt", 1, tmp_path / "damaged.ckpt")
