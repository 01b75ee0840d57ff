"""The tables of docs/results.md are those that the CSVs give."""

import sys

import pytest
from pages import ROOT, Page

sys.path.append(str(ROOT / "experiments"))
import results_tables

PAGE = Page(ROOT / "docs" / "results.md")


def test_the_page_holds_the_tables_of_the_files():
    assert results_tables.filled(PAGE.text) == PAGE.text


@pytest.mark.parametrize("name", results_tables.TABLES)
def test_every_table_is_on_the_page(name):
    assert f"<!-- table: {name} -->" in PAGE.text
    assert results_tables.TABLES[name]() in PAGE.text


def test_a_table_by_hand(monkeypatch, tmp_path):
    (tmp_path / "docs" / "results").mkdir(parents=True)
    lines = ["run,setting,seed,x", "A,s,0,1", "A,s,1,2", "B,s,0,2", "B,s,1,5", "C,s,0,"]
    (tmp_path / "docs" / "results" / "small.csv").write_text("\n".join(lines))
    monkeypatch.setattr(results_tables, "ROOT", tmp_path)
    rows = results_tables.against("small", "x", "A").splitlines()
    assert rows[0] == "| run | s |"
    assert rows[2:] == ["| A | **1.50** |", "| B | 3.50 (+2\u00a0±\u00a01) |"]
