"""Sudoku: its rules by hand and by a search of its own, its loss by loops and by closed form, its runs."""

import csv
from itertools import product

import pytest
import torch
import yaml
from lightning import seed_everything
from torch import Generator
from trainers import keep_last, quiet_trainer, stepwise_trainer

from ils_lightning.cli import main
from ils_lightning.compare import compare
from ils_lightning.data import NoData, Sudoku
from ils_lightning.data.sudoku_rules import (
    GRADES,
    UNITS,
    candidates,
    full_boards,
    propagated,
    puzzles,
    solutions,
    solved,
)
from ils_lightning.diagnose import gradient_report
from ils_lightning.diagnose.inputs import check
from ils_lightning.diagnose.target import closed_form
from ils_lightning.errors import Refusal
from ils_lightning.estimators import Exact, ILSJoint, ILSNewton, LeaveOneOut, ReinMax, StraightThrough
from ils_lightning.estimators.ils_joint import ReadJointly
from ils_lightning.modules import RelaxedSudokuSolver, SudokuSolver
from ils_lightning.modules.sudoku import Counts, missing
from ils_lightning.modules.sudoku_pictures import clashes
from ils_lightning.packaged import find

KNOWN = "530070000600195000098000060800060003400803001700020006060000280000419005000080079"
"""The puzzle of the published demo, which is also that of many textbooks."""
ANSWER = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
SMALL = {"each": 2, "grades": ["easy"]}


def board(text):
    return torch.tensor([[int(letter) for letter in text]])


def units():
    """Rows, columns and boxes as lists of cells, by loops."""
    lines = [[(row, column) for column in range(9)] for row in range(9)]
    lines += [[(row, column) for row in range(9)] for column in range(9)]
    lines += [[(3 * a + i, 3 * b + j) for i, j in product(range(3), repeat=2)] for a, b in product(range(3), repeat=2)]
    return [[9 * row + column for row, column in line] for line in lines]


def number_of_solutions(cells, most=2):
    """A search without any of the package's code: the next empty cell, digit by digit."""
    if 0 not in cells:
        return 1
    place = min((p for p in range(81) if cells[p] == 0), key=lambda p: len(_free(cells, p)))
    found = 0
    for digit in _free(cells, place):
        found += number_of_solutions([*cells[:place], digit, *cells[place + 1 :]], most - found)
        if found >= most:
            return found
    return found


def _free(cells, place):
    return set(range(1, 10)) - {cells[other] for unit in _AROUND[place] for other in unit}


_AROUND = [[unit for unit in units() if place in unit] for place in range(81)]


@pytest.fixture(scope="module")
def logits():
    """Random logits of three boards with clues, in float64."""
    clues, _ = puzzles(GRADES["easy"], 3, Generator().manual_seed(3))
    theta = torch.randn(3, 81, 9, dtype=torch.float64, generator=Generator().manual_seed(4))
    return theta.masked_fill(~candidates(clues), float("-inf"))


def test_a_known_puzzle_is_solved_and_has_one_solution():
    found = propagated(candidates(board(KNOWN)))
    assert solved(found).item()
    assert torch.equal(found.long().argmax(dim=-1) + 1, board(ANSWER))
    assert solutions(candidates(board(KNOWN))).item() == 1


def test_boards_without_and_with_several_solutions_are_told_apart():
    clash = board("55" + KNOWN[2:])
    open_ = board(ANSWER)
    for digit in (1, 2):
        open_[open_ == digit] = 0  # two digits may change places everywhere
    assert solutions(candidates(torch.cat([clash, board(KNOWN), open_]))).tolist() == [0, 1, 2]


def test_full_boards_keep_the_rules_and_differ():
    boards = full_boards(20, Generator().manual_seed(0))
    assert all(sorted(one[unit].tolist()) == list(range(1, 10)) for one in boards for unit in units())
    assert len(boards.unique(dim=0)) == 20


@pytest.mark.parametrize("grade", ["easy", pytest.param("medium", marks=pytest.mark.long)])
def test_puzzles_have_their_clues_one_solution_and_need_what_their_grade_says(grade):
    clues, solution = puzzles(GRADES[grade], 3, Generator().manual_seed(1))
    _check_grade(grade, clues, solution)


