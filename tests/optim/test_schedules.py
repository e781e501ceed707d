"""Every schedule against its equation, and PyTorch where it does the same; purity, state, and what is refused."""

from __future__ import annotations

import copy
import json
import math
import pickle
import random

import numpy as np
import pytest

import minidl as ml
from minidl import optim
from minidl.optim import schedules
from minidl.optim.schedules import (
    Constant,
    Cosine,
    Decay,
    Exponential,
    InEpochs,
    PiecewiseConstant,
    ReduceOnPlateau,
    Restarts,
    SquareRoot,
    WarmUp,
)

LD = np.longdouble
PI = LD("3.14159265358979323846264338327950288")
STEPS = 200


def watched(schedule, losses, every=1):
    for i, loss in enumerate(losses):
        schedule.observe((i + 1) * every, loss)
    return schedule


LOSSES = [*np.random.default_rng(3).random(60), math.nan, 0.5, -math.inf, math.inf]
SCHEDULES = {
    "Constant": lambda: Constant(0.1),
    "Decay": lambda: Decay(0.1, 0.003),
    "Decay by steps": lambda: Decay(0.1, 0.003, step=7),
    "Exponential": lambda: Exponential(0.1, 0.02),
    "Exponential, P": lambda: Exponential(0.1, rate=0.96, decay_steps=3.5),
    "SquareRoot": lambda: SquareRoot(0.1),
    "Cosine": lambda: Cosine(0.1, 130, final=0.003),
    "WarmUp": lambda: WarmUp(0.003, 0.1, 30, 150, final=0.001),
    "Restarts": lambda: Restarts(0.1, 40, final=0.003),
    "Restarts, longer": lambda: Restarts(0.1, 10, mult=1.5, final=0.003),
    "PiecewiseConstant": lambda: PiecewiseConstant([0.1, 0.01, 0.001], [50, 150.5]),
    "ReduceOnPlateau": lambda: watched(ReduceOnPlateau(0.1, 0.3, patience=3, cooldown=2, least=1e-3), LOSSES),
    "InEpochs": lambda: InEpochs(Decay(0.1, 0.1, step=3), 9),
    "InEpochs, smooth": lambda: InEpochs(WarmUp(0.003, 0.1, 3, 20), 9, smooth=True),
    "InEpochs, watching": lambda: watched(InEpochs(ReduceOnPlateau(0.1, 0.3, patience=3), 9), LOSSES[:20], every=9),
}
every_schedule = pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)


def rates(schedule, steps=STEPS):
    return [schedule(t) for t in range(steps)]


# ---------------------------------------------------------------- the equations, once more


def constant(steps):
    return [LD(0.1)] * steps


def decay(steps, tau=LD(0.003), T=math.inf):
    eta, etas = LD(0.1), [LD(0.1)]
    for t in range(1, steps):
        if t % T == 0:
            tau = LD(0.9) * tau
        eta = eta / (1 + tau * t)
        etas.append(eta)
    return etas


def cosine(t, T, start, final):
    return final + (start - final) / 2 * (1 + np.cos(PI * LD(t) / LD(T))) if t < T else final


def warm_up(steps, lr=LD(0.003), peak=LD(0.1), T=30, end=150, final=LD(0.001)):
    alpha = (peak - lr) / T
    return [lr + alpha * t if t < T else cosine(t - T, end - T, lr + alpha * T, final) for t in range(steps)]


def restarts(steps, period, mult):
    begin, length, etas = LD(0), LD(period), []
    for t in range(steps):
        if t >= begin + length:
            begin, length = begin + length, length * LD(mult)
        etas.append(cosine(t - begin, length, LD(0.1), LD(0.003)))
    return etas


def piecewise(steps):
    return [LD(0.1) if t < 50 else LD(0.01) if t < 150.5 else LD(0.001) for t in range(steps)]


