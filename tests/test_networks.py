"""The networks: shapes with any leading axes, output bias, what they refuse."""

import pytest
import torch
from lightning import Trainer, seed_everything

from ils_lightning import packaged
from ils_lightning.callbacks import RankSeed
from ils_lightning.data.base import DiscreteData
from ils_lightning.describe import create, describe
from ils_lightning.modules import DiscreteModule
from ils_lightning.networks import MLP, ConvDecoder, ConvEncoder, Network
from ils_lightning.networks.code_map import ToLatents, ToMap, map_sizes

SMALL = {"channels": 8}
CASES = [
    (MLP, {"hidden": [16, 12]}, (1, 8, 8), (8, 4)),
    (MLP, {"hidden": []}, (8, 4), (3, 8, 8)),
    (MLP, {"hidden": [16], "activation": "leaky_relu", "leak": 0.3}, (8, 4), (1, 8, 8)),
    (MLP, {"hidden": [16], "activation": "tanh"}, (8, 4), (1, 8, 8)),
    *[
        (ConvEncoder, SMALL, (channels, size, size), (latents, 5))
        for channels, size, latents in [(1, 8, 4), (1, 8, 64), (1, 28, 49), (1, 28, 16), (3, 32, 64), (3, 32, 16)]
    ],
    *[
        (ConvDecoder, SMALL, (latents, 5), (channels, size, size))
        for channels, size, latents in [(1, 8, 4), (1, 8, 64), (1, 28, 49), (1, 28, 16), (6, 32, 64), (6, 32, 16)]
    ],
    (ConvEncoder, {"channels": 8, "residual_blocks": 0}, (3, 9, 14), (12, 2)),
    (ConvDecoder, {"channels": 8, "residual_blocks": 0}, (12, 2), (3, 9, 14)),
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0].__name__}-{case[2]}-{case[3]}-{case[1]}")
def network(request) -> Network:
    torch.manual_seed(0)
    kind, options, inputs, outputs = request.param
    network = kind(**options)
    network.build(inputs, outputs)
    return network


@pytest.mark.parametrize("leading", [(), (3,), (1, 3), (2, 3), (2, 1, 3), (0, 3)])
def test_leading_axes_fold(network, leading):
    x = torch.randn(*leading, *network.inputs)
    answer = network(x)
    assert answer.shape == (*leading, *network.outputs)
    alone = [network(example) for example in x.reshape(-1, *network.inputs)]
    torch.testing.assert_close(answer.reshape(-1, *network.outputs), torch.stack(alone) if alone else answer[:, 0])


def test_output_bias_is_what_is_added_last(network):
    x = torch.randn(2, *network.inputs)
    network.set_output_bias(torch.zeros(network.outputs))
    before = network(x)
    bias = torch.randn(network.outputs)
    network.set_output_bias(bias)
    torch.testing.assert_close(network(x), before + bias)


def test_every_parameter_and_the_input_receive_a_gradient(network):
    x = torch.randn(4, *network.inputs, requires_grad=True)
    network(x).square().sum().backward()
    gradients = [x.grad, *(parameter.grad for parameter in network.parameters())]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


def test_description_makes_the_same_network(network):
    again = create(describe(network), Network)
    again.build(network.inputs, network.outputs)
    again.load_state_dict(network.state_dict())
    x = torch.randn(2, *network.inputs)
    torch.testing.assert_close(again(x), network(x))


def test_building_twice_keeps_the_layers_and_refuses_other_sizes(network):
    parameters = list(network.parameters())
    network.build(list(network.inputs), list(network.outputs))
    assert all(one is other for one, other in zip(parameters, network.parameters(), strict=True))
    with pytest.raises(ValueError, match="keeps the sizes it was built with"):
        network.build(network.inputs, (*network.outputs[:-1], network.outputs[-1] + 1))


def test_wrong_input_and_bias_are_named(network):
    with pytest.raises(ValueError, match=r"was built for x \[\*any, \*inputs\]"):
        network(torch.zeros(2, *network.inputs[:-1], network.inputs[-1] + 1))
    with pytest.raises(ValueError, match=r"was built for x"):
        network(torch.zeros(network.inputs[1:]))
    with pytest.raises(ValueError, match="output bias must be"):
        network.set_output_bias(torch.zeros(network.outputs[1:]))


@pytest.mark.parametrize("kind", [MLP, ConvEncoder, ConvDecoder])
def test_unbuilt_networks_say_so(kind):
    with pytest.raises(ValueError, match="has no layers before build"):
        kind()(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="has no layers before build"):
        kind().set_output_bias(torch.zeros(3))