@pytest.mark.long
def test_hard_puzzles_need_trying():
    _check_grade("hard", *puzzles(GRADES["hard"], 3, Generator().manual_seed(1)))


def _check_grade(grade, clues, solution):
    assert ((clues > 0).sum(dim=-1) == GRADES[grade].clues).all()
    assert torch.equal(torch.where(clues > 0, solution, 0), clues)
    assert [number_of_solutions(one) for one in clues.tolist()] == [1] * len(clues)
    assert (missing(solution) == 0).all()
    by_cells = solved(propagated(candidates(clues), places=False))
    by_singles = solved(propagated(candidates(clues)))
    assert by_cells.tolist() == [grade == "easy"] * len(clues)
    assert by_singles.tolist() == [grade != "hard"] * len(clues)


def test_puzzles_are_a_function_of_the_seed():
    first, again, other = (Sudoku(**SMALL, seed=seed).boards for seed in (1, 1, 2))
    assert torch.equal(first.clues, again.clues)
    assert not torch.equal(first.clues, other.clues)


def test_the_loss_is_the_sum_over_units_and_digits(logits):
    z = logits.softmax(dim=-1)
    by_hand = sum((z[:, unit, digit].sum(dim=-1) - 1).square() for unit in units() for digit in range(9))
    torch.testing.assert_close(Counts()(z), by_hand)
    leaf = z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(Counts()(leaf).sum(), leaf)
    torch.testing.assert_close(Counts().closed_form_gradient(z), slope)


def test_the_expectation_is_the_sum_over_all_states_of_a_few_open_cells():
    theta = torch.full((1, 81, 9), float("-inf"), dtype=torch.float64)
    theta[0, torch.arange(81), board(ANSWER)[0] - 1] = 0
    cells, digits = [0, 1, 9, 40], [0, 3, 5]  # of one row, column and box, and one apart
    theta[0, cells] = float("-inf")
    for cell, digit in product(cells, digits):
        theta[0, cell, digit] = 0.3 * digit - 0.01 * cell
    theta.requires_grad_()
    pi, total = theta.softmax(dim=-1), 0.0
    for chosen in product(digits, repeat=4):
        z = pi.detach().clone()
        z[0, cells] = torch.nn.functional.one_hot(torch.tensor(chosen), 9).double()
        total = total + pi[0, cells, chosen].prod() * Counts()(z)[0]
    torch.testing.assert_close(Counts().expectation(pi)[0], total)
    expected, found = (torch.autograd.grad(one, theta, retain_graph=True)[0] for one in (total, _expected(theta)))
    torch.testing.assert_close(found, expected)


def _expected(theta):
    return Exact()(theta, Counts()).sum()


def test_exact_delivers_the_gradient_that_unbiased_estimates_average_to(logits):
    report = gradient_report(Counts(), logits, [LeaveOneOut(), ReinMax(), StraightThrough()], draws=1000)
    rows = {row.name.partition("(")[0]: row for row in report.rows}
    assert report.truth == "exact: the loss knows its expectation"
    assert rows["LeaveOneOut"].relative_bias_low == rows["ReinMax"].relative_bias_low == 0
    assert rows["StraightThrough"].relative_bias_low > 0.1


def test_an_expectation_of_another_shape_is_refused(logits):
    class OneForAll(Counts):
        def expectation(self, pi):
            return super().expectation(pi).mean()

    with pytest.raises(ValueError, match=r"expectation\(pi\) must answer one value a row, \[\*batch\] = \[3\]"):
        Exact().estimate(logits, OneForAll())


def test_draws_of_several_digits_do_not_follow_the_expectation_of_one():
    even = torch.zeros(1, 81, 9, dtype=torch.float64)
    assert closed_form(even, Counts(), check(even, Counts(), ones=2)) is None
    assert closed_form(even, Counts(), check(even, Counts(), ones=1)) is not None


def test_straight_through_descends_the_loss_of_the_mean(logits):
    """Its estimate is affine in the draw, through df/dz alone: its mean is its value at the mean."""
    theta = logits.clone().requires_grad_()
    (of_mean,) = torch.autograd.grad(Counts()(theta.softmax(dim=-1)).sum(), theta)
    pi, (first, second) = logits.softmax(dim=-1), logits.softmax(dim=-1) * torch.rand(2, 1, 1, 1).double()

    def estimate(z):
        return StraightThrough().pullback(logits, pi, z, Counts().closed_form_gradient(z))

    torch.testing.assert_close(estimate(pi), of_mean)
    torch.testing.assert_close(estimate((first + second) / 2), (estimate(first) + estimate(second)) / 2)


