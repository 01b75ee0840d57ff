"""As many categories as a vocabulary has words, within a bound of memory."""

import re
import subprocess
import sys

import pytest

from ils_lightning.cli import main

RUN = ["fit", "--config=vae_vocabulary", "--trainer.enable_progress_bar=false", "--trainer.enable_checkpointing=false"]


@pytest.mark.slow
def test_the_run_works_with_few_categories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main([*RUN, "--model.categories=50", "--trainer.max_epochs=1"])


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_a_run_with_32_000_categories_stays_below_1_200_megabytes(tmp_path):
    words = [*RUN, "--trainer.limit_train_batches=5", "--trainer.max_epochs=1", "--trainer.logger=false"]
    script = f"from ils_lightning.cli import main; main({words}); print(open('/proc/self/status').read())"
    answer = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", answer.stdout)
    assert int(peak) / 1024 < 1200
