"""experiments/commitment_table.py: how sure relational inference is of its graphs, of a tiny training."""

import csv
import io
import math

import commitment_table
import pytest

from ils_lightning.data import Springs


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_a_line_is_printed_at_every_mark(monkeypatch, capsys):
    few = {"points": 9, "train": 96, "validation": 32, "test": 32}
    monkeypatch.setattr(commitment_table, "Springs", lambda **options: Springs(**options, **few))
    monkeypatch.setattr(commitment_table, "ROWS", 2)
    commitment_table.main(runs=["ILSJoint, held"], seeds=[0], marks=[4, 1], draws=32)
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(line["run"], line["step"]) for line in lines] == [("ILSJoint, held", "1"), ("ILSJoint, held", "4")]
    commitment_table.main(runs=["ILSJoint"], seeds=[0], marks=[4, 1], draws=32)
    _, free = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert float(lines[-1]["kl"]) != float(free["kl"])  # the weight that "held" names is at work
    assert all(0 <= float(line["wrong_edges"]) <= 1 for line in lines)
    assert all(0 <= float(line["kl"]) <= 20 * math.log(2) for line in lines)
    assert all(0 < float(line["cosine_of_one"]) <= 1 for line in lines)