def test_the_hessian_learnt_to_the_end_leaves_nothing_but_the_gradient(logits):
    """With H itself, and the step's base at the mean, ILSJoint's control variates take away all noise."""
    estimator = ILSJoint(base=0.0).double().eval()
    estimator.build(81, 9)
    hessian = 2 * torch.kron(UNITS.T @ UNITS, torch.eye(9)).double()
    own = torch.stack([hessian[9 * cell : 9 * cell + 9, 9 * cell : 9 * cell + 9] for cell in range(81)])
    kappa, nu = torch.ones(81, 1).double(), torch.zeros(81, 1).double()
    known = ReadJointly(own, _without_diagonal_blocks(hessian), torch.stack([kappa, nu]))
    estimator.read = lambda like: known
    for seed in range(2):
        torch.manual_seed(seed)
        _, found = estimator.estimate(logits, Counts())
        _, exact = Exact().estimate(logits, Counts())
        torch.testing.assert_close(found, exact.detach())


def _without_diagonal_blocks(hessian):
    blocks = hessian.clone().view(81, 9, 81, 9)
    blocks.diagonal(dim1=0, dim2=2).zero_()
    return blocks.view(729, 729)


def test_missing_digits_and_clashes_are_counted_by_hand():
    wrong = board(ANSWER)
    assert missing(wrong).item() == 0
    wrong[0, 0] = 3  # 5 is gone from a row, a column and a box; its row and column hold 3 twice, its box too
    assert missing(wrong).item() == 3
    assert clashes(wrong)[0].nonzero().flatten().tolist() == [0, 1, 72]


def fit(folder, steps, estimator, data=None, resume=None, **options):
    seed_everything(3, verbose=False)
    module = SudokuSolver(estimator, **options)
    trainer = stepwise_trainer(folder, steps)
    trainer.fit(module, datamodule=data or Sudoku(**SMALL), ckpt_path=resume)
    return module, trainer


def test_straight_through_solves_easy_puzzles(tmp_path):
    module, trainer = fit(tmp_path, 500, StraightThrough(), chunk=100)
    steps, values = module.curve()
    assert steps.tolist() == [0, 100, 200, 300, 400, 500]
    assert values[0].min() > 50
    assert float(trainer.callback_metrics["val/unsolved"]) == float(trainer.callback_metrics["val/wrong_cells"]) == 0
    assert module.summary()["easy puzzles"] == "2 of 2 solved; digits missing: 0.0"
    assert set(module.figures()) == {"solving", "curve"}


def test_without_draws_the_gradient_is_the_mean_of_straight_throughs(logits):
    module = RelaxedSudokuSolver(size=[3]).double()
    module.see(Sudoku(each=3, grades=["easy"]).boards)
    module.logits.data.normal_()
    masked = module.logits.detach() + module.mask
    pi = masked.softmax(dim=-1)
    mean = StraightThrough().pullback(masked, pi, pi, Counts().closed_form_gradient(pi))
    loss, found = module.gradient(torch.tensor(0))
    torch.testing.assert_close(found, mean)
    torch.testing.assert_close(loss, Counts()(pi))


def test_without_draws_easy_puzzles_are_solved_and_the_checkpoint_is_loaded(tmp_path):
    seed_everything(3, verbose=False)
    module = RelaxedSudokuSolver(chunk=100)
    trainer = quiet_trainer(tmp_path, keep_last(tmp_path), max_steps=300, limit_val_batches=0)
    trainer.fit(module, datamodule=Sudoku(**SMALL))
    assert module.summary()["easy puzzles"].startswith("2 of 2 solved")
    loaded = RelaxedSudokuSolver.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert torch.equal(loaded.logits, module.logits)


