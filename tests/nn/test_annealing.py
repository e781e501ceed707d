"""Annealings: against the densities of SciPy, and in their limits."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.stats
from hypothesis import given

from minidl import nn

DENSITIES = {nn.LogisticAnnealing: scipy.stats.logistic, nn.LaplaceAnnealing: scipy.stats.laplace}
every = pytest.mark.parametrize("kind", DENSITIES)


@every
@given(b=st.floats(0.01, 5), mu=st.floats(0, 1), t=st.floats(0, 1))
def test_it_is_the_density_scaled_to_the_maximum_1(kind, b, mu, t):
    density = DENSITIES[kind](mu, b)
    np.testing.assert_allclose(kind(b, mu)(t), density.pdf(t) / density.pdf(mu), rtol=1e-9)
    assert kind(b, mu)(mu) == 1
    assert 0 <= kind(b, mu)(t) <= 1


@every
def test_by_default_it_rises_up_to_three_quarters_of_the_training_and_falls_after_it(kind):
    t = np.linspace(0, 1, 101)
    s = kind(0.1)(t)
    assert s.argmax() == 75
    assert (np.diff(s[:76]) > 0).all()
    assert (np.diff(s[75:]) < 0).all()
    assert [kind(0.1)(x) for x in t] == pytest.approx(s.tolist(), rel=1e-14)
    assert type(kind(0.1)(0.5)) is float


def test_values_by_hand():
    assert nn.LaplaceAnnealing(0.25)(1) == pytest.approx(np.exp(-1))
    assert nn.LogisticAnnealing(0.25, 0.5)(1.0) == pytest.approx(1 / np.cosh(1) ** 2)


@every
def test_in_epochs_b_counts_epochs_and_the_peak_stays_a_share(kind):
    epochs, shares = kind(30, 0.5, unit="epoch", epochs=100), kind(0.3, 0.5)
    for t in (0, 0.2, 0.5, 0.77, 1):
        assert epochs(t) == pytest.approx(shares(t), rel=1e-12)


@every
def test_extreme_widths_give_no_warning(kind):
    for b in (1e-320, 1e-5, 1e300):
        assert kind(b)(0.75) == 1
        assert kind(b)(0.1) == (1 if b > 1 else 0)


@every
def test_they_are_written_as_they_are_made_and_equal_if_all_is(kind):
    name = kind.__name__
    assert repr(kind(0.3)) == f"{name}(b=0.3, mu=0.75)"
    assert repr(kind(30, 0.5, "epoch", 100)) == f"{name}(b=30.0, mu=0.5, unit='epoch', epochs=100)"
    for each in (kind(0.3), kind(30, 0.5, "epoch", 100)):
        again = eval(repr(each), vars(nn))
        assert again == each
        assert hash(again) == hash(each)
    assert kind(0.3) != kind(0.2)
    assert nn.LogisticAnnealing(0.3) != nn.LaplaceAnnealing(0.3)


@every
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"b": 0}, ValueError, r"b is 0, expected a number in \(0, inf\)"),
        ({"b": -0.1}, ValueError, "b is -0.1"),
        ({"b": "wide"}, TypeError, "b is 'wide'"),
        ({"b": 0.3, "mu": 75}, ValueError, r"mu is 75, expected a number in \[0, 1\]"),
        ({"b": 0.3, "unit": "step"}, ValueError, "unit is 'step', expected 'progress' or 'epoch'"),
        ({"b": 3, "unit": "epoch"}, ValueError, "unit is 'epoch', and epochs is missing"),
        ({"b": 3, "unit": "epoch", "epochs": 0}, ValueError, "epochs is 0, expected a positive integer"),
        ({"b": 0.3, "epochs": 10}, ValueError, "epochs is 10, expected none with unit 'progress'"),
    ],
)
def test_settings_that_are_refused(kind, settings, error, message):
    with pytest.raises(error, match=f"{kind.__name__}: {message}"):
        kind(**settings)


@every
def test_times_that_are_refused(kind):
    for t in (-0.1, 30, np.nan, np.array([0.5, 1.5])):
        with pytest.raises(ValueError, match=f"{kind.__name__}: t is .*, expected the share of the training done"):
            kind(0.3)(t)
    with pytest.raises(TypeError, match="t is 'now', expected a number"):
        kind(0.3)("now")
    with pytest.raises(TypeError, match="Annealing has no at method"):
        nn.Annealing(0.3)(0.5)
