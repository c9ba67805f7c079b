"""Your own network, from pre-trained to a .psz file."""

import argparse
from pathlib import Path

import torch
from torch import nn

import pyrosparse as ps
from pyrosparse import guides
from pyrosparse.infer.schedules import cosine, warm_up

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=60, help="epochs of variational inference")
parser.add_argument("--out", type=Path, default=Path("runs/own_network.psz"), help="the file to write")
args = parser.parse_args()
args.out.parent.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)


# --8<-- [start:network]
class Net(nn.Module):
    """A small convolutional network for 8×8 images: any module of your own will do."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.fc = nn.Linear(32 * 4 * 4, 10)

    def forward(self, x):
        """Images (B, 1, 8, 8) to logits (B, 10)."""
        h = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        return self.fc(h.flatten(1))


# --8<-- [end:network]

# --8<-- [start:main]
digits = ps.data.load("digits", validation=0.25, seed=0)
train = ps.data.TensorLoader(digits.x_train, digits.y_train, batch_size=64)
val = ps.data.TensorLoader(digits.x_val, digits.y_val, shuffle=False)
test = ps.data.TensorLoader(digits.x_test, digits.y_test, shuffle=False)

dense = ps.train(Net(), train, epochs=20, progress=False)  # or load your own weights here

model = ps.SparseModel(dense, ps.priors.LogUniform(), ps.likelihoods.Categorical(num_data=len(digits.x_train)))
guide = guides.AutoSparse(model)
schedules = {"kl_schedule": warm_up(), "lr_schedule": cosine()}
ps.fit(model, guide, train, epochs=args.epochs, lr=5e-3, val_loader=val, progress=False, **schedules)
print(ps.summarize(model, guide))

small = ps.prune(model, guide, threshold="auto", val_loader=val)
print(small.report)
print(ps.save(args.out, small, val_loader=val, tolerance=0.01))  # three of the 359 validation digits

again = ps.load(args.out, network=Net())
for name, network in {"dense": dense, "pruned": small.network, "from the file": again}.items():
    print(f"{name:14s} test accuracy {ps.evaluate(network, test).accuracy:.3f}")
# --8<-- [end:main]
