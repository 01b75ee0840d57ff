"""LightningDataModules: what the models train on."""

from ils_lightning.data.base import DiscreteData
from ils_lightning.data.cart_pole import CartPole
from ils_lightning.data.digits import Digits
from ils_lightning.data.draws import SingleDraws, Targets, TrueDistribution
from ils_lightning.data.episodes import Episodes
from ils_lightning.data.image_batches import ImageBatches
from ils_lightning.data.image_data import ImageData
from ils_lightning.data.image_files import ImageFiles
from ils_lightning.data.images import Images
from ils_lightning.data.listops import ListOps
from ils_lightning.data.mini_grid import MiniGrid
from ils_lightning.data.springs import Springs
from ils_lightning.data.steps import NoData
from ils_lightning.data.sudoku import Puzzles, Sudoku
from ils_lightning.data.text import Text
from ils_lightning.data.trajectory_set import Trajectories

__all__ = [
    "CartPole",
    "Digits",
    "DiscreteData",
    "Episodes",
    "ImageBatches",
    "ImageData",
    "ImageFiles",
    "Images",
    "ListOps",
    "MiniGrid",
    "NoData",
    "Puzzles",
    "SingleDraws",
    "Springs",
    "Sudoku",
    "Targets",
    "Text",
    "Trajectories",
    "TrueDistribution",
]