REFERENCES = {
    "Constant": constant,
    "Decay": decay,
    "Decay by steps": lambda steps: decay(steps, T=7),
    "Exponential": lambda steps: [LD(0.1) * np.exp(-LD(0.02) * t) for t in range(steps)],
    "Exponential, P": lambda steps: [LD(0.1) * LD(0.96) ** (t / LD(3.5)) for t in range(steps)],
    "SquareRoot": lambda steps: [LD(0.1) * LD(t + 1) ** LD(-0.5) for t in range(steps)],
    "Cosine": lambda steps: [cosine(t, 130, LD(0.1), LD(0.003)) for t in range(steps)],
    "WarmUp": warm_up,
    "Restarts": lambda steps: restarts(steps, 40, 1),
    "Restarts, longer": lambda steps: restarts(steps, 10, 1.5),
    "PiecewiseConstant": piecewise,
}


@pytest.mark.parametrize("name", REFERENCES)
def test_the_rates_are_those_of_the_equation(name):
    expected = np.array(REFERENCES[name](STEPS), float)
    np.testing.assert_allclose(rates(SCHEDULES[name]()), expected, rtol=1e-12)


def test_every_schedule_of_the_module_is_tested_here():
    assert {type(make()) for make in SCHEDULES.values()} == set(schedules.KINDS)
    assert {kind.__name__ for kind in schedules.KINDS} < set(schedules.__all__)


def test_both_forms_of_the_exponential_meet():
    np.testing.assert_allclose(
        rates(Exponential(0.1, alpha=-math.log(0.96) / 50)), rates(Exponential(0.1, rate=0.96, decay_steps=50)), 1e-12
    )


def test_the_rate_of_the_residual_smoothing_paper():
    epochs = 160
    schedule = InEpochs(PiecewiseConstant([0.1, 0.001], [0.75 * epochs]), steps_per_epoch=391)
    assert [schedule(t) for t in (0, 120 * 391 - 1, 120 * 391, 160 * 391 - 1)] == [0.1, 0.1, 0.001, 0.001]


@pytest.mark.parametrize("lr", [0.0, 0.01])
def test_the_warm_up_is_continuous_where_the_cosine_takes_over(lr):
    schedule = WarmUp(lr, 0.1, 30, 150)
    assert schedule(30) == 0.1
    for h in (1e-3, 1e-6, 1e-9):
        assert schedule(30 - h) == pytest.approx(0.1, abs=h)
        assert schedule(30 + h) == pytest.approx(0.1, abs=h)
    assert (schedule(0), schedule(150), schedule(1000)) == (lr, 0, 0)


def test_the_cosine_begins_and_ends_exactly():
    schedule = Cosine(0.1, 37, final=0.001)
    assert (schedule(0), schedule(37), schedule(1e9)) == (0.1, 0.001, 0.001)


@pytest.mark.parametrize(
    ("period", "mult", "points"),
    [
        (10, 1, range(0, 10_000, 10)),
        (0.1, 1, [k / 10 for k in range(1000)]),
        (10, 2, [10 * (2**i - 1) for i in range(30)]),
        (3, 1.5, [0, 3, 7.5, 14.25, 24.375]),
        (10, 1.1, [0, 10, 21, 33.1, 46.41]),
        (1, 1 + 1e-12, range(40)),
    ],
)
def test_a_restart_is_exactly_at_its_time(period, mult, points):
    schedule = Restarts(0.1, period, mult, final=0.001)
    for i, t in enumerate(points):
        assert schedule(t) == 0.1
        length = period * mult**i
        assert schedule(t + length / 2) == pytest.approx(0.0505, rel=1e-6)
        assert schedule(t + length * (1 - 1e-4)) == pytest.approx(0.001, rel=1e-5)


def test_long_ago_restarts_cost_nothing():
    schedule = Restarts(0.1, 1e-6, mult=1 + 1e-9)
    assert 0 <= schedule(1e6) <= 0.1


# ---------------------------------------------------------------- PyTorch


