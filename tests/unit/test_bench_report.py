"""The pages with figures show what the files of results say, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import report


@pytest.mark.parametrize("page", report.PAGES, ids=lambda page: page.name)
def test_the_tables_are_those_of_the_results(page: Path) -> None:
    text = page.read_text()
    made = report.filled(text, report.PAGES[page])
    assert made == text, "run `python -m bench.report`"


@pytest.mark.parametrize("name", sorted(report.drawn()))
def test_the_plots_are_those_of_the_results(name: str) -> None:
    drawn = (report.PLOTS / name).read_text()
    assert drawn == report.drawn()[name], "run `python -m bench.report`"


def test_a_figure_that_was_changed_by_hand_is_found() -> None:
    text = report.README.read_text()
    assert "| met |" in text
    assert report.filled(text.replace("| met |", "| nearly met |")) == text


def test_a_readme_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(KeyError, match="cost: lines"):
        report.filled(report.README.read_text().replace("cost: lines", ""))


def test_make_bench_measures_all_that_is_listed() -> None:
    readme, makefile = report.README, report.README.parents[1] / "Makefile"
    listed = re.findall(r"^\| `.*-m (bench\.\w+)` ", readme.read_text(), re.MULTILINE)
    text = makefile.read_text()
    (recipe,) = re.findall(r"^bench: .*\n((?:\t.*\n)+)", text, re.MULTILINE)
    measured = re.findall(r"-m (bench\.\w+)\n", recipe)
    assert listed
    assert sorted(measured) == sorted(listed)
    assert "npm run bench" in recipe
