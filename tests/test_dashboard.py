"""What TensorBoard shows of runs, read back from the event files as TensorBoard reads them."""

import re
from itertools import pairwise
from types import SimpleNamespace

import markdown
import pytest
import torch
import yaml
from lightning import seed_everything
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.data.provider import ListHyperparametersResult
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.backend_context import Context
from torch.optim.lr_scheduler import ExponentialLR
from trainers import keep_last, quiet_trainer

from ils_lightning.callbacks import Dashboard, Figures, GradientProbe, Hyperparameters, LearningRate
from ils_lightning.callbacks.dashboard import layout
from ils_lightning.cli import main
from ils_lightning.data import Digits
from ils_lightning.describe import options
from ils_lightning.estimators import ILS, Average, Grouped, GumbelRao, LatinHypercube, LeaveOneOut, ReinMax, table
from ils_lightning.formula import formulas
from ils_lightning.modules import DiscreteModule, DiscreteVAE

FIT = ["--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1", "--trainer.val_check_interval=1"]
FIT += ["--trainer.check_val_every_n_epoch=null", "--trainer.limit_test_batches=1", "--trainer.max_steps=2"]
SCHEDULER = ["--model.lr_scheduler=ExponentialLR", "--model.lr_scheduler.gamma=0.5"]
WORLD = '--model.world={"estimator": "ReinMax", "size": [4, 2]}'
RUNS = {
    "toy1": ["--model.chunk=2", "--trainer.max_steps=4"],
    "polynomial": ["--model.chunk=2", "--trainer.max_steps=4", *SCHEDULER],
    "vae_digits": ["--model.estimator=ILS"],
    "vae_hierarchical": [],
    "hard_attention": ["--data.validation=100"],
    "moe_text": ["--trainer.limit_val_batches=1"],
    "world_model": ["--trainer.limit_val_batches=1"],
    "imagination_cart_pole": [
        WORLD,
        "--trainer.limit_val_batches=1",
    ],
}


def events(folder, **sizes):
    return EventAccumulator(str(folder), {"images": 0, "scalars": 0, "tensors": 0, **sizes}).Reload()


def charts(found):
    """The layout by category and title, from all its events."""
    written = found.Tensors("custom_scalars__config__")
    assert len(written) == 1
    parsed = layout_pb2.Layout.FromString(written[0].tensor_proto.string_val[0])
    return {one.title: {chart.title: list(chart.multiline.tag) for chart in one.chart} for one in parsed.category}


def text(found, tag):
    (written,) = found.Tensors(f"{tag}/text_summary")
    return written.tensor_proto.string_val[0].decode()


