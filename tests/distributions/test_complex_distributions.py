"""What every distribution over complex numbers must do: densities, moments, draws, shapes, expand, events."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pyro
import pytest
import scipy.stats as st
import torch
from pyro.distributions import Independent
from pyro.distributions.torch_distribution import TorchDistribution
from torch.distributions import kl_divergence
from torch.testing import assert_close

from pyrosparse.distributions import (
    ARDNormal,
    ComplexARD,
    ComplexLogUniform,
    ComplexNormal,
    DropoutNormal,
    bounded_relation,
    unbounded_relation,
)
from pyrosparse.errors import PriorError

from .cases import CIRCULAR, COMPLEX_CASES, TILTED, Case, tensor

every_case = pytest.mark.parametrize("case", COMPLEX_CASES, ids=str)
with_moments = pytest.mark.parametrize("case", [c for c in COMPLEX_CASES if c.mean is not None], ids=str)
surrogates = pytest.mark.parametrize("case", [c for c in COMPLEX_CASES if c.mean is None], ids=str)


@every_case
def test_log_prob(case: Case) -> None:
    w = np.random.default_rng(0).normal(size=(7, 4, 2))
    assert_close(case.make().log_prob(tensor(w)), tensor(case.log_prob(w)), rtol=1e-10, atol=1e-10)


@every_case
def test_log_prob_at_zero_is_finite(case: Case) -> None:
    assert case.make().log_prob(torch.zeros(4, 2, dtype=torch.float64)).isfinite().all()


@with_moments
def test_moments_in_closed_form(case: Case) -> None:
    d = case.make()
    assert_close(d.mean, tensor(case.mean))
    assert_close(d.variance, tensor(case.variance))
    assert_close(d.stddev, tensor(np.sqrt(case.variance)))
    assert_close(d.entropy(), tensor(case.entropy))
    if isinstance(d, ComplexNormal):
        assert_close(d.total_variance, tensor(case.variance.sum(-1)))


@with_moments
def test_draws_follow_their_distribution(case: Case) -> None:
    w = case.make().sample((2000,)).numpy()
    for i in range(4):
        if w[:, i].std() == 0:
            assert np.all(w[:, i] == 0)
            continue
        for part in range(2):
            law = st.norm(case.mean[i, part], np.sqrt(case.variance[i, part]))
            assert st.kstest(w[:, i, part], law.cdf).pvalue > 1e-4


@pytest.mark.parametrize(("index", "covariances"), [(0, CIRCULAR), (1, TILTED)], ids=["circular", "relation"])
def test_covariance_of_draws(index: int, covariances: np.ndarray) -> None:
    n = 20_000
    w = COMPLEX_CASES[index].make().sample((n,)).numpy()
    for i in range(4):
        c = covariances[i]
        error = np.sqrt((c**2 + np.outer(np.diag(c), np.diag(c))) / n)  # of an estimated Gaussian covariance
        assert np.all(np.abs(np.cov(w[:, i].T) - c) <= 5 * error)


@surrogates
def test_surrogate_draws(case: Case) -> None:
    w = case.make().sample((2000,))
    z = torch.view_as_complex(w).numpy()
    for i in range(4):
        assert st.kstest(np.log(np.abs(z[:, i])), st.uniform(-20, 20).cdf).pvalue > 1e-4
        assert st.kstest(np.angle(z[:, i]), st.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-4


@every_case
def test_shapes(case: Case) -> None:
    d = case.make()
    assert d.batch_shape == (4,)
    assert d.event_shape == (2,)
    assert d.sample().shape == (4, 2)
    assert d.sample((3, 2)).shape == (3, 2, 4, 2)
    assert d.log_prob(torch.ones(3, 1, 2, dtype=torch.float64)).shape == (3, 4)
    assert d.log_prob(torch.ones(2, dtype=torch.float64)).shape == (4,)
    assert d.sample().dtype == torch.float64


@every_case
def test_expand_keeps_the_type_and_the_density(case: Case) -> None:
    d = case.make()
    big = d.expand([3, 4])
    assert type(big) is type(d)
    assert (big.batch_shape, big.event_shape) == ((3, 4), (2,))
    w = torch.randn(3, 4, 2, dtype=torch.float64)
    assert_close(big.log_prob(w), d.log_prob(w))
    assert big.sample((2,)).shape == (2, 3, 4, 2)
    assert d.batch_shape == (4,)
    if case.mean is not None:
        assert_close(big.variance, d.variance.expand(3, 4, 2))
        assert_close(big.mean, d.mean.expand(3, 4, 2))


@every_case
def test_expand_refuses_a_shape_that_does_not_fit(case: Case) -> None:
    with pytest.raises(RuntimeError):
        case.make().expand([3])


@every_case
def test_events(case: Case) -> None:
    d = case.make().expand([3, 4])
    event = d.to_event(2)
    assert isinstance(event, Independent)
    assert type(event.base_dist) is type(d)
    assert event.event_shape == (3, 4, 2)
    w = event.sample()
    assert_close(event.log_prob(w), d.log_prob(w).sum())


@every_case
def test_sample_carries_no_gradient_and_rsample_does_where_it_exists(case: Case) -> None:
    d = case.make()
    assert not d.sample().requires_grad
    if d.has_rsample:
        names = [n for n in ("loc", "log_var", "relation", "precision") if getattr(d, n, None) is not None]
        for name in names:
            setattr(d, name, getattr(d, name).detach().clone().requires_grad_())
        gradients = torch.autograd.grad(d.rsample().square().sum(), [getattr(d, n) for n in names])
        assert all(g.isfinite().all() and g.any() for g in gradients)


@every_case
def test_works_as_a_sample_site_and_in_predictive(case: Case) -> None:
    def model() -> torch.Tensor:
        return pyro.sample("w", case.make().to_event(1))

    assert pyro.poutine.trace(model).get_trace().log_prob_sum().isfinite()
    assert pyro.infer.Predictive(model, num_samples=3)()["w"].shape == (3, 4, 2)


@every_case
def test_validation_refuses_nan(case: Case) -> None:
    with pytest.raises(ValueError, match="[Ss]upport|support"):
        case.make().log_prob(torch.full((4, 2), float("nan"), dtype=torch.float64))


@every_case
def test_repr_and_copy(case: Case) -> None:
    d = case.make()
    assert repr(d).startswith(type(d).__name__)
    assert "4" in repr(d)
    w = torch.ones(4, 2, dtype=torch.float64)
    assert_close(copy.deepcopy(d).log_prob(w), d.log_prob(w))


def test_log_alpha_guards_a_zero_mean() -> None:
    q = ComplexNormal(torch.tensor([[0.0, 0.0], [0.3, 0.4]]), torch.tensor([-3.0, -3.0]))
    assert_close(q.log_alpha, torch.tensor([-3.0 + 36.841362, -3.0 + 1.386294]))


def test_parameters_broadcast() -> None:
    keep = torch.tensor([True, False, True, True])
    q = ComplexNormal(torch.zeros(3, 4, 2), -6.0, torch.tensor([0.5, 0.0]), keep)
    assert q.batch_shape == (3, 4)
    assert (q.total_variance[:, 1] == 0).all()
    assert q.relation is not None and q.relation.shape == (3, 4, 2)
    assert ComplexNormal(torch.zeros(2), torch.zeros(3, 1)).batch_shape == (3, 1)


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(PriorError, match=r"loc is torch\.complex64.*view_as_real"):
        ComplexNormal(torch.zeros(3, dtype=torch.complex64), 0.0)
    with pytest.raises(PriorError, match=r"shape \(3,\)"):
        ComplexNormal(torch.zeros(3), 0.0)
    with pytest.raises(PriorError, match=r"keep is torch\.float32"):
        ComplexNormal(torch.zeros(3, 2), 0.0, keep=torch.ones(3))
    with pytest.raises(ValueError, match="relation"):
        ComplexNormal(torch.zeros(3, 2), 0.0, torch.tensor([1.0, 0.2]), validate_args=True)
    ComplexNormal(torch.zeros(3, 2), 0.0, torch.tensor([0.6, 0.8]), validate_args=True)
    with pytest.raises(PriorError, match="at least 1, not 0.5"):
        ComplexLogUniform(0.5)
    with pytest.raises(PriorError, match="'exact', 'sigmoid'"):
        ComplexLogUniform(kl="sigmoids")
    with pytest.raises(PriorError, match="positive"):
        ComplexARD(-1.0)


def test_variance_is_computed_once_and_stays_connected() -> None:
    log_var = torch.full((3,), -2.0, requires_grad=True)
    q = ComplexNormal(torch.ones(3, 2), log_var)
    assert q.sigma2.data_ptr() == q.known_variance.data_ptr() and not q.known_variance.requires_grad
    with torch.no_grad():
        assert not ComplexNormal(torch.ones(3, 2), log_var).sigma2.requires_grad
    q.total_variance.sum().backward()
    assert_close(log_var.grad, torch.full((3,), -2.0).exp())
    with torch.no_grad():
        log_var.add_(1.0)
    assert_close(q.total_variance, torch.full((3,), -1.0).exp())


@pytest.mark.parametrize("family", [ComplexNormal, DropoutNormal])
def test_every_use_of_the_variance_has_a_graph_of_its_own(family: Callable[..., TorchDistribution]) -> None:
    shape = (3, 2) if family is ComplexNormal else (3,)
    log_var = torch.full((3,), -2.0, requires_grad=True)
    q = family(torch.ones(shape), log_var)
    for _ in range(2):
        kl_divergence(q, ComplexARD(1.0) if family is ComplexNormal else ARDNormal(1.0)).sum().backward()
        q.variance.sum().backward()
    of_kl = math.exp(-2) - 1 if family is ComplexNormal else 0.5 * (math.exp(-2) - 1)
    assert_close(log_var.grad, torch.full((3,), 2 * (math.exp(-2) + of_kl)))
    leaf = family(torch.ones(shape), log_var)
    assert leaf.variance.requires_grad and torch.equal(copy.deepcopy(leaf).variance, leaf.variance)
    (second,) = torch.autograd.grad(q.variance.sum(), log_var, create_graph=True)
    assert_close(torch.autograd.grad(second.sum(), log_var)[0], torch.full((3,), -2.0).exp())
    with torch.inference_mode():
        lazily = family(torch.ones(shape), torch.zeros(3) - 2.0)
        assert_close(lazily.variance, q.variance.detach())
        known = family(torch.ones(shape), log_var)
        assert_close(known.variance, lazily.variance)
    known.variance.sum().backward()  # what was computed there is of no use here

    def total(x: torch.Tensor) -> torch.Tensor:
        return family(torch.ones(shape), x, validate_args=False).variance.sum()

    second = torch.func.jacrev(torch.func.grad(total))(log_var.detach())
    assert_close(second, torch.diag(torch.full((3,), -2.0).exp()))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # of torch's own jacfwd
def test_transforms_of_a_relation() -> None:
    pairs = torch.randn(5, 2, dtype=torch.float64)
    plain = torch.func.vmap(torch.func.jacrev(lambda a: a / (1 + a @ a).sqrt()))(pairs)
    assert_close(torch.func.vmap(torch.func.jacrev(bounded_relation))(pairs), plain)
    assert_close(torch.func.vmap(torch.func.jacfwd(bounded_relation))(pairs), plain)


def test_no_gradient_reaches_a_cut_weight() -> None:
    loc, log_var = torch.ones(2, 2, requires_grad=True), torch.zeros(2, requires_grad=True)
    relation = torch.full((2, 2), 0.3, requires_grad=True)
    q = ComplexNormal(loc, log_var, relation, torch.tensor([True, False]))
    (q.rsample().sum() + q.log_prob(torch.ones(2, 2) * 3).sum() + q.entropy().sum() + q.variance.sum()).backward()
    for parameter in (loc, log_var, relation):
        assert parameter.grad is not None
        assert parameter.grad[0].any() and not parameter.grad[1].any()


def test_relation_from_any_pair() -> None:
    a = torch.tensor([[0.0, 0.0], [1e-3, 0.0], [3.0, -4.0], [1e4, 0.0], [-1e15, 1e10]])
    xi = bounded_relation(a)
    assert_close(xi[:3], torch.tensor([[0.0, 0.0], [1e-3, 0.0], [3 / 26**0.5, -4 / 26**0.5]]))
    assert ComplexNormal(torch.zeros(5, 2), 0.0, xi, validate_args=True).log_prob(torch.ones(2)).isfinite().all()
    assert_close(unbounded_relation(xi[:3]), a[:3], rtol=1e-5, atol=1e-6)
    assert unbounded_relation(torch.tensor([1.0, 0.0])).isfinite().all()
    b = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(bounded_relation, (b,))
    assert_close(unbounded_relation(bounded_relation(b)), b)


def test_draws_on_the_rim_lie_on_a_line() -> None:
    q = ComplexNormal(torch.zeros(2, dtype=torch.float64), 0.0, torch.tensor([-1.0, 0.0], dtype=torch.float64))
    w = q.sample((100,))
    assert float(w[:, 0].abs().max()) < 1e-6
    assert 0.7 < float(w[:, 1].std()) < 1.3