def torch_rates(torch, make, steps=STEPS):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (Cosine(0.1, 200, final=0.003), lambda t, o: t.CosineAnnealingLR(o, 200, eta_min=0.003)),
        (Restarts(0.1, 40), lambda t, o: t.CosineAnnealingWarmRestarts(o, 40)),
        (Restarts(0.1, 10, 3, final=0.01), lambda t, o: t.CosineAnnealingWarmRestarts(o, 10, 3, eta_min=0.01)),
        (Exponential(0.1, rate=0.97, decay_steps=1), lambda t, o: t.ExponentialLR(o, 0.97)),
        (PiecewiseConstant([0.1, 0.01, 0.001], [50, 120]), lambda t, o: t.MultiStepLR(o, [50, 120], gamma=0.1)),
    ],
    ids=["Cosine", "Restarts", "Restarts, longer", "Exponential", "PiecewiseConstant"],
)
def test_as_in_pytorch(torch, schedule, make):
    np.testing.assert_allclose(rates(schedule), torch_rates(torch, make), rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("seed", range(40))
def test_the_plateau_is_pytorchs(torch, seed):
    rng = np.random.default_rng(seed)
    wait = {
        "factor": float(rng.choice([0.1, 0.5, 0.9])),
        "patience": int(rng.integers(0, 6)),
        "threshold": float(rng.choice([0, 1e-4, 0.1])),
        "cooldown": int(rng.integers(0, 5)),
    }
    least = float(rng.choice([0, 1e-3]))
    losses = np.exp(-np.arange(150) / 30) + 0.3 * rng.random(150)
    losses[rng.random(150) < 0.1] = np.nan
    losses[rng.random(150) < 0.1] = np.inf
    losses[rng.random(150) < 0.2] = 0.7

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    oracle = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, min_lr=least, eps=0, **wait)
    schedule = ReduceOnPlateau(0.1, least=least, **wait)
    expected = [0.1]
    for t, loss in enumerate(losses, 1):
        oracle.step(loss)
        schedule.observe(t, loss)
        expected.append(optimizer.param_groups[0]["lr"])
        assert schedule(t) == pytest.approx(expected[-1], rel=1e-10, abs=0)
    assert schedule.cuts
    np.testing.assert_allclose(rates(schedule, 151), expected, rtol=1e-10)  # and all of them afterwards


# ---------------------------------------------------------------- the plateau


def test_a_cut_holds_from_its_step_on_and_changes_nothing_before():
    schedule = ReduceOnPlateau(0.1, 0.5, patience=1)
    for t, loss in zip((100, 200, 300, 400, 500), (1.0, 1.0, 1.0, 0.5, 0.4), strict=True):
        schedule.observe(t, loss)
    assert schedule.cuts == [300]
    assert [schedule(t) for t in (0, 200, 299, 300, 301, 900)] == [0.1, 0.1, 0.1, 0.05, 0.05, 0.05]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_a_loss_that_is_not_finite_has_not_fallen(bad):
    schedule = watched(ReduceOnPlateau(1.0, 0.5, patience=2), [bad, 1.0, bad, bad, bad])
    assert schedule.best == 1.0
    assert schedule.cuts == [5]
    schedule.observe(6, 0.9)
    assert schedule.best == 0.9


def test_at_the_least_rate_there_is_nothing_to_cut():
    schedule = watched(ReduceOnPlateau(1.0, 0.5, patience=0, least=0.2), [1.0] * 50)
    assert schedule.cuts == [2, 3, 4]
    assert schedule(50) == 0.2
    assert len(watched(ReduceOnPlateau(1.0, 0.1, patience=0), [1.0] * 2000).cuts) < 400  # then the rate is 0


def test_losses_come_in_order():
    schedule = watched(ReduceOnPlateau(0.1), [1.0, 2.0])
    before = schedule.state_dict()
    for t in (0, 1, 2):
        with pytest.raises(ValueError, match=f"ReduceOnPlateau.observe: t is {t}, expected more than the last one, 2"):
            schedule.observe(t, 0.5)
    with pytest.raises(ValueError, match="ReduceOnPlateau: t is nan"):
        schedule.observe(math.nan, 0.5)
    with pytest.raises(TypeError, match="ReduceOnPlateau: loss is '0.5', expected a number"):
        schedule.observe(3, "0.5")
    assert schedule.state_dict() == before


