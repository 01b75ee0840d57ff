"""Grid worlds of minigrid: what is seen, done and rewarded, against minigrid itself, and what is refused."""

import gymnasium
import matplotlib.pyplot as plt
import minigrid  # noqa: F401
import numpy as np
import pytest
import torch
from matplotlib.collections import QuadMesh
from trainers import quiet_trainer

from ils_lightning.data import MiniGrid
from ils_lightning.data.batches import generator
from ils_lightning.data.episodes import Episodes
from ils_lightning.data.mini_grid import KINDS, kinds, recorded
from ils_lightning.modules import WorldModel
from ils_lightning.modules.world_model_pictures import imagined_views

ROOM = "MiniGrid-Empty-Random-5x5-v0"
FEW = {"train": 40, "validation": 4, "test": 4}


def names(view):
    """The kinds of the cells of a one-hot view, by rows from the farthest."""
    return [[KINDS[kind] for kind in row] for row in view.view(7, 7, len(KINDS)).argmax(-1).tolist()]


def test_a_view_says_what_each_cell_holds():
    """Minigrid's view has the column first; a door is number 4, with states open, closed, locked."""
    view = np.zeros((7, 7, 3), dtype=np.uint8)
    view[..., 0] = 1
    view[2, 0], view[4, 0], view[6, 0] = (4, 0, 0), (4, 3, 1), (4, 5, 2)
    view[0, 6], view[3, 6], view[5, 1] = (0, 0, 0), (5, 4, 0), (8, 1, 0)
    seen = kinds(torch.from_numpy(view))
    assert seen.sum() == 49
    told = names(seen)
    assert (told[0][2], told[0][4], told[0][6]) == ("open door", "closed door", "locked door")
    assert (told[6][0], told[6][3], told[1][5], told[3][3]) == ("unseen", "key", "goal", "empty")


def test_sequences_are_what_minigrid_answers_to_their_actions():
    """Another copy of the environment, led by the recorded actions, shows the same views and ends with a reward."""
    found = recorded(ROOM, 3, 12, 40, 5)
    world = gymnasium.make(ROOM, disable_env_checker=True).unwrapped
    world.reset(seed=int(torch.randint(2**31, (), generator=generator(5, 0))))
    rewards = 0
    for sequence in range(12):
        for step in range(40):
            view, action, first, goes_on, reward = (part[sequence, step] for part in found)
            if first:
                seen, _ = world.reset()
                gained, ended = 0.0, False
                assert action == 0
            else:
                seen, gained, ended, _, _ = world.step(int(action))
            assert torch.equal(view, kinds(torch.from_numpy(seen["image"])))
            assert bool(reward) == (gained > 0)
            assert bool(goes_on) == (not ended)
            rewards += int(reward)
    assert rewards >= 3  # the goal is found now and then


def test_an_episode_that_is_cut_off_is_not_an_end():
    """Turning on the spot, nothing is reached: minigrid cuts at 100 steps, 4 x 5 x 5."""
    found = recorded(ROOM, 1, 2, 202, 0)
    assert found.first.nonzero().tolist() == [[row, step] for row in range(2) for step in (0, 101)]
    assert found.goes_on.all()
    assert not found.reward.any()


def test_data_are_a_function_of_the_seed_and_off_the_mean_by_one():
    one, other = MiniGrid(ROOM, **FEW), MiniGrid(ROOM, **FEW, seed=1)
    train = one.splits.train.episodes
    recorded.cache_clear()
    assert torch.equal(train.observation, MiniGrid(ROOM, **FEW).splits.train.episodes.observation)
    assert not torch.equal(train.observation, other.splits.train.episodes.observation)
    steps = train.observation.flatten(0, 1)
    torch.testing.assert_close(steps.mean(0), torch.zeros(588), atol=1e-4, rtol=0)
    assert float(steps.square().mean()) == pytest.approx(1, abs=1e-3)
    whole = (train.observation + one.cells.mean).unflatten(-1, (49, len(KINDS)))
    high = whole.amax(-1)
    torch.testing.assert_close(high, high.flatten()[0].expand_as(high), rtol=1e-3, atol=1e-3)  # the one of one-hot
    assert first_actions_are_none(train)
    assert one.summary()["data"] == f"{ROOM}, random policy of 3 actions"


def first_actions_are_none(episodes):
    return bool((episodes.action[episodes.first] == 0).all()) and set(episodes.action.unique().tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"environment": "MiniGrid-Emty-5x5-v0"}, "one of minigrid's.*did you mean 'MiniGrid-Empty-5x5-v0'"),
        ({"environment": "CartPole-v1"}, "one of minigrid's, such as MiniGrid-DoorKey-5x5-v0; given 'CartPole-v1'"),
        ({"environment": "os:system"}, "one of minigrid's"),
        ({"actions": 8}, "actions must be 1 to 7: left, right, forward, pick up, drop, toggle, done; given 8"),
        ({"length": 1}, "MiniGrid: length must be at least 2; given 1$"),
        ({"train": 0}, "given 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MiniGrid(**options)


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("ils_lightning.extras.find_spec", lambda package: None)
    with pytest.raises(ValueError, match=r"MiniGrid needs minigrid: pip install 'ils-lightning\[worlds\]'"):
        MiniGrid()


def test_a_picture_shows_true_and_imagined_views():
    data = MiniGrid(ROOM, **FEW)
    batch = Episodes(*(part[:2] for part in data.splits.val.episodes))
    first = torch.zeros_like(batch.first)
    first[1, 9] = True  # the second episode has nine steps: two of the seen, three imagined
    dreams = batch.observation[:, 6:11].clone()
    dreams[0] = dreams[0].roll(1, 0)
    figure = imagined_views(batch._replace(first=first), batch.observation[:, :6], dreams.unsqueeze(0), data.cells)
    drawn = [[mesh.get_array() for mesh in axes.collections if isinstance(mesh, QuadMesh)] for axes in figure.axes]
    assert [len(row) for row in drawn] == [1] * 14 + ([1] * 5 + [0] * 2) * 2
    true, imagined = drawn[:7], drawn[7:14]
    assert all((a[0] == b[0]).all() for a, b in zip(true[:2], imagined[:2], strict=True))
    assert (true[2][0] == imagined[3][0]).all()
    assert [KINDS[kind] for kind in true[0][0][6]] == names(batch.observation[0, 4] + data.cells.mean)[6]
    plt.close(figure)


@pytest.mark.long
def test_a_world_of_cells_is_learnt(tmp_path):
    torch.manual_seed(0)
    options = {"latents": 6, "categories": 6, "context": 4, "horizon": 6, "deviation": 1.0}
    model = WorldModel("ReinMax", **options, optimizer=lambda p: torch.optim.Adam(p, lr=0.006))
    trainer = quiet_trainer(tmp_path, max_epochs=4)
    trainer.fit(model, datamodule=MiniGrid(ROOM, train=640, validation=64, test=8, length=12))
    assert trainer.callback_metrics["val/open_loop_error"] < 0.5  # a guess of the mean has 1
    (picture,) = model.figures().values()
    assert len(picture.axes) == 4 * 8