def test_mlp_is_the_networks_of_the_papers():
    encoder = MLP()
    encoder.build((1, 28, 28), (8, 4))
    assert [p.numel() for p in encoder.state_dict().values()] == [784 * 512, 512, 512 * 256, 256, 256 * 32, 32]
    linear = MLP(hidden=[])
    linear.build((1, 2, 2), (2, 2))
    x = torch.randn(5, 1, 2, 2)
    weight, bias = linear.parameters()
    torch.testing.assert_close(linear(x), (x.reshape(5, 4) @ weight.T + bias).reshape(5, 2, 2))


def test_leaky_relu_has_its_slope():
    network = MLP(hidden=[1], activation="leaky_relu", leak=0.3)
    network.build((1,), (1,))
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), (1.0, 0.0, 1.0, 0.0), strict=True):
            parameter.fill_(value)
    torch.testing.assert_close(network(torch.tensor([[-2.0], [2.0]])), torch.tensor([[-0.6], [2.0]]))


def test_code_maps_are_read_row_by_row_and_not_copied():
    z = torch.arange(24.0).reshape(1, 6, 4)
    image = ToMap(2, 3)(z)
    torch.testing.assert_close(image[0, :, 1, 2], z[0, 5])
    assert image.data_ptr() == z.data_ptr()
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert ToLatents()(image).data_ptr() == z.data_ptr()
    torch.testing.assert_close(ToLatents()(image), z)


def test_a_place_of_the_code_map_sees_the_image_around_it():
    encoder = ConvEncoder(channels=8, residual_blocks=0)
    encoder.build((1, 32, 32), (64, 3))
    x = torch.zeros(1, 32, 32, requires_grad=True)
    encoder(x)[2 * 8 + 5].sum().backward()  # row 2, column 5 of the 8 x 8 map: centre (10, 22)
    rows, columns = x.grad[0].nonzero().T
    assert rows.min() <= 8 < 11 <= rows.max() < 20
    assert 12 < columns.min() <= 20 < 23 <= columns.max()


@pytest.mark.parametrize(("latents", "nearest"), [(30, 16), (48, 49), (0, 1), (900, 784)])
def test_latents_that_fit_no_code_map_are_refused(latents, nearest):
    fitting = "784 = 28x28, 196 = 14x14, 49 = 7x7, 16 = 4x4, 4 = 2x2, 1 = 1x1"
    with pytest.raises(ValueError, match=rf"{fitting}; given {latents} \(nearest: {nearest}\)"):
        map_sizes(28, 28, latents)
    with pytest.raises(ValueError, match="places of a code map"):
        ConvEncoder().build((1, 28, 28), (latents, 4))
    with pytest.raises(ValueError, match="places of a code map"):
        ConvDecoder().build((latents, 4), (1, 28, 28))


@pytest.mark.parametrize("kind", [ConvEncoder, ConvDecoder])
def test_flat_data_are_refused_by_convolutions(kind):
    with pytest.raises(ValueError, match=r"\[channels, height, width\] and \[latents, categories\]"):
        kind().build((64,), (16, 4))


@pytest.mark.parametrize(
    ("kind", "options", "match"),
    [
        (MLP, {"hidden": [0]}, "at least 1 unit; given"),
        (MLP, {"activation": "gelu"}, "must be relu, leaky_relu or tanh; given 'gelu'"),
        (MLP, {"leak": 0.3}, "leak belongs to activation='leaky_relu'"),
        (MLP, {"activation": "leaky_relu", "leak": float("nan")}, "leak must be finite"),
        (ConvEncoder, {"channels": 0}, "channels must be at least 1"),
        (ConvDecoder, {"residual_blocks": -1}, "residual_blocks must be at least 0"),
        (Network, {}, "abstract"),
    ],
)
def test_bad_options_are_named(kind, options, match):
    with pytest.raises(ValueError, match=match):
        kind(**options)


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_tokeniser_of_the_digits_uses_all_its_latents_after_eight_epochs(seed):
    seed_everything(seed, verbose=False)
    config = packaged.load("tokenizer_digits")
    model, data = create(config["model"], DiscreteModule), create(config["data"], DiscreteData)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(**{**config["trainer"], "max_epochs": 8, **quiet}, accelerator="cpu", callbacks=[RankSeed()])
    trainer.fit(model, datamodule=data)
    assert trainer.callback_metrics["val/active_latents"] >= 15
    assert trainer.callback_metrics["val/kl"] > 3
