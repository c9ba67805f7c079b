"""The command line's way through the house: settings in, a folder with everything in it out.

Stages, in their order: teacher (only with ``[fit.teacher]``), dense, reconstruct (with ``[reconstruct]`` before
or instead of a posterior), fit, prune, reconstruct_pruned (with ``[reconstruct]`` after it), fine_tune and quantise
(each only with epochs), file, onnx (unless ``export.onnx = false``), magnitude, l1 and kmeans (with
``[baselines]``), curve, test, report. Where reconstruction stands instead of a posterior there is no fit, prune and
curve. Each stage leaves its files and its record in ``metrics.json`` in one step, so that ``--resume`` starts after
the last finished one. The test data are touched in the stage ``test`` alone, when every choice has been made.

What is in the folder:

===================== ==============================================================================
config.toml           the settings, every default filled in
metrics.json          see below
history.jsonl         one record an epoch of the fit
checkpoint/           of the fit
teacher.safetensors   parameters of the teacher
dense.safetensors     parameters of the pre-trained network
posterior.safetensors ``SITE/mean``, ``SITE/std``, ``SITE/relevance``, and ``SITE/keep`` (1: it is in the
                      pruned network) for each site, in the original's coordinates; of complex weights also
                      ``SITE/covariance``, that of the parts, where it is not 0
posterior.nc          draws and summaries for ArviZ
pruned.safetensors    parameters of the pruned network; fine_tuned.safetensors after fine-tuning,
                      reconstructed.safetensors and reconstructed_pruned.safetensors after reconstruction,
                      quantised.safetensors after training through the rounding
network.psz           the file; network.onnx is the same network for ONNX Runtime
report.html           all of it on one page
===================== ==============================================================================

metrics.json has ``schema, versions, seed, config, device, threads, data, model`` and

========== =========================================================================================
finished   names of the stages that are done
stages     one row a stage: ``name, parameters, nonzero, bytes, seconds, val_error, val_accuracy``, and
           after the stage test ``error, accuracy``. ``bytes`` is what is on disk for file and onnx, and
           four bytes a parameter for the others; of a complex network each number counts twice.
threshold  largest log α that was kept
layers     one :class:`~pyrosparse.pruning.LayerReport` a site; ``prune`` is the whole report
units      ``original`` and ``kept`` output units, layer by layer
summary    the posterior, layer by layer
scales     quantiles of the scales of groups, where the priors have some
file       what every byte of network.psz is for
curve      ``threshold, kept, nonzero, bytes, val_error, notes`` at a row of thresholds, without fine-tuning
agreement  ``file, onnx``: largest absolute difference from the network in memory on the test inputs
notes      aids (shifts, a teacher), a cold posterior, and what was done otherwise than asked
========== =========================================================================================

``reconstruction`` has ``position, curve`` and all of :class:`~pyrosparse.reconstruction.ReconstructionReport`.
"""

from __future__ import annotations

from pyrosparse.pipeline.folder import RunFolder
from pyrosparse.pipeline.run import preview, prune_again, run

__all__ = ["RunFolder", "preview", "prune_again", "run"]