@pytest.mark.parametrize("stop", range(0, len(LOSSES), 5))
def test_stopped_and_resumed_is_as_never_stopped(stop):
    settings = {"factor": 0.5, "patience": 2, "cooldown": 3}
    whole = watched(ReduceOnPlateau(0.1, **settings), LOSSES)
    first = watched(ReduceOnPlateau(0.1, **settings), LOSSES[:stop])
    saved = json.dumps(first.state_dict(), allow_nan=False)
    resumed = ReduceOnPlateau(0.1, **settings)
    resumed.load_state_dict(json.loads(saved))
    for i in range(stop, len(LOSSES)):
        resumed.observe(i + 1, LOSSES[i])
    assert len(whole.cuts) > 5
    assert resumed == whole
    assert rates(resumed) == rates(whole)
    assert json.dumps(first.state_dict()) == saved, "the copy shares nothing with it"


# ---------------------------------------------------------------- epochs


def test_in_epochs_the_rate_changes_from_epoch_to_epoch():
    inner = Cosine(0.1, 10)
    schedule = InEpochs(inner, 7)
    assert rates(schedule, 100) == [inner(t // 7) for t in range(100)]
    assert schedule(20.5) == inner(2)


def test_in_epochs_smoothly():
    np.testing.assert_allclose(rates(InEpochs(Cosine(0.1, 10), 7, smooth=True)), rates(Cosine(0.1, 70)), atol=1e-16)


def test_losses_are_passed_on_in_epochs():
    for smooth, after in ((False, 21), (True, 20)):
        schedule = InEpochs(ReduceOnPlateau(0.1, 0.5, patience=0), 7, smooth)
        for t in (7, 14, 20):
            schedule.observe(t, [0, 1.0, 0.9, 0.95][-(-t // 7)])
        assert schedule.schedule.cuts == [20 / 7]
        assert [schedule(t) for t in (14, after - 1, after)] == [0.1, 0.1, 0.05]
    other = InEpochs(Cosine(0.1, 10), 7)
    other.observe(7, 1.0)
    assert other == InEpochs(Cosine(0.1, 10), 7)


def test_loading_in_epochs_reaches_the_schedule_inside():
    state = InEpochs(watched(ReduceOnPlateau(0.2, patience=1), [1.0] * 5), 7).state_dict()
    inner = ReduceOnPlateau(0.2, patience=1)
    outer = InEpochs(inner, 7)
    outer.load_state_dict(state)
    assert outer.schedule is inner
    assert inner.cuts == [3, 5]
    for other, message in (
        (
            InEpochs(ReduceOnPlateau(0.2, patience=1), 5),
            "InEpochs.load_state_dict: steps_per_epoch is 5, in the state 7",
        ),
        (
            InEpochs(ReduceOnPlateau(0.2, patience=1), 7, True),
            "InEpochs.load_state_dict: smooth is True, in the state F",
        ),
        (
            InEpochs(ReduceOnPlateau(0.1), 7),
            "ReduceOnPlateau.load_state_dict: lr is 0.1, in .* 0.2, patience is 10, in",
        ),
    ):
        before = other.state_dict()
        with pytest.raises(ValueError, match=message):
            other.load_state_dict(state)
        assert other.state_dict() == before


# ---------------------------------------------------------------- a function of t alone


@every_schedule
def test_asked_in_any_order_the_bits_are_the_same(make):
    schedule, expected = make(), rates(make())
    order = [t for t in range(STEPS) for _ in range(2)]
    random.Random(0).shuffle(order)
    assert all(schedule(t) == expected[t] for t in order)
    assert rates(schedule) == expected


@every_schedule
def test_rates_are_floats_whatever_t_is_made_of(make):
    schedule = make()
    for t in (17, 17.0, np.int64(17), np.uint8(17), np.float32(17)):
        assert type(schedule(t)) is float
        assert schedule(t) == schedule(17)


@pytest.mark.parametrize("schedule", [Decay(0.1, 1e-9), Decay(0.1, 1e-3, step=50)])
def test_the_decay_in_order_is_quick_and_keeps_nothing(schedule):
    size, before = len(pickle.dumps(schedule)), 0.2
    for t in range(20_000):  # starting over each time would be 200 million divisions
        assert 0 < schedule(t) <= before
        before = schedule(t)
    assert len(pickle.dumps(schedule)) <= size + 20


def test_a_rate_that_has_decayed_to_0_stays_there_at_no_cost():
    assert Decay(0.1, 0.5)(10**15) == 0


@pytest.mark.parametrize("kind", ["Decay", "Decay by steps"])
def test_fractions_of_t_have_no_decay(kind):
    with pytest.raises(ValueError, match="Decay: t is 1.5, expected a whole number"):
        SCHEDULES[kind]()(1.5)


@every_schedule
@pytest.mark.parametrize("t", [-1, -0.5, math.nan, math.inf, -math.inf])
def test_t_is_a_finite_number_from_0(make, t):
    with pytest.raises(ValueError, match=f"t is {t}, expected a (whole )?number in"):
        make()(t)


@pytest.mark.parametrize("t", ["1", None, True, [1]])
def test_t_is_a_number(t):
    with pytest.raises(TypeError, match="Constant: t is .*, expected a number"):
        Constant(0.1)(t)


# ---------------------------------------------------------------- saving and loading


@every_schedule
def test_through_json_and_back_no_bit_is_lost(make):
    schedule = make()
    state = json.loads(json.dumps(schedule.state_dict(), allow_nan=False))
    again = schedules.from_state_dict(state)
    assert type(again) is type(schedule)
    assert again == schedule
    assert again.state_dict() == schedule.state_dict() == state
    assert rates(again) == rates(schedule)
    assert again.settings.keys() <= vars(again).keys() == vars(schedule).keys()


@every_schedule
def test_a_state_of_other_settings_is_refused_and_changes_nothing(make):
    def halved(state):
        if "schedule" in state:
            return {**state, "schedule": halved(state["schedule"])}
        return {**state, "rates": [0.05, 0.01, 0.001]} if "rates" in state else {**state, "lr": state["lr"] / 2}

    schedule, state = make(), halved(make().state_dict())
    with pytest.raises(ValueError, match=r"load_state_dict: (lr|rates) is .*, in the state .*For another one load the"):
        schedule.load_state_dict(state)
    assert schedule == make()
    assert rates(schedule) == rates(make())
    again = schedules.from_state_dict(state)
    assert again.state_dict() == state
    assert again(0) == schedule(0) / 2


@every_schedule
def test_settings_do_not_change(make):
    schedule, before = make(), rates(make())
    for name in schedule.settings:
        with pytest.raises(AttributeError, match=f"{name} is a setting, which does not change; make a new "):
            setattr(schedule, name, 0.5)
    assert rates(schedule) == before
    for copied in (copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        assert copied == schedule
        assert rates(copied) == before


@every_schedule
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(make):
    schedule = make()
    good, before = schedule.state_dict(), rates(schedule)
    bad = [({}, "this is the state of None"), (None, "this is None"), ({**good, "class": "Line"}, "the state of Line")]
    bad += [({**good, "colour": 1}, "colour unexpected, expected")]
    for name in good.keys() - {"class"}:
        bad.append(({key: value for key, value in good.items() if key != name}, f"{name} missing, expected"))
        bad.append(({**good, name: "x"}, f"{name} is 'x'|{name}.0. is|this is 'x'"))
    for state, message in bad:
        with pytest.raises(ValueError, match=message):
            schedule.load_state_dict(state)
        with pytest.raises(ValueError, match="from_state_dict: the class is|missing|unexpected|expected"):
            schedules.from_state_dict(state)
        assert schedule.state_dict() == good
        assert rates(schedule) == before


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("factor", 1.5, r"factor is 1.5, expected a number in \(0, 1\)"),
        ("cuts", [3, 2], r"cuts is \[3, 2\], expected rising numbers"),
        ("cuts", [-3], r"cuts\[0\] is -3"),
        ("cuts", None, "cuts is None, expected a list"),
        ("cuts", [70], r"seen is 64, expected a number in \[70, inf\)"),
        ("best", math.nan, "best is nan"),
        ("waited", 4, r"waited is 4, expected a whole number in \[0, 3\]"),
        ("cooling", 1.5, "cooling is 1.5"),
        ("cooling", 3, r"cooling is 3, expected a whole number in \[0, 2\]"),
        ("seen", None, "seen is None"),
    ],
)
def test_bad_states_of_a_plateau(name, value, message):
    schedule = SCHEDULES["ReduceOnPlateau"]()
    good = schedule.state_dict()
    with pytest.raises(ValueError, match=message):
        schedule.load_state_dict({**good, name: value})
    assert schedule.state_dict() == good


def test_from_state_dict_says_what_it_knows():
    with pytest.raises(ValueError, match="from_state_dict: the class is 'Line', expected one of Constant, Decay, "):
        schedules.from_state_dict({"class": "Line", "lr": 1})


def test_equal_are_those_of_the_same_class_and_settings():
    assert Cosine(0.1, 10) == Cosine(0.1, 10.0, final=0)
    assert Cosine(0.1, 10) != Cosine(0.1, 11)
    assert Constant(0.1) != SquareRoot(0.1)
    assert Constant(0.1) != 0.1
    seen = watched(ReduceOnPlateau(0.1), [1.0])
    assert seen != ReduceOnPlateau(0.1)
    asked = Decay(0.1, 0.1)
    asked(5)
    assert asked == Decay(0.1, 0.1)


def test_repr_is_the_call_that_makes_it():
    for schedule, text in (
        (Cosine(0.1, 100), "Cosine(lr=0.1, steps=100)"),
        (Decay(0.1, 0.01, step=5), "Decay(lr=0.1, tau=0.01, step=5)"),
        (Exponential(0.1, rate=0.9, decay_steps=2), "Exponential(lr=0.1, rate=0.9, decay_steps=2)"),
        (InEpochs(Constant(np.float64(1)), np.int64(3)), "InEpochs(schedule=Constant(lr=1.0), steps_per_epoch=3)"),
    ):
        assert repr(schedule) == text
        assert eval(text) == schedule


def test_a_schedule_of_ones_own():
    class Line(schedules.Schedule):
        def __init__(self, lr, steps=10):
            self.lr, self.steps = self.checked("lr", lr), self.checked("steps", steps, "(0, inf)")

        def at(self, t):
            return self.lr * max(0, 1 - t / self.steps)

    class Half(schedules.Schedule):
        def at(self, t):
            return 0.5

    assert rates(Line(1.0, 4), 6) == [1, 0.75, 0.5, 0.25, 0, 0]
    assert repr(Line(1.0)) == "Line(lr=1.0)"
    other = InEpochs(Line(1.0, 4), 2)
    other.load_state_dict(InEpochs(Line(1, 4), 2).state_dict())
    assert other == InEpochs(Line(1.0, 4), 2)
    with pytest.raises(ValueError, match=r"Line.load_state_dict: lr is 1.0, in the state 2.0, steps is 4, in the"):
        other.load_state_dict(InEpochs(Line(2.0, 7), 2).state_dict())
    assert (Half()(3), Half().state_dict(), repr(Half())) == (0.5, {"class": "Half"}, "Half()")


# ---------------------------------------------------------------- in an optimizer


@every_schedule
def test_an_optimizer_takes_its_rates(make):
    schedule, expected = make(), rates(make())
    x = ml.Tensor(np.zeros(1), requires_grad=True)
    optimizer = optim.SGD([x], lr=schedule)
    for t in range(30):
        assert optimizer.rate == expected[t]
        optimizer.zero_grad()
        x.backward(np.ones(1))
        optimizer.step()
    assert x.data[0] == pytest.approx(-sum(expected[:30]), rel=1e-12)


def test_an_optimizer_hears_of_a_plateau_at_once():
    x = ml.Tensor(np.zeros(1), requires_grad=True)
    schedule = ReduceOnPlateau(1.0, 0.5, patience=0)
    optimizer = optim.SGD([x], lr=schedule)
    used = []
    for loss in (3.0, 2.0, 2.0, 1.0, 1.0):
        used.append(optimizer.rate)
        optimizer.zero_grad()
        x.backward(np.ones(1))
        optimizer.step()
        schedule.observe(optimizer.t, loss)
    assert used == [1, 1, 1, 0.5, 0.5]
    assert used == rates(schedule, 5)


# ---------------------------------------------------------------- settings

BAD = [
    (lambda: Constant(-0.1), r"Constant: lr is -0.1, expected a number in \[0, inf\)"),
    (lambda: Constant(math.nan), "Constant: lr is nan"),
    (lambda: SquareRoot(math.inf), "SquareRoot: lr is inf"),
    (lambda: Decay(-1, 0.1), "Decay: lr is -1"),
    (lambda: Decay(0.1, -0.1), "Decay: tau is -0.1"),
    (lambda: Decay(0.1, math.inf), "Decay: tau is inf"),
    (lambda: Decay(0.1, 0.1, step=0), r"Decay: step is 0, expected a whole number in \[1, inf\)"),
    (lambda: Decay(0.1, 0.1, step=2.5), "Decay: step is 2.5"),
    (lambda: Decay(0.1, 0.1, step=5, alpha=0), r"Decay: alpha is 0, expected a number in \(0, 1\]"),
    (lambda: Decay(0.1, 0.1, alpha=1.1), "Decay: alpha is 1.1"),
    (lambda: Exponential(-0.1, 0.1), "Exponential: lr is -0.1"),
    (lambda: Exponential(0.1, -0.1), "Exponential: alpha is -0.1"),
    (lambda: Exponential(0.1, rate=0, decay_steps=5), "Exponential: rate is 0"),
    (lambda: Exponential(0.1, rate=1.01, decay_steps=5), "Exponential: rate is 1.01"),
    (lambda: Exponential(0.1, rate=0.9, decay_steps=0), "Exponential: decay_steps is 0"),
    (lambda: Exponential(0.1), "Exponential: alpha is None, rate is None.*; expected either alpha, or rate and"),
    (lambda: Exponential(0.1, 0.1, rate=0.9, decay_steps=5), "alpha is 0.1, rate is 0.9.*; expected either alpha"),
    (lambda: Exponential(0.1, rate=0.9), "decay_steps is None; expected"),
    (lambda: Exponential(0.1, decay_steps=5), "rate is None, decay_steps is 5; expected"),
    (lambda: Exponential(0.1, 0.1, decay_steps=5), "decay_steps is 5; expected"),
    (lambda: Cosine(0.1, 0), "Cosine: steps is 0"),
    (lambda: Cosine(0.1, -5), "Cosine: steps is -5"),
    (lambda: Cosine(0.1, 5, final=-1), "Cosine: final is -1"),
    (lambda: Cosine(0.1, 5, final=math.nan), "Cosine: final is nan"),
    (lambda: WarmUp(0.2, 0.1, 5, 10), r"WarmUp: peak is 0.1, expected a number in \[0.2, inf\)"),
    (lambda: WarmUp(0.1, 0.2, 0, 10), "WarmUp: warmup is 0"),
    (lambda: WarmUp(0.1, 0.2, 10, 10), r"WarmUp: steps is 10, expected a number in \(10, inf\)"),
    (lambda: WarmUp(0.1, 0.2, 5, 10, final=-1), "WarmUp: final is -1"),
    (lambda: Restarts(0.1, 0), "Restarts: period is 0"),
    (lambda: Restarts(0.1, 5, mult=0.9), r"Restarts: mult is 0.9, expected a number in \[1, inf\)"),
    (lambda: Restarts(0.1, 5, final=math.inf), "Restarts: final is inf"),
    (lambda: PiecewiseConstant([0.1], [5]), "there are 1 rates and 1 boundaries, expected one rate more"),
    (lambda: PiecewiseConstant([], []), "there are 0 rates"),
    (lambda: PiecewiseConstant([0.1, -0.1], [5]), r"PiecewiseConstant: rates\[1\] is -0.1"),
    (lambda: PiecewiseConstant([0.1, 0.1], [0]), r"PiecewiseConstant: boundaries\[0\] is 0"),
    (lambda: PiecewiseConstant([1, 2, 3], [5, 5]), r"boundaries is \(5, 5\), expected rising numbers"),
    (lambda: ReduceOnPlateau(-1), "ReduceOnPlateau: lr is -1"),
    (lambda: ReduceOnPlateau(0.1, factor=1), "ReduceOnPlateau: factor is 1"),
    (lambda: ReduceOnPlateau(0.1, factor=0), "ReduceOnPlateau: factor is 0"),
    (lambda: ReduceOnPlateau(0.1, patience=-1), "ReduceOnPlateau: patience is -1"),
    (lambda: ReduceOnPlateau(0.1, patience=math.inf), "ReduceOnPlateau: patience is inf"),
    (lambda: ReduceOnPlateau(0.1, threshold=1), "ReduceOnPlateau: threshold is 1"),
    (lambda: ReduceOnPlateau(0.1, cooldown=0.5), "ReduceOnPlateau: cooldown is 0.5"),
    (lambda: ReduceOnPlateau(0.1, least=0.2), r"ReduceOnPlateau: least is 0.2, expected a number in \[0, 0.1\]"),
    (lambda: InEpochs(Constant(1), 0), "InEpochs: steps_per_epoch is 0"),
    (lambda: InEpochs(Constant(1), 2.5), "InEpochs: steps_per_epoch is 2.5"),
    (lambda: InEpochs(Decay(1, 1), 5, smooth=True), "smooth is True, but Decay takes whole epochs only"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant("0.1"), "Constant: lr is '0.1', expected a number"),
        (lambda: Constant(True), "Constant: lr is True, expected a number"),
        (lambda: Decay(0.1, None), "Decay: tau is None"),
        (lambda: PiecewiseConstant(0.1, [5]), "PiecewiseConstant: rates is 0.1, expected a sequence of numbers"),
        (lambda: PiecewiseConstant([0.1, "1"], [5]), r"PiecewiseConstant: rates\[1\] is '1'"),
        (lambda: InEpochs(lambda t: 0.1, 5), "InEpochs: schedule is .*, expected one of optim.schedules"),
        (lambda: InEpochs(Constant(1), 5, smooth=1), "InEpochs: smooth is 1, expected True or False"),
        (lambda: schedules.Schedule()(0), "Schedule has no at method"),
    ],
)
def test_settings_of_the_wrong_kind(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_restarts_are_exact_at_large_t():
    from fractions import Fraction

    schedule = schedules.Restarts(0.1, 7, 7.3)
    begin, length = Fraction(0), Fraction(7)
    while begin < 65412873:
        begin, length = begin + length, length * Fraction("7.3")
    last = math.floor(begin)  # the last step before a restart
    assert schedule(last) < 1e-6
    assert schedule(last + 1) == pytest.approx(0.1, rel=1e-6)
    doubling = schedules.Restarts(0.1, 1, 2)
    assert doubling(2**30 - 1) == 0.1
    assert doubling(2**30 - 3) < 1e-12
