"""ListOps: the language and its generator, the data, and the latent-tree model against enumeration."""

import gzip
import math
from collections import Counter
from functools import partial
from random import Random

import pytest
import torch
from lightning import seed_everything
from torch.nn import functional
from trainers import quiet_trainer

from ils_lightning.callbacks import RankSeed
from ils_lightning.data import Digits, ListOps
from ils_lightning.data.expression_set import Expressions
from ils_lightning.data.expressions import CLOSE, evaluate, generate, parse, spell
from ils_lightning.estimators import Exact, GumbelSoftmax, ILSNewton, LeaveOneOut, ReinMax, StraightThrough
from ils_lightning.estimators.categorical import enumerate_states, log_prob
from ils_lightning.modules import LatentTree
from ils_lightning.networks.trees import layout

LEARNT = {"train": 1000, "validation": 300, "test": 50, "longest": 8}
SMALL = {"train": 400, "validation": 50, "test": 50, "longest": 12}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("[MIN 4 2 9 ]", 2),
        ("[MAX 4 2 9 ]", 9),
        ("[MED 4 2 9 ]", 4),
        ("[MED 4 2 9 7 ]", 5),
        ("[SM 4 2 9 ]", 5),
        ("[MAX 2 [MIN [SM 9 9 ] 9 ] 1 ]", 8),
        ("( ( ( ( [MED 5 ) ( ( ( [MAX 9 ) 1 ) ] ) ) 2 ) ] )", 5),
    ],
)
def test_expressions_are_evaluated(text, value):
    assert evaluate(parse(text)).value == value


def test_arguments_know_their_operator():
    found = evaluate(parse("[MAX 2 [SM 9 9 ] [MIN 0 1 ] 1 ]"))
    assert found.parents == (-1, 0, 0, 2, 2, -1, 0, 6, 6, -1, 0, -1)


@pytest.mark.parametrize("text", ["", "1 2", "[MAX 1", "[MAX ]", "1 ]", "]"])
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(ValueError, match=r"an expression is one digit or one bracket|a closing bracket needs"):
        evaluate(parse(text))
    with pytest.raises(ValueError, match=r"the tokens of ListOps are .*; given 'MAX'"):
        parse("MAX 1")


def test_generated_expressions_follow_the_rules():
    uniform = Random(0).random
    found = [one for one in (generate(uniform, 99) for _ in range(40_000)) if one]
    simple = [one for one in found if one.count(CLOSE) == 1]
    assert max(map(len, found)) <= 99
    assert all(evaluate(one).value in range(10) for one in found)
    for counts, weights in (
        (Counter(len(one) - 2 for one in simple), {n: 0.75**n for n in range(2, 6)}),  # all arguments are digits
        (Counter(one[0] for one in found), dict.fromkeys(range(10, 14), 1)),
        (Counter(token for one in simple for token in one[1:-1]), dict.fromkeys(range(10), 1)),
    ):
        assert set(counts) == set(weights)
        for key, weight in weights.items():
            share, total = weight / sum(weights.values()), counts.total()
            assert abs(counts[key] - share * total) < 4.5 * math.sqrt(share * (1 - share) * total)


def test_depth_is_bounded():
    uniform = Random(0).random
    found = [one for one in (generate(uniform, 40, depth=2) for _ in range(2_000)) if one]
    assert all(one.count(CLOSE) == 1 for one in found)


def test_splits_are_distinct_and_a_function_of_the_seed():
    one, two, other = ListOps(**SMALL).splits, ListOps(**SMALL, seed=1).splits, ListOps(**SMALL, expression_seed=1)
    rows = [tuple(row) for split in one for row in split.tokens.tolist()]
    assert len(set(rows)) == len(rows) == 500
    assert torch.equal(one.train.tokens, two.train.tokens)
    assert not torch.equal(one.train.tokens, other.splits.train.tokens)
    assert (one.train.operators(), ListOps(**SMALL).operators) == (3, 3)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_of_expressions_is_the_test_set_and_is_not_learnt_from(suffix, tmp_path):
    splits = ListOps(**SMALL).splits
    known = splits.train.tokens[:20].tolist()
    lines = [f"{evaluate(bare).value}\t{spell(bare)}\n" for one in known for bare in [[t for t in one if t < 15]]]
    lines.append("5\t( ( ( ( ( ( [SM 1 ) 1 ) 1 ) 1 ) 1 ) ] )\n3\t[MAX 1 [MAX 1 [MAX 1 [MAX 1 3 ] ] ] ]\n")
    path = tmp_path / f"test.tsv{suffix}"
    path.write_bytes(gzip.compress("".join(lines).encode()) if suffix else "".join(lines).encode())
    data = ListOps(**SMALL, test_file=str(path))
    assert data.splits.test.tokens[:20].tolist() == known
    assert data.splits.test.value[-1] == 5
    assert data.summary()["test file"] == f"21 of 22 lines of test.tsv{suffix} are short enough"
    learnt = {tuple(row) for row in data.splits.train.tokens.tolist()}
    assert len(learnt) == 400
    assert not learnt & set(map(tuple, known))


