"""What an epoch's record says of the network: how much of it is left, and how good that is."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn
from torch.func import functional_call

from pyrosparse.errors import PyrosparseWarning
from pyrosparse.guides.auto import AutoSparse
from pyrosparse.infer.evaluate import Batches, Metrics, evaluate_function
from pyrosparse.model import SparseModel
from pyrosparse.posterior.cost import count_flops, expected_cost, output_positions
from pyrosparse.pruning.masks import keep_masks

__all__ = ["Remaining", "validated"]


def validated(model: SparseModel, guide: AutoSparse, loader: Batches, *, threshold: float) -> Metrics:
    """Measure the network with the posterior means that are kept, in evaluation mode.

    :param threshold: largest log α that is kept.
    """
    families = guide.families
    masks = keep_masks(families, threshold)
    weights = {site: family.kept_mean(masks[site]) for site, family in families.items()}
    network = model.network.eval()
    device = next(iter(weights.values())).device
    return evaluate_function(lambda x: functional_call(network, weights, (x,)), loader, model.likelihood, device)


class Remaining:
    """Counts what is left of a network while it is fitted.

    A layer that the network never calls as a module is warned of, and counts as one output position.

    :param model: the model; its input shape must be known.
    :param guide: its guide.
    :param threshold: largest log α that counts as alive.
    """

    def __init__(self, model: SparseModel, guide: AutoSparse, *, threshold: float) -> None:
        self.model, self.guide, self.threshold = model, guide, threshold
        assert model.input_shape is not None
        sites = model.sites.values()
        called = output_positions(
            model.network, [s.layer for s in sites], model.input_shape, complex_input=model.complex_input
        )
        self.positions = {s.layer: called.get(s.layer, 1) for s in sites}
        if unseen := [repr(layer) for layer in self.positions if layer not in called]:
            warnings.warn(
                f"{', '.join(unseen)}: never called as a module, so that its operations count as for one output "
                "position. Where the network reads its weight otherwise, as attention does, only this count is too "
                "low; exclude a layer that is not used at all: no data will speak for its weights",
                PyrosparseWarning,
                stacklevel=4,
            )
        modules: dict[str, nn.Module] = {s.layer: model.network.get_submodule(s.layer) for s in sites}
        self.biases = {layer: module.bias is not None for layer, module in modules.items()}
        self.total = sum(site.total for site in sites)
        self.flops = sum(
            count_flops(s.shape, s.out_axis, self.positions[s.layer], bias=self.biases[s.layer], parts=s.parts)
            for s in sites
        )

    def record(self) -> dict[str, Any]:
        """Weights kept, their expected number, expected operations, and the size of the layers as they are now.

        A complex weight counts as two numbers.
        """
        model, families = self.model, self.guide.families
        cost = expected_cost(families, model.sites, self.positions, biases=self.biases, threshold=self.threshold)
        now = sum(model.network.get_parameter(site).numel() for site in model.sites)
        return {
            "kept": sum(f.parts * int(f.keep(self.threshold).sum()) for f in families.values()),
            "total": self.total,
            "dense_rate": self.total / max(1, now),
            "expected_weights": cost.weights,
            "expected_flops": cost.flops,
            "total_flops": self.flops,
            "units": {site.layer: len(model.kept[site.layer][0]) for site in model.sites.values()},
        }
