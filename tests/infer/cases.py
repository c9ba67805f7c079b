"""Small data sets, networks and loaders that the tests of inference share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from pyrosparse import SparseModel
from pyrosparse.data import TensorLoader
from pyrosparse.guides import AutoSparse
from pyrosparse.likelihoods import Categorical
from pyrosparse.models import mlp
from pyrosparse.priors import LogUniform, Prior

EXAMPLES, FEATURES, CLASSES = 60, 5, 3


def labelled(seed: int = 0, examples: int = EXAMPLES) -> tuple[Tensor, Tensor]:
    """Points whose label is the largest of their first three coordinates."""
    x = torch.randn(examples, FEATURES, generator=torch.Generator().manual_seed(seed))
    return x, x[:, :CLASSES].argmax(1)


def pictures(seed: int = 0) -> tuple[Tensor, Tensor]:
    """4×4 images whose label says which of three rows is bright."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (EXAMPLES,), generator=generator)
    x = 0.3 * torch.randn(EXAMPLES, 1, 4, 4, generator=generator)
    x[torch.arange(EXAMPLES), 0, y] += 1.0
    return x, y


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 6, 3, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(24, 8),
            relu2=nn.ReLU(),
            fc2=nn.Linear(8, CLASSES),
        )
    )


def pair(
    *,
    network: Callable[[], nn.Module] | None = None,
    prior: Prior | None = None,
    seed: int = 0,
    num_data: int = EXAMPLES,
    log_var: float = -6.0,
) -> tuple[SparseModel, AutoSparse]:
    """A model and its guide, always with the same initial weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = mlp((FEATURES, 12, 8, CLASSES)) if network is None else network()
    model = SparseModel(net, prior or LogUniform(), Categorical(num_data=num_data))
    return model, AutoSparse(model, log_var=log_var)


def batches(*, batch_size: int = 20, **options: object) -> TensorLoader:
    x, y = labelled()
    return TensorLoader(x, y, batch_size, **options)


def kill_units(guide: AutoSparse, site: str, units: Iterable[int], axis: int = 0) -> None:
    """Make every weight into (axis 0) or out of (axis 1) some units certain to be noise: log α = 14."""
    family = guide.families[site]
    index = torch.tensor(list(units))
    with torch.no_grad():
        family.loc.index_fill_(axis, index, 1e-3)
        family.log_var.index_fill_(axis, index, 0.0)


class Interrupted:
    """A loader that raises after some batches: Ctrl-C, or a process that is killed."""

    def __init__(self, loader: TensorLoader, after: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.loader, self.left, self.error = loader, after, error

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.loader:
            if self.left == 0:
                raise self.error
            self.left -= 1
            yield batch