@pytest.mark.parametrize("make", [ReinMax, ILSNewton, LeaveOneOut, Exact], ids=lambda make: make.__name__)
def test_chunks_equal_single_steps(tmp_path, make):
    chunked, trainer = fit(tmp_path, 7, make(), chunk=3)
    single, _ = fit(tmp_path, 7, make(), chunk=1, record_every=1)
    assert trainer.global_step == 7
    torch.testing.assert_close(chunked.logits, single.logits)


def test_resumed_run_continues_the_same_curve_and_pictures(tmp_path):
    whole, _ = fit(tmp_path / "whole", 8, ReinMax(), chunk=4)
    fit(tmp_path / "parts", 4, ReinMax(), chunk=4)
    resumed, _ = fit(tmp_path / "parts", 8, Exact(), resume=tmp_path / "parts" / "last.ckpt", chunk=4)
    assert resumed.curve()[0].tolist() == whole.curve()[0].tolist() == [0, 4, 8]
    assert torch.equal(torch.cat(resumed._boards)[:2], torch.cat(whole._boards)[:2])
    assert len(torch.cat(resumed._boards)) == 3


def test_clues_stay_what_they_are(tmp_path):
    module, trainer = fit(tmp_path, 3, ReinMax(), chunk=3)
    batch = trainer.datamodule.boards
    found = module.predict_step(batch)
    assert torch.equal(found["board"][batch.clues > 0], batch.clues[batch.clues > 0])
    assert (module.logits[batch.clues > 0] == 0).all()


@pytest.mark.parametrize("options", [{"chunk": 0}, {"record_every": -1}])
def test_options_are_checked(options):
    with pytest.raises(Refusal, match=f"SudokuSolver: .*{next(iter(options))}"):
        SudokuSolver(ReinMax(), **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"each": 0}, "each must be at least 1"),
        ({"grades": ["esay"]}, "grades are easy, medium, hard; given 'esay', did you mean 'easy'"),
        ({"grades": []}, "grades must be named, each once"),
        ({"grades": ["easy", "easy"]}, "grades must be named, each once"),
    ],
)
def test_options_of_the_data_are_checked(options, words):
    with pytest.raises(Refusal, match=words):
        Sudoku(**options)


def test_other_data_and_another_number_of_puzzles_are_refused(tmp_path):
    with pytest.raises(Refusal, match="needs data that are Sudoku puzzles"):
        fit(tmp_path, 1, ReinMax(), data=NoData())
    with pytest.raises(Refusal, match=r"made for boards of \[puzzles\] = \[3\]; these are \[2\]"):
        fit(tmp_path, 1, ReinMax(), size=[3])
    with pytest.raises(Refusal, match="it has 3 boards; given 2 puzzles"):
        SudokuSolver(ReinMax(), size=[3]).predict_step(Sudoku(**SMALL).boards)


@pytest.mark.long
def test_diagnose_measures_a_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--data.each=2", "--data.grades=[easy]"]
    main(["fit", "--config=sudoku", *small, "--trainer.max_steps=100"])
    last = next(tmp_path.rglob("last.ckpt"))
    measured = ["--estimators=ReinMax", "--draws=32", "--folder=out"]
    main(["diagnose", "--config=sudoku", *small, f"--ckpt_path={last}", *measured])
    rows = {row["name"]: row for row in csv.DictReader((tmp_path / "out" / "report.csv").read_text().splitlines())}
    assert "ReinMax" in rows
    assert "the loss knows its expectation" in capsys.readouterr().out


@pytest.mark.long
def test_comparison_has_a_row_for_each_grade_and_goes_on(tmp_path):
    content = yaml.safe_load(find("compare/sudoku").read_text())
    content["runs"] = content["runs"][:2]
    content["change"] = {"trainer.max_steps": 4, "model.init_args.chunk": 2, "data.init_args.each": 1}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({**content, "seeds": [0]}))
    folder = compare(str(tmp_path / "small.yaml"), tmp_path / "out")
    rows = list(csv.DictReader((folder / "table.csv").read_text().splitlines()))
    assert [row["setting"] for row in rows] == ["easy"] * 2 + ["medium"] * 2 + ["hard"] * 2
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/result.pt")}
    compare(str(tmp_path / "small.yaml"), tmp_path / "out")
    assert kept == {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/result.pt")}
    assert float(rows[0]["evaluations"]) == 4  # the exact gradient asks the loss once a step and puzzle
