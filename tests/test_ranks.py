"""Runs of two ranks from the command line: equal weights, one checkpoint, synchronised metrics, resumed alike.

`python experiments/kills.py 20 ranks` kills one rank, or both, at random moments.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from kills import differences
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import parameters_to_vector
from torch.utils.data import DataLoader

from ils_lightning.callbacks import FiniteGuard
from ils_lightning.cli import main
from ils_lightning.data import Digits
from ils_lightning.modules import CategoricalFit, DiscreteVAE, HierarchicalVAE, PolynomialProgramming

RANKS = ["--trainer.strategy=ddp_fork", "--trainer.devices=2", "--trainer.accelerator=cpu"]
QUIET = ["--trainer.logger=false", "--trainer.enable_progress_bar=false"]
ADDED = ["--trainer.accumulate_grad_batches=2", "--trainer.gradient_clip_val=0.5"]
EPOCH = ["--trainer.max_epochs=1", "--trainer.val_check_interval=1.0", "--trainer.check_val_every_n_epoch=1"]
IMAGES = ["--data=Digits", "--data.validation=151", "--data.binarize=dynamic", *EPOCH]  # ranks get 76 and 75 of 151
STEPS = ["--trainer.max_steps=8", "--trainer.val_check_interval=1"]
BASELINE = ["--model.estimator=Reinforce", "--model.estimator.baseline=NetworkBaseline"]
RUNS = {
    CategoricalFit: [*BASELINE, "--model.loss=RBFEnergy", "--data=SingleDraws", "--model.chunk=1", *ADDED, *STEPS],
    PolynomialProgramming: ["--model.estimator=ILSCV", "--model.chunk=4", "--data=NoData", *STEPS],
    DiscreteVAE: ["--model.estimator=Rebar", *ADDED, *IMAGES],
    HierarchicalVAE: ["--model.estimator=ILSNewton", *IMAGES],
}


class Report(Callback):
    """Saves, on every rank, what it has learnt and logged."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        logged = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        state = {"weights": parameters_to_vector(pl_module.parameters()).detach(), "logged": logged}
        torch.save(state | {"saved": trainer.global_step}, f"rank{trainer.global_rank}.pt")


def run(model: type, *words: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Fits on two ranks; returns their reports and the last checkpoint."""
    report = "--trainer.callbacks+=test_ranks.Report"
    main(["fit", f"--model={model.__name__}", *RUNS[model], *RANKS, *QUIET, report, *words])
    checkpoint = torch.load("checkpoints/last.ckpt", weights_only=True)
    return [torch.load(f"rank{rank}.pt", weights_only=True) for rank in (0, 1)], checkpoint


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")


@pytest.mark.long
@pytest.mark.parametrize("model", RUNS, ids=lambda model: model.__name__)
def test_ranks_agree_and_write_one_checkpoint(model: type) -> None:
    (first, second), checkpoint = run(model)
    assert torch.equal(first["weights"], second["weights"])
    assert first["logged"] == second["logged"]
    assert len(first["logged"]) > 1
    assert {path.name for path in Path("checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    one, other = checkpoint["random_states"]
    assert not torch.equal(one["torch"], other["torch"])


@pytest.mark.long
def test_metrics_of_ranks_with_unequal_images_are_those_of_one_process() -> None:
    (report, _), _ = run(DiscreteVAE)
    model = DiscreteVAE.load_from_checkpoint("checkpoints/last.ckpt", weights_only=True)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    (alone,) = trainer.validate(model, Digits(validation=151, binarize="dynamic"), verbose=False)
    drawless = ("val/kl", "val/active_latents")
    assert [report["logged"][name] for name in drawless] == pytest.approx([alone[name] for name in drawless], rel=1e-5)


@pytest.mark.long
def test_ranks_go_on_as_if_not_interrupted() -> None:
    _, whole = run(DiscreteVAE, "--trainer.max_epochs=2")
    run(DiscreteVAE)
    Path("checkpoints/last.ckpt").rename("half.ckpt")
    _, rest = run(DiscreteVAE, "--trainer.max_epochs=2", "--ckpt_path=half.ckpt")
    for part in ("state_dict", "optimizer_states", "random_states", "curve"):
        assert differences(rest[part], whole[part]) == []


class BrokenOnOneRank(LightningModule):
    """A weight whose loss is infinite on the second rank alone, at the third step, while its slope is not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        broken = self.global_rank == 1 and index == 2
        return self.weight.sum() + (float("inf") if broken else 0.0)

    def on_train_end(self) -> None:
        assert self.weight.item() == pytest.approx(0.5)  # five of six steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.long
def test_ranks_leave_out_the_same_steps() -> None:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=2,
        strategy="ddp_fork",
        use_distributed_sampler=False,
        enable_model_summary=False,
        callbacks=[FiniteGuard(action="skip")],
        **quiet,
    )
    trainer.fit(BrokenOnOneRank(), DataLoader(torch.ones(6, 2), generator=torch.Generator()))


@pytest.mark.long
def test_torchrun_starts_ranks_and_any_other_way_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    words = ["fit", "--config=vae_digits", "--trainer.devices=2", "--trainer.accelerator=cpu"]
    words += ["--trainer.enable_progress_bar=false"]
    command = [*torchrun, "-m", "ils_lightning", *words, "--trainer.strategy=ddp", "--trainer.max_epochs=1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best checkpoint") == 1
    (run,) = Path("lightning_logs").iterdir()
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    last = f"--ckpt_path={run}/checkpoints/last.ckpt"
    main([*words, "--trainer.strategy=ddp_fork", "--trainer.max_epochs=2", last])
    assert "the checkpoint holds random streams" not in capsys.readouterr().err
    found = [torch.load(path, weights_only=True) for path in Path("lightning_logs").rglob("last.ckpt")]
    assert sorted(one["global_step"] for one in found) == [6, 12]


CHILD = "from ils_lightning.cli.ranks import *; end_with_the_process_that_started_me(); print('up', flush=True); "
CHILD += "time.sleep(600)"
STARTER = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', sys.argv[1]]); time.sleep(600)"


@pytest.mark.slow
def test_a_rank_ends_soon_after_the_process_that_started_it() -> None:
    command = [sys.executable, "-c", STARTER, CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"LOCAL_RANK": "1"}) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        starter.kill()
        assert starter.communicate(timeout=60)[0] == b""  # at the end of the file the rank holds it open no more


@pytest.mark.parametrize(("rank", "alive"), [("1", False), (None, True)], ids=["a rank", "the first process"])
def test_a_rank_whose_first_process_died_before_it_began_ends_at_once(rank: str | None, alive: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    given = {"ILS_LIGHTNING_FIRST_RANK": str(gone.pid)} | ({"LOCAL_RANK": rank} if rank else {})
    with subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, env=os.environ | given) as child:
        assert child.stdout is not None
        assert (child.stdout.readline() == b"up\n") == alive
        child.kill()
