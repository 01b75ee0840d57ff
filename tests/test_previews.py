"""Models of a comparison are looked at before training as they will be trained."""

from copy import deepcopy

import pytest
from lightning import LightningModule

from ils_lightning.compare.training.previews import Previews
from ils_lightning.describe import preview
from ils_lightning.errors import Refusal
from ils_lightning.modules import DiscreteVAE
from ils_lightning.packaged import load


def description(name: str, estimator: dict, **arguments: object) -> dict:
    found = deepcopy(load(name, "run")["model"])
    found["init_args"] |= {"estimator": estimator, "image_shape": [1, 8, 8]} | arguments
    return found


REINMAX, NEWTON = ({"class_path": name, "init_args": {}} for name in ("ReinMax", "ILSNewton"))
NESTED = {"class_path": "Average", "init_args": {"estimator": {"class_path": "ReinMax"}, "samples": 3}}


@pytest.mark.parametrize("estimator", [REINMAX, NEWTON, NESTED], ids=["ReinMax", "ILSNewton", "Average"])
def test_what_is_made_of_parts_is_what_is_made_at_once(estimator: dict) -> None:
    previews = Previews()
    previews.make(description("vae_digits", {"class_path": "StraightThrough"}))
    for _ in range(2):  # the second time every part has been made before
        found = previews.make(description("vae_digits", estimator))
        expected = preview(description("vae_digits", estimator), LightningModule)
        assert type(found) is type(expected)
        assert repr(found.estimator) == repr(expected.estimator)
        shapes, others = ({name: one.shape for name, one in model.state_dict().items()} for model in (found, expected))
        assert shapes == others


def test_other_settings_are_other_models() -> None:
    previews = Previews()
    sizes = [previews.make(description("vae_digits", REINMAX, latents=latents)).latents for latents in (3, 5, 3)]
    assert sizes == [3, 5, 3]


@pytest.mark.parametrize(
    ("estimator", "arguments"),
    [
        ({"class_path": "DisArm"}, {}),
        ({"class_path": "ReinMaxx"}, {}),
        ({"class_path": "ReinMax", "init_args": {"temperature": "warm"}}, {}),
        (REINMAX, {"latents": 0}),
        (REINMAX, {"latent": 3}),
    ],
)
def test_a_mistake_is_told_as_if_all_were_parsed(estimator: dict, arguments: dict) -> None:
    previews = Previews()
    previews.make(description("vae_digits", REINMAX))
    wrong = description("vae_digits", estimator, **arguments)
    with pytest.raises(Refusal) as found:
        previews.make(wrong)
    with pytest.raises(Refusal) as expected:
        preview(wrong, LightningModule)
    assert str(found.value) == str(expected.value)


class Handing(DiscreteVAE):
    """A model that hands most of its options on."""

    def __init__(self, scale: float = 1.0, **options: object) -> None:
        super().__init__(**options)  # pyright: ignore[reportArgumentType]
        self.scale = scale


def test_options_that_are_handed_on_are_parsed_every_time() -> None:
    previews = Previews()
    for estimator in (REINMAX, NEWTON):
        wanted = description("vae_digits", estimator) | {"class_path": f"{__name__}.Handing"}
        assert type(previews.make(wanted).estimator).__name__ == estimator["class_path"]
