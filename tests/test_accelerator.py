"""The table of `experiments/accelerator.py`, of tiny measurements on this machine. No time is judged."""

import re

import accelerator
import pytest
import torch

WORDS = {"estimators": ["ReinMax"], "repeats": 1, "batches": 3, "steps": 3, "backend": "aot_eager"}
HELD = {
    "the 11 laws of the contract, ReinMax": "hold",
    "deterministic=True, 3 steps twice": "equal, bit for bit",
    "bf16-mixed, 3 steps": "finite",
    "ReinMax under torch.compile": "whole",
    "resumed from a CPU's checkpoint of step 3": "went on to step 6 in 3 steps",
}
WAITS = {"cpu": "not applicable: the host is the device", "cuda": r"\d+"}
RANKS = {"cpu": "went to step 3", "cuda": "went to step 3|not applicable: 1 device"}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "SIZES", ((4, 8), (3, 300)))
    monkeypatch.setattr(accelerator, "CODES", ((2, 3),))
    monkeypatch.setattr(accelerator, "CURVED", ("ReinMax", "ILSJoint"))


def table(printed: str) -> dict[str, str]:
    lines = [line.strip("| ").split(" | ") for line in printed.splitlines() if line.startswith("|")]
    assert lines[0] == ["check", "result"]
    return {what: result for what, result in lines[2:]}


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_every_check_has_its_line(capsys: pytest.CaptureFixture[str], device: str):
    accelerator.measure(device, **WORDS)
    found = table(capsys.readouterr().out)
    assert HELD.items() <= found.items()
    assert not any(result.startswith("FAILED") for result in found.values())
    for name in ("ILS / F.gumbel_softmax", "ReinMax / F.gumbel_softmax"):
        ratios = [result for what, result in found.items() if what.startswith(name)]
        assert len(ratios) == 2
        assert all(float(ratio) > 0 for result in ratios for ratio in result.split(", "))
    assert len([what for what in found if what.startswith("3 steps of a VAE")]) == 6  # two sizes by three ways
    assert all(float(result) > 0 for what, result in found.items() if "/ the VAE's step" in what)
    (waits,) = (result for what, result in found.items() if what.startswith("ILSJoint, host sync"))
    assert re.fullmatch(WAITS[device], waits)
    (ranks,) = (result for what, result in found.items() if what.startswith("two processes"))
    assert re.fullmatch(RANKS[device], ranks)
    assert torch.get_default_device().type == "cpu"


def test_a_check_that_fails_says_so_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch, capsys):
    def broken(*_: object) -> None:
        raise RuntimeError("no | such\nkernel")

    def whole(*_: object):
        yield "another check", "holds"

    others = ("laws", "vae_epoch", "share_of_a_step", "deterministic", "bfloat16", "compilation", "resumption")
    for name in (*others, "two_processes"):
        monkeypatch.setattr(accelerator, name, whole)
    monkeypatch.setattr(accelerator, "speed", broken)
    with pytest.raises(SystemExit) as stop:
        accelerator.measure("cpu")
    printed = capsys.readouterr().out
    assert stop.value.code == 1
    assert r"| broken | FAILED: RuntimeError: no \| such |" in printed
    assert "| another check | holds |" in printed


def test_unknown_estimators_are_refused():
    with pytest.raises(ValueError, match="did you mean 'ReinMax'"):
        accelerator.measure("cpu", estimators=["ReinMaxx"])
