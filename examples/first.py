"""A Pyro model and guide written by hand: fitted with stock SVI, read in ArviZ, pruned, exported."""

import argparse
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F

import pyrosparse as ps
from pyrosparse import models
from pyrosparse.distributions import DropoutNormal, LogUniform
from pyrosparse.poutine import local_reparam

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=60, help="epochs of variational inference")
parser.add_argument("--out", type=Path, default=Path("runs/first"), help="folder for the plot and the network")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)
pyro.set_rng_seed(0)

# --8<-- [start:data]
digits = ps.data.load("digits", seed=0)
loader = ps.data.TensorLoader(digits.x_train, digits.y_train, batch_size=64)
num_data = len(digits.x_train)

net = models.mlp((64, 100, 10))  # an ordinary nn.Sequential: flatten, fc1, relu1, fc2
net = ps.train(net, loader, epochs=10, progress=False)
weights = {name: weight for name, weight in net.named_parameters() if name.endswith("weight")}
# --8<-- [end:data]


# --8<-- [start:model]
def model(x, y=None):
    """Two weight matrices with a log-uniform prior; the biases are parameters."""
    w1 = pyro.sample("fc1.weight", LogUniform().expand([100, 64]).to_event(2))
    w2 = pyro.sample("fc2.weight", LogUniform().expand([10, 100]).to_event(2))
    b1 = pyro.param("fc1.bias", net.fc1.bias)
    b2 = pyro.param("fc2.bias", net.fc2.bias)

    h = F.relu(F.linear(x.flatten(1), w1, b1))
    logits = F.linear(h, w2, b2)
    with pyro.plate("data", num_data, subsample=x):
        return pyro.sample("obs", dist.Categorical(logits=logits), obs=y)


# --8<-- [end:model]


# --8<-- [start:guide]
def guide(x, y=None):
    """One Gaussian for each weight; it starts at the trained network, with little noise."""
    for site, weight in weights.items():
        loc = pyro.param(f"{site}.loc", weight.detach().clone())
        log_var = pyro.param(f"{site}.log_var", torch.full_like(weight, -6.0))
        pyro.sample(site, DropoutNormal(loc, log_var).to_event(2))


# --8<-- [end:guide]

# --8<-- [start:fit]
elbo = ps.SparseELBO()
svi = pyro.infer.SVI(model, local_reparam(guide), pyro.optim.Adam({"lr": 0.02}), loss=elbo)
for epoch in range(args.epochs):
    elbo.kl_scale = min(1.0, (epoch + 1) / (0.5 * args.epochs))
    loss = sum(svi.step(x, y) for x, y in loader) / len(loader)
    if epoch % 10 == 0:
        print(f"epoch {epoch:3d}   loss {loss:10.1f} nats   KL weight {elbo.kl_scale:.2f}")
# --8<-- [end:fit]

# --8<-- [start:read]
batch = digits.x_train[:64], digits.y_train[:64]
print(ps.summarize(model, guide, *batch))

idata = ps.to_arviz(model, guide, *batch, draws=200, sites=["fc2.weight"], max_weights=20)
az.plot_forest(idata, var_names=["fc2.weight"], combined=True)
plt.savefig(args.out / "forest.png", bbox_inches="tight")
# --8<-- [end:read]

# --8<-- [start:prune]
small = ps.prune(model, guide, *batch, network=net, threshold=3.0)
print(small.report)
print(small.network)

metrics = ps.evaluate(small.network, ps.data.TensorLoader(digits.x_test, digits.y_test, shuffle=False))
print(f"test accuracy {metrics.accuracy:.3f}")
# --8<-- [end:prune]

# --8<-- [start:export]
print(ps.save(args.out / "network.psz", small))
ps.export_onnx(small.network, args.out / "network.onnx", digits.x_test[:1])
# --8<-- [end:export]