def test_bad_data_are_refused(tmp_path):
    path = tmp_path / "test.tsv"
    for content, message in (
        ("4\t[MAX 1 3 ]\n", "test.tsv, line 1: the expression is worth 3; its label is 4"),
        ("3\t[MAX 1 3\n", "test.tsv, line 1: an expression is"),
        ("1\t[MAX 1 [MAX 1 [MAX 1 [MAX 1 1 ] ] ] ]\n", "no expression of test_file test.tsv has at most 12 tokens"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            ListOps(**SMALL, test_file=str(path)).setup("fit")
    with pytest.raises(ValueError, match=r"missing: there is no such file. The published one is https:.*tsv$"):
        ListOps(test_file=str(tmp_path / "missing")).setup("fit")
    with pytest.raises(ValueError, match="after 400 there are hardly any left"):
        ListOps(train=1000, longest=4).setup("fit")
    with pytest.raises(ValueError, match="longest must be at least 4"):
        ListOps(longest=3)
    with pytest.raises(ValueError, match="must be at least 1"):
        ListOps(train=0)


def arcs_of(batch, place):
    """The true arcs as one-hot draws `[1, batch, tokens, operators]`."""
    of_parent = place.slot.gather(1, batch.parents.clamp(min=0))
    category = (place.candidate == of_parent.unsqueeze(-1)).long().argmax(dim=-1)
    return functional.one_hot(torch.where(place.choosing, category, 0), place.candidate.shape[-1]).float().unsqueeze(0)


def test_layout_names_every_true_operator_and_the_model_finds_its_place():
    data = ListOps(**SMALL)
    batch = next(iter(data.train_dataloader()))
    model = LatentTree(ReinMax(), size=[12, 3])
    place = layout(batch.tokens, 3)
    found = model._parents(arcs_of(batch, place)[0].argmax(dim=-1), place)
    assert torch.equal(found, batch.parents)
    assert torch.equal(place.choosing, batch.parents >= 0)


def test_executor_heeds_arcs_and_operators_but_not_the_order_of_arguments():
    model = LatentTree(ReinMax(), size=[12, 3])

    def answer(text, parents=None):
        found = evaluate(parse(text))
        places = [torch.tensor([list(x)]) for x in (found.tokens, parents or found.parents)]
        place = layout(places[0], 3)
        batch = Expressions(places[0], torch.tensor([found.value]), places[1])
        return model.executor(arcs_of(batch, place), batch.tokens, place)

    one = answer("[MAX 2 [SM 9 3 ] 1 ]")
    torch.testing.assert_close(one, answer("[MAX 1 2 [SM 3 9 ] ]"))
    torch.testing.assert_close(one.exp().sum(dim=-1), torch.ones(1, 1))
    for other in ("[MIN 2 [SM 9 3 ] 1 ]", "[MAX 2 [MIN 9 3 ] 1 ]", "[MAX 2 [SM 9 3 1 ] ]"):
        assert (answer(other) - one).abs().max() > 1e-3
    torch.testing.assert_close(
        answer("[MAX 2 [SM 9 3 ] 1 ]", (-1, 0, 0, 2, 2, -1, 2, -1)), answer("[MAX 2 [SM 9 3 1 ] ]")
    )


@pytest.mark.parametrize(("estimator", "biased"), [(LeaveOneOut(4), False), (StraightThrough(), True)])
def test_gradient_of_the_parser_is_that_of_the_estimator(estimator, biased):
    torch.manual_seed(2)
    model = LatentTree(estimator, size=[8, 2], executor_units=8, rounds=2, parser_units=8).double()
    tokens, value = torch.tensor([parse("[MAX 2 [SM 9 9 ] 1 ]")]), torch.tensor([8])
    place = layout(tokens, 2)
    logits, f = model.parser(tokens, place), model.loss_of_arcs(tokens, value, place)
    free = place.choosing[0].nonzero().squeeze(-1)  # the others have one category
    states = functional.one_hot(torch.zeros(1, 8, dtype=torch.long), 2).double().repeat(2 ** len(free), 1, 1)
    states[:, free] = enumerate_states(len(free), 2, like=logits)
    states = states.unsqueeze(1)
    weight = log_prob(logits, states).sum(dim=-1).exp()
    assert weight.sum().item() == pytest.approx(1)
    (wanted,) = torch.autograd.grad((weight * f(states)).sum(), model.parser.query.weight)
    batch = [part.expand(200, -1) for part in (tokens, value.unsqueeze(-1))]
    many, values = batch[0], batch[1].squeeze(-1)
    found, place = [], layout(many, 2)
    for _ in range(60):
        loss = estimator(model.parser(many, place), model.loss_of_arcs(many, values, place)).mean()
        found.append(torch.autograd.grad(loss, model.parser.query.weight)[0])
    found = torch.stack(found)
    alive = found.std(dim=0) > 0
    z_score = ((found.mean(dim=0) - wanted) / found.std(dim=0))[alive] * math.sqrt(len(found))
    assert (z_score.abs().max() > 4.5) == biased


def fit(folder, estimator, epochs=6, data=None, **options):
    seed_everything(0, verbose=False)
    networks = {"parser_units": 16, "executor_units": 64, "rounds": 2}
    model = LatentTree(estimator(), optimizer=partial(torch.optim.Adam, lr=0.01), **networks | options)
    trainer = quiet_trainer(folder, RankSeed(), max_epochs=epochs)
    trainer.fit(model, datamodule=data or ListOps(**LEARNT))
    return model, trainer


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [ReinMax, GumbelSoftmax, LeaveOneOut, ILSNewton])
def test_every_kind_of_estimator_learns_to_answer(estimator, tmp_path):
    model, trainer = fit(tmp_path, estimator)
    steps, values = model.curve()
    assert steps.tolist() == list(range(10, 61, 10))
    assert values[-1] < values[0] - 0.3
    one_answer = ListOps(**LEARNT).splits.val.value.bincount().max() / 300
    assert trainer.callback_metrics["val/error"] < 1 - one_answer - 0.1
    assert "wrong arcs" in model.summary()["validation"]
    assert set(model.figures()) == {"arcs"}
    (found,) = trainer.test(model, datamodule=ListOps(**LEARNT), verbose=False)
    assert set(found) == {"test/loss", "test/error", "test/error_of_draws", "test/wrong_arcs"}


def test_problem_is_what_the_estimator_is_asked_and_rows_do_not_mix():
    model = LatentTree(Exact(), size=[12, 3])
    batch = next(iter(ListOps(**SMALL).train_dataloader()))
    logits, f, _ = model.problem(batch)
    assert logits.shape == (100, 12, 3)
    z = torch.eye(3)[torch.randint(3, (2, 100, 12))]
    torch.testing.assert_close(f(z)[1], f(z[1:])[0])
    one = [part[:1] for part in batch]
    alone = model.problem(type(batch)(*one)).loss(z[:, :1])
    torch.testing.assert_close(alone, f(z)[:, :1])


def test_other_data_and_bad_options_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match="needs data that are expressions, such as --data ListOps, or size; given Digits"
    ):
        fit(tmp_path, ReinMax, data=Digits())
    with pytest.raises(ValueError, match=r"at most \[tokens, operators\] = \[9, 2\]; these are \[8, 2\]"):
        fit(tmp_path, ReinMax, size=[9, 2])
    with pytest.raises(ValueError, match="rounds must be at least 1"):
        LatentTree(ReinMax(), rounds=0)


def test_without_validation_it_is_refused():
    with pytest.raises(ValueError, match="ListOps holds out no expressions for validation"):
        ListOps(**{**SMALL, "validation": 0}).setup("validate")
