"""The sets of images known by name."""

from pathlib import Path

from ils_lightning.data.idx_source import IDXSource
from ils_lightning.data.omniglot_source import OmniglotSource
from ils_lightning.data.source import Source

MNIST = IDXSource(
    name="mnist",
    files={
        "train-images-idx3-ubyte": "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    suffix=".gz",
    layout="MNIST/raw",
    validation=10_000,
)
"""LeCun, Cortes and Burges: 60 000 and 10 000 handwritten digits of 28x28."""

FASHION_MNIST = IDXSource(
    name="fashion_mnist",
    files={
        "train-images-idx3-ubyte": "sha256:c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "sha256:bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "sha256:5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "sha256:0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    suffix=".gz",
    layout="FashionMNIST/raw",
    validation=10_000,
    system=Path("/usr/share/datasets/fashion-mnist"),
)
"""Xiao, Rasul and Vollgraf, Fashion-MNIST, 2017, arXiv:1708.07747 (MIT): 60 000 and 10 000 clothes of 28x28."""

OMNIGLOT = OmniglotSource(
    name="omniglot",
    files={"chardata.mat": "git:016a3536ffe5e1d38e42563a18d7a78bfaf643ec"},
    mirrors=(
        "https://raw.githubusercontent.com/yburda/iwae/78a6075484bd7dd6f47a4bb9880d2295bc7a5220/datasets/OMNIGLOT/",
    ),
    suffix="",
    layout="OMNIGLOT",
    validation=1_345,
)

CATALOGUE: dict[str, Source] = {source.name: source for source in (MNIST, FASHION_MNIST, OMNIGLOT)}
