from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from pyrosparse.distributions import DropoutNormal


def test_log_alpha_guards_a_zero_mean() -> None:
    q = DropoutNormal(torch.tensor([0.0, 0.5]), torch.tensor([-3.0, -3.0]))
    assert_close(q.log_alpha, torch.tensor([-3.0 + 36.841362, -3.0 + 1.386294]))


def test_mean_and_log_var_broadcast_and_keep_expands() -> None:
    q = DropoutNormal(torch.zeros(3, 4), -6.0, torch.tensor([True, False, True, True]))
    assert q.batch_shape == (3, 4)
    assert q.keep is not None and q.keep.shape == (3, 4)
    assert (q.variance[:, 1] == 0).all()


def test_keep_must_be_bool() -> None:
    with pytest.raises(ValueError, match=r"keep is torch\.float32"):
        DropoutNormal(torch.zeros(2), torch.zeros(2), torch.ones(2))


def test_bad_parameters_are_refused_when_validating() -> None:
    with pytest.raises(ValueError, match="loc"):
        DropoutNormal(torch.tensor([float("nan")]), torch.zeros(1), validate_args=True)
    DropoutNormal(torch.tensor([float("nan")]), torch.zeros(1), validate_args=False)


def test_variance_is_computed_once_and_stays_connected() -> None:
    log_var = torch.full((3,), -2.0, requires_grad=True)
    q = DropoutNormal(torch.ones(3), log_var)
    assert q.sigma2.data_ptr() == q.known_variance.data_ptr() and not q.known_variance.requires_grad
    q.variance.sum().backward()
    assert_close(log_var.grad, torch.full((3,), -2.0).exp())


def test_variance_read_without_gradients_is_not_kept_for_a_read_with_them() -> None:
    log_var = torch.full((3,), -2.0, requires_grad=True)
    q = DropoutNormal(torch.ones(3), log_var)
    with torch.no_grad():
        assert not q.variance.requires_grad
    assert q.variance.requires_grad


def test_variance_follows_an_altered_log_var() -> None:
    log_var = torch.zeros(3)
    q = DropoutNormal(torch.ones(3), log_var)
    assert_close(q.variance, torch.ones(3))
    log_var.add_(1.0)
    assert_close(q.variance, torch.ones(3).exp())


def test_no_gradient_reaches_a_cut_weight() -> None:
    loc, log_var = torch.ones(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    q = DropoutNormal(loc, log_var, torch.tensor([True, False]))
    (q.rsample().sum() + q.log_prob(torch.ones(2) * 3).sum() + q.entropy().sum() + q.variance.sum()).backward()
    assert loc.grad is not None and log_var.grad is not None
    assert loc.grad[0] != 0 and log_var.grad[0] != 0
    assert loc.grad[1] == 0 and log_var.grad[1] == 0
