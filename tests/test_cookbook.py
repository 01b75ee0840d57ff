"""Every page of the cookbook holds one script of at most 40 lines that runs and finds what the page says."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parent.parent / "docs" / "cookbook").glob("*.md"))
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


LONG = (
    "checkpoint",
    "compare",
    "dreamer",
    "export_codes",
    "lightning_module",
    "plain_pytorch",
    "tensorboard",
    "vq_vae",
)
SLOW = (pytest.mark.long,)


def numbers(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"-?\d+\.?\d*", text)]


def gumbel_softmax(printed: str) -> None:
    assert printed.count("best choices [0, 1], loss 0.") == 3


def dreamer(printed: str) -> None:
    assert numbers(printed)[0] < 0.6


def vq_vae(printed: str) -> None:
    left, used = numbers(printed)
    assert left < 0.45
    assert used > 50
    assert printed.endswith("codes read back: True\n")


def mixture_of_experts(printed: str) -> None:
    error, entropy, most = numbers(printed)
    assert error < 1
    assert most - entropy < 0.1


def policy_gradient(printed: str) -> None:
    assert numbers(printed)[1] > 4


def pyro(printed: str) -> None:
    assert numbers(printed) == [-2, 2, 0, 2]


def lightning_module(printed: str) -> None:
    assert printed.count("bias") == 3


def plain_pytorch(printed: str) -> None:
    left = [numbers(line)[0] for line in printed.splitlines()]
    assert len(left) == 4
    assert max(left) < 0.5


def padding(printed: str) -> None:
    assert printed.endswith("True\n")


def contrastive(printed: str) -> None:
    assert "as rows: the loss f must be one that judges each row by itself" in printed
    assert printed.endswith("a gradient [6, 3]\n")


def compare(printed: str) -> None:
    assert re.search(r"ReinMax +0\.\d+ .*\n.*StraightThrough +0\.\d+ ", printed)
    assert "are in lightning_logs/compare/mine" in printed


def export_codes(printed: str) -> None:
    assert re.search(r"codes \[150, 8\] torch.int64 of \d\d+ kinds", printed)


def checkpoint(printed: str) -> None:
    assert re.search(r"ILSNewton, test -ELBO [23]\d\.\d nats", printed)
    assert "images drawn from the prior: [4, 1, 8, 8]" in printed


def tensorboard(printed: str) -> None:
    assert "train/loss" in printed
    assert "gradient/" in printed
    assert re.search(r"pictures: \w+", printed)


FOUND: dict[str, Callable[[str], None]] = {
    one.__name__: one
    for one in (
        gumbel_softmax,
        dreamer,
        vq_vae,
        mixture_of_experts,
        policy_gradient,
        pyro,
        lightning_module,
        plain_pytorch,
        padding,
        contrastive,
        compare,
        export_codes,
        checkpoint,
        tensorboard,
    )
}


def test_every_page_is_tried():
    assert [page.stem for page in PAGES] == sorted(FOUND)


@pytest.mark.slow
@pytest.mark.parametrize("page", [pytest.param(one, marks=SLOW * (one.stem in LONG), id=one.stem) for one in PAGES])
def test_the_script_runs_and_finds_what_the_page_says(page: Path, tmp_path: Path):
    if page.stem == "pyro":
        pytest.importorskip("pyro", reason="Pyro is an optional part")
    (script,) = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert len([line for line in script.splitlines() if line.strip()]) <= 40
    (tmp_path / "page.py").write_text(script, encoding="utf-8")
    done = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    FOUND[page.stem](done.stdout)
