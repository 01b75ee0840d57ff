"""Compiled networks: one line of the configuration, the same numbers with every estimator, the same checkpoints."""

import pytest
import torch
from examples import EXAMPLES
from lightning import Trainer

from ils_lightning.callbacks import CompiledNetworks
from ils_lightning.callbacks.compiled_networks import compile_networks, differentiates_twice
from ils_lightning.cli import main
from ils_lightning.estimators import Average, ILSNewton, Rebar, ReinMax, Relax
from ils_lightning.modules import DiscreteVAE
from ils_lightning.networks import MLP

# torch.compile itself looks at what it then warns of
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
IMAGES = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def networks():
    """Encoder and decoder by number of categories, plain and compiled, with the same weights."""
    torch.compiler.reset()
    torch.manual_seed(0)
    made = {}
    for categories in (2, 3):
        for compiled in (False, True):
            model = vae(ReinMax(), categories, MLP([5]), MLP([6]))
            if compiled:
                model.load_state_dict(made[categories, False].state_dict())
                compile_networks(model, "aot_eager")
            made[categories, compiled] = model
    with torch._dynamo.config.patch(recompile_limit=64):  # for all examples share the networks
        yield {key: (model.encoder, model.decoder) for key, model in made.items()}
    torch.compiler.reset()


def vae(estimator, categories, encoder, decoder):
    return DiscreteVAE(estimator, 2, categories, encoder=encoder, decoder=decoder, image_shape=[1, 4, 4])


def gradients(model):
    torch.manual_seed(1)
    model.zero_grad()
    loss = model.objective(IMAGES).loss
    loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.long
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_every_estimator_computes_the_same_through_compiled_networks(networks, example):
    torch.manual_seed(2)
    estimator = example.make().eval()
    if any(map(differentiates_twice, estimator.modules())):
        pytest.skip("differentiates twice: CompiledNetworks leaves its networks alone, see below")
    categories = 2 if estimator.binary else 3
    plain, compiled = (gradients(vae(estimator, categories, *networks[categories, way])) for way in (False, True))
    torch.testing.assert_close(compiled, plain)


@pytest.mark.parametrize("make", [Rebar, lambda: Relax(relaxed_loss=True), lambda: Average(Rebar(), samples=2)])
def test_networks_that_are_differentiated_twice_stay_as_they_are(make, caplog):
    model = vae(make(), 3, MLP([5]), MLP([6]))
    CompiledNetworks("aot_eager").setup(Trainer(logger=False), model, "fit")
    assert model.decoder._compiled_call_impl is None
    assert "differentiates them twice" in caplog.text
    gradients(model)


@pytest.mark.slow
def test_the_switch_leaves_checkpoints_as_they_are(tmp_path, capsys):
    few = ["--trainer.default_root_dir", str(tmp_path), "--trainer.accelerator", "cpu"]
    few += [f"--trainer.limit_{stage}_batches=2" for stage in ("train", "val", "test")]
    switch = ["--trainer.callbacks+=CompiledNetworks", "--trainer.callbacks.backend=aot_eager"]
    main(["fit", "--config", "vae_digits", "--trainer.max_epochs=1", *few, *switch])
    last = tmp_path / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"
    keys = torch.load(last, weights_only=True)["state_dict"].keys()
    assert keys == DiscreteVAE(ILSNewton(), image_shape=[1, 8, 8]).state_dict().keys()
    capsys.readouterr()
    main(["test", "--ckpt_path", str(last), *few])
    assert "-ELBO" in capsys.readouterr().out


def test_an_unknown_backend_is_named():
    with pytest.raises(ValueError, match=r"backend must be one of .*inductor.*given 'inducter'"):
        CompiledNetworks("inducter")
