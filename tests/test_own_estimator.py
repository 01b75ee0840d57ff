"""An estimator of one's own that holds another, in a comparison."""

from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from ils_lightning.compare.grid.spec import read
from ils_lightning.describe import create
from ils_lightning.estimators import Estimator, Loss, ReinMax


class Holder(Estimator):
    def __init__(self, estimator: Estimator) -> None:
        super().__init__()
        self.estimator = estimator

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        return self.estimator.estimate(logits, f)


def test_its_description_stays_plain_data(tmp_path: Path) -> None:
    inner = {"class_path": "ReinMax", "init_args": {"temperature": 1.5}}
    holder: dict[str, Any] = {"class_path": f"{__name__}.Holder", "init_args": {"estimator": inner}}
    change = {"model.init_args.estimator": holder}
    file = tmp_path / "own.yaml"
    file.write_text(
        yaml.safe_dump({"title": "own", "base": "toy1", "seeds": [0], "runs": [{"name": "a", "change": change}]})
    )
    comparison = read(str(file))
    config = comparison.configuration(comparison.runs[0], 0, "", {})
    yaml.safe_dump(config)
    made = create(config["model"]["init_args"]["estimator"], Estimator)
    assert isinstance(made.estimator, ReinMax)
    assert made.estimator.temperature == 1.5
