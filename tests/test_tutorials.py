"""The tutorials run, say what their run has found, and their command works."""

import logging
import re
import shlex

import pytest
import torch

from ils_lightning.cli import main
from ils_lightning.tutorials import own_encoder, own_loss, read_report


@pytest.fixture(autouse=True)
def _remarks_as_before():
    """Puts back how much Lightning remarks, which a script may choose."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.slow
def test_own_loss_states_the_exact_gradient_and_the_best_plan(capsys, monkeypatch):
    monkeypatch.setattr(own_loss, "COPIES", 5_000)
    own_loss.main()
    printed = capsys.readouterr().out
    rows = {
        name: [float(x) for x in re.findall(r"[\d.]+", line)]
        for name, line in re.findall(r"^  (\w+) +(\d.*)", printed, re.MULTILINE)
    }
    assert set(rows) == {"StraightThrough", "ReinMax", "LeaveOneOut", "Exact"}
    assert rows["LeaveOneOut"][0] < 5 < rows["ReinMax"][0] < rows["StraightThrough"][0]
    assert "The best of all plans takes 4.00 hours." in " ".join(printed.split())
    assert 4.0 <= rows["Exact"][-1] < 4.1


def test_the_exact_gradient_of_the_loss_by_differences():
    logits = torch.randn(4, 3, dtype=torch.float64)
    own_loss.HOURS, kept = own_loss.HOURS.double(), own_loss.HOURS
    try:
        _, gradient = own_loss.exact(logits)
        step = 1e-6 * torch.nn.functional.one_hot(torch.tensor(5), 12).double().reshape(4, 3)
        slope = (own_loss.exact(logits + step)[0] - own_loss.exact(logits - step)[0]) / 2e-6
    finally:
        own_loss.HOURS = kept
    assert gradient[1, 2] == pytest.approx(float(slope), rel=1e-6)


@pytest.mark.slow
def test_own_encoder_trains_with_each_estimator_and_from_the_shell(capsys, monkeypatch, tmp_path):
    own_encoder.main(epochs=2)
    *losses, _, first, second = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in losses] == ["StraightThrough", "ReinMax", "LeaveOneOut"]
    assert all(2 < float(re.findall(r"[\d.]+", line)[0]) < 14 for line in losses)  # 15.6 untrained
    monkeypatch.chdir(tmp_path)
    words = shlex.split(f"{first.removesuffix(chr(92))} {second}")
    assert words[:3] == ["python", "-m", "ils_lightning"]
    main([*words[3:-1], "1", "--trainer.enable_progress_bar=false"])
    assert list(tmp_path.rglob("last.ckpt"))


@pytest.mark.long
def test_read_report_says_what_the_rows_hold(capsys, tmp_path):
    read_report.main(tmp_path)
    printed = capsys.readouterr().out
    rows = re.findall(r"(\w+) +error +([\d.]+%) +bias +([\d.]+%) +variance +([\d.]+) +evaluations (\d+)", printed)
    assert {row[0] for row in rows} == set(read_report.ESTIMATORS)
    name, error, bias, variance, _ = rows[0]
    assert f"{name} comes first with {error}" in printed
    assert f"bias: {bias} of that length" in printed
    assert f"variance: {variance}," in printed
    assert (tmp_path / "report.png").stat().st_size > 10_000