def fit(folder, estimator, callbacks, logger=None, resume=None, epochs=1, scheduler=None):
    seed_everything(5, verbose=False)
    logger = logger or TensorBoardLogger(folder, name="", default_hp_metric=False)
    short = {"max_epochs": epochs, "limit_train_batches": 2, "log_every_n_steps": 1}
    trainer = quiet_trainer(folder, *callbacks, keep_last(folder), logger=logger, **short)
    model = DiscreteVAE(estimator=estimator, latents=2, categories=3, draws=2, lr_scheduler=scheduler)
    trainer.fit(model, datamodule=Digits(), ckpt_path=resume)
    return model, trainer


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of two runs of different estimators, with a test after the fit."""
    folder = tmp_path_factory.mktemp("runs")
    for estimator in (LeaveOneOut(samples=3), ReinMax(temperature=1.3)):
        callbacks = [Dashboard(), Hyperparameters(), Figures(), GradientProbe(rivals=["ILSCV"], share=1.0)]
        callbacks.append(LearningRate())
        model, trainer = fit(folder, estimator, callbacks, epochs=2, scheduler=lambda one: ExponentialLR(one, 0.9))
        trainer.test(model, datamodule=Digits(), verbose=False)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", list(RUNS))
def test_every_chart_of_a_packaged_run_shows_something(name, tmp_path):
    main(["fit", f"--config={name}", *FIT, *RUNS[name], f"--trainer.default_root_dir={tmp_path}"])
    (run,) = tmp_path.rglob("version_0")
    found = events(run)
    tags = found.Tags()["scalars"]
    titles = {chart: tags_of for category in charts(found).values() for chart, tags_of in category.items()}
    empty = [title for title, ones in titles.items() if not any(re.match(one, tag) for one in ones for tag in tags)]
    assert empty == []
    shown = {tag for tag in tags if any(re.match(one, tag) for ones in titles.values() for one in ones)}
    assert {tag for tag in tags if "-train/" in tag or "-val/" in tag} - shown == set()
    shown_options = yaml.safe_load(text(found, "run_configuration").strip("`").removeprefix("yaml\n"))
    assert {tag.split("-")[0] for tag in tags} == {shown_options["model"]["class_path"].rpartition(".")[-1]}
    assert shown_options["seed_everything"] == 0
    assert "min_epochs" not in shown_options["trainer"]  # left to Lightning


@pytest.mark.slow
def test_charts_of_callbacks_and_diagnostics_stand_beside_the_module_s(runs):
    for run in ("version_0", "version_1"):
        found = events(runs / run)
        shown = charts(found)
        assert next(iter(shown)) == "DiscreteVAE: objective"
        assert set(shown) == {"DiscreteVAE: objective", "DiscreteVAE: codes", "gradient estimates", "training"}
        pattern = shown["gradient estimates"]["cosine of the mean estimate"][0]
        own = "LeaveOneOut(samples=3)" if run == "version_0" else "ReinMax(temperature=1.3)"
        assert {tag for tag in found.Tags()["scalars"] if re.match(pattern, tag)} == {
            f"gradient/{own}/cosine",
            "gradient/ILSCV/cosine",
        }
        assert list(shown["training"]) == ["learning rate"]
        rates = [(point.step, point.value) for point in found.Scalars("train/learning_rate")]
        assert rates == [(step, pytest.approx(1e-3 * 0.9**step)) for step in range(4)]
    assert layout(DiscreteVAE(ILS()), [])["estimator"] == {"fallback share": ["train/fallback_share"]}


def test_a_module_without_charts_has_the_quantity_it_monitors_and_the_loss():
    class Own(DiscreteModule):
        monitor = "val/error"

    shown = layout(Own(ReinMax(), torch.optim.SGD), [])
    assert shown == {"Own: objective": {"error": ["train/error", "val/error"], "loss": ["train/loss", "val/loss"]}}


def test_runs_of_different_estimators_line_up_in_one_table(runs):
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(runs))
    multiplexer.Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, str(runs)), logdir=str(runs)))
    request = RequestContext()
    written = context.hparams_metadata(request, "")
    nothing = ListHyperparametersResult(hyperparameters=[], session_groups=[])
    experiment = context.experiment_from_metadata(request, "", True, written, nothing)
    columns = [one.name for one in experiment.hparam_infos]
    assert columns[0] == "estimator"  # what differs stands in front
    expected = {"estimator.samples", "estimator.temperature", "model", "model.latents", "optimizer", "optimizer.lr"}
    assert expected | {"seed", "trained_on", "trained_on.batch_size", "trainer.max_epochs"} <= set(columns)
    measured = [one.name.tag for one in experiment.metric_infos][:3]
    assert measured == ["at_end/best_val_loss", "at_end/test_loss", "at_end/val_loss"]
    lines = [
        metadata.parse_session_start_info_plugin_data(written[run][metadata.SESSION_START_INFO_TAG]).hparams
        for run in ("version_0", "version_1")
    ]
    assert [line["estimator"].string_value for line in lines] == ["LeaveOneOut", "ReinMax"]
    assert (lines[0]["estimator.samples"].number_value, lines[1]["estimator.temperature"].number_value) == (3, 1.3)
    assert "estimator.temperature" not in lines[0]
    assert {line["seed"].number_value for line in lines} == {5}
    assert {line["model.encoder"].string_value for line in lines} == {"MLP(hidden=[128])"}


def test_results_in_the_table_are_those_of_the_curves(runs):
    found = events(runs / "version_0")
    (last,), (best,), (test,) = (found.Scalars(f"at_end/{name}") for name in ("val_loss", "best_val_loss", "test_loss"))
    curve = [point.value for point in found.Scalars("val/loss")]
    assert (last.value, best.value) == (curve[-1], min(curve))
    assert test.value == found.Scalars("test/loss")[-1].value
    assert last.step == 4
    assert metadata.SESSION_END_INFO_TAG in found.summary_metadata


def test_the_text_tab_has_the_options_and_the_formula(runs):
    found = events(runs / "version_1")
    options = yaml.safe_load(text(found, "run_configuration").strip("`").removeprefix("yaml\n"))
    assert options["model"]["class_path"] == "DiscreteVAE"
    assert options["model"]["init_args"]["latents"] == 2
    assert text(found, "estimator").startswith("### ReinMax\n")
    assert "| temperature | 1.3 |" in text(found, "estimator")


@pytest.mark.parametrize("kind", table.classes(), ids=lambda kind: kind.__name__)
def test_every_estimator_s_formula_is_rendered(kind):
    made = {
        Average: lambda: Average(GumbelRao(), 2),
        Grouped: lambda: Grouped(ReinMax(), 2),
        LatinHypercube: lambda: LatinHypercube(ReinMax(), 2),
    }
    estimator = made.get(kind, kind)()
    shown = markdown.markdown(formulas(estimator), extensions=["tables", "fenced_code"])  # as TensorBoard does
    assert f"<h3>{kind.__name__}</h3>" in shown
    assert "<pre><code>" in shown
    assert estimator.source in shown.replace("&amp;", "&")
    assert ("<table>" in shown) == any(value is not None for value in options(estimator).values())
    assert not re.search(r"\\[*_]|&amp;(lt|gt|amp);|Example:", shown)


def test_an_estimator_inside_another_has_a_section_of_its_own():
    headings = [line for line in formulas(Average(GumbelRao(), 3)).splitlines() if line.startswith("#")]
    assert headings == ["### Average", "### GumbelRao"]


def test_a_run_resumed_in_its_folder_has_one_layout_and_one_elsewhere_has_its_own(tmp_path):
    def go(version, epochs, resume=None):
        logger = TensorBoardLogger(tmp_path, name="", version=version, default_hp_metric=False)
        fit(tmp_path, ReinMax(), [Dashboard(), Hyperparameters()], logger, resume, epochs)
        return events(tmp_path / version)

    go("a", 1)
    for version, epochs in (("a", 2), ("b", 3)):
        found = go(version, epochs, tmp_path / "last.ckpt")
        assert list(charts(found)) == ["DiscreteVAE: objective", "DiscreteVAE: codes"]
        assert text(found, "estimator").startswith("### ReinMax")
        assert found.Scalars("at_end/val_loss")[-1].step == 2 * epochs


def test_other_loggers_get_nothing(tmp_path):
    logger = CSVLogger(tmp_path, name="", version="csv")
    fit(tmp_path, ReinMax(), [Dashboard(), Hyperparameters(), Figures()], logger)
    assert {path.name for path in (tmp_path / "csv").iterdir()} == {"metrics.csv", "hparams.yaml"}
    assert "at_end" not in (tmp_path / "csv" / "metrics.csv").read_text()


def test_pictures_are_few_in_a_long_run_and_stand_behind_the_scalars(runs):
    found = events(runs / "version_0")
    assert [image.step for image in found.Images("visual/reconstructions")] == [2, 4]
    assert min(found.Tags()["images"] + found.Tags()["histograms"]) > max(found.Tags()["scalars"])
    figures, written = Figures(), []
    figures._write = lambda trainer, module: written.append(figures._seen + 1)
    for _ in range(1000):
        figures.on_validation_end(SimpleNamespace(sanity_checking=False), None)
    assert written[:3] == [1, 2, 4]
    assert all(later == 2 * earlier for earlier, later in pairwise(written))
    assert len(written) == 10
