"""As many categories as a vocabulary has words, within a bound of memory."""

import os
import subprocess
import sys

import pytest

from ils_lightning.cli import main

RUN = ["fit", "--config=vae_vocabulary", "--trainer.enable_progress_bar=false", "--trainer.enable_checkpointing=false"]


def test_the_run_works_with_few_categories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main([*RUN, "--model.categories=50", "--trainer.max_epochs=1"])


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is counted in other units elsewhere")
def test_a_run_with_32_000_categories_stays_below_1_200_megabytes(tmp_path):
    words = [*RUN, "--trainer.limit_train_batches=5", "--trainer.max_epochs=1", "--trainer.logger=false"]
    process = subprocess.Popen([sys.executable, "-m", "ils_lightning", *words], cwd=tmp_path)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert usage.ru_maxrss / 1024 < 1200
