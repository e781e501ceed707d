"""The interactive page in a real browser: what its controls do, and that nothing leaves it."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from minidl import surfaces
from minidl.viz import write_race_page

pytest.importorskip("selenium", reason="needs selenium: pip install selenium")

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="needs chromium: apt-get install chromium"),
    pytest.mark.skipif(not DRIVER, reason="needs chromedriver: apt-get install chromium-driver"),
]
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1400,900"
)
STEPS = 60


@pytest.fixture(scope="module")
def sweep():
    return surfaces.sweep(
        surfaces.rosenbrock(), "sgd,heavyball,adadelta,adam,newton", steps=STEPS,
        rates=(1e-4, 1e-3, 1e-2, 10.0), epsilons=(1e-6, 1e-4, 1e-2, 1.0), momenta=(0.0, 0.5, 0.9),
    )  # fmt: skip


def started(folder, headless):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [headless, *FLAGS.split(), f"--user-data-dir={folder}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One browser for all tests of this file."""
    try:
        driver = started(tmp_path_factory.mktemp("new"), "--headless=new")
    except WebDriverException:
        driver = started(tmp_path_factory.mktemp("old"), "--headless")
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def url(sweep, tmp_path_factory):
    return write_race_page(sweep, tmp_path_factory.mktemp("page") / "race.html").as_uri()


@pytest.fixture
def shown(browser, url):
    """The browser with a fresh page; afterwards nothing may stand in its console."""
    browser.get_log("browser")
    opened(browser, url)
    yield browser
    assert browser.get_log("browser") == []


def opened(browser, url):
    browser.get(url)
    wait(browser).until(lambda b: b.execute_script("return document.body.dataset.ready !== undefined"))


def wait(browser):
    return WebDriverWait(browser, 10, poll_frequency=0.02)


def find(browser, name):
    return browser.find_element(By.ID, name)


def state(browser):
    return browser.execute_script("return {...document.body.dataset}")


def move(browser, name, value):
    """Move a slider as a user does: with the keys, one place after the other."""
    slider = find(browser, name)
    away = value - int(slider.get_property("value"))
    slider.send_keys((Keys.ARROW_RIGHT if away > 0 else Keys.ARROW_LEFT) * abs(away))
    assert int(slider.get_property("value")) == value


def path(browser, method):
    selector = f'#surface .run[data-method="{method}"] .path'
    return browser.find_element(By.CSS_SELECTOR, selector).get_attribute("d")


def entry(browser, method):
    return browser.find_element(By.CSS_SELECTOR, f'#legend button[data-method="{method}"]')


def corners(browser, method, domain):
    """Return the corners of a path in the drawing, in the surface's coordinates, and the size of a pixel in them."""
    pixels = np.array(re.findall(r"-?[\d.]+(?:e-?\d+)?", path(browser, method)), dtype=float).reshape(-1, 2)
    field = browser.find_element(By.CSS_SELECTOR, "#surface svg.field")
    size = np.array([float(field.get_attribute(name)) for name in ("width", "height")])
    low, high = np.array(domain, dtype=float).T
    places = low + pixels / size * (high - low)
    places[:, 1] = low[1] + high[1] - places[:, 1]  # y points down in a drawing
    return places, (high - low) / size


def test_it_opens_at_the_end_with_each_method_at_its_best(shown, sweep):
    assert state(shown).items() >= {"step": str(STEPS), "best": "true", "playing": "false"}.items()
    assert shown.title == "Rosenbrock's valley – an optimizer race"
    for family in sweep.families:
        assert family.method.label in entry(shown, family.method.name).text
    assert sweep.families[1].setting() in entry(shown, "heavyball").text
    assert shown.execute_script("return document.querySelectorAll('#surface .minimum, #surface .start').length") == 2
    assert not find(shown, "failure").is_displayed()


def test_the_paths_are_those_of_the_sweep(shown, sweep):
    for i, j, step in ((1, 2, 60), (1, 1, 17), (0, 2, 40)):
        move(shown, "rate", i)
        move(shown, "momentum", j)
        move(shown, "step", step)
        for family in (sweep.families[1], sweep.families[2], sweep.families[3]):
            drawn, pixel = corners(shown, family.method.name, sweep.problem.domain)
            true = family.paths[i, j, : step + 1]
            assert (np.abs(true) < 3).all()
            assert drawn.shape == true.shape
            assert (np.abs(drawn - true) < 0.25 * pixel).all()
        assert np.ptp(sweep.families[1].paths[i, j, : step + 1], axis=0).max() > 30 * pixel.max()


def test_the_legend_shows_the_losses_of_the_sweep(shown, sweep):
    for step in (0, 31):
        move(shown, "step", step)
        for family in sweep.families[:4]:
            text = entry(shown, family.method.name).find_element(By.CLASS_NAME, "loss").text
            i, j = family.best
            assert float(text.replace("−", "-")) == pytest.approx(family.losses[i, j, step], rel=0.06)


def test_the_step_slider_draws_the_paths_up_to_it(shown):
    before = path(shown, "sgd")
    move(shown, "step", STEPS - 20)
    assert state(shown)["step"] == find(shown, "at").text == str(STEPS - 20)
    assert before.startswith(path(shown, "sgd"))
    assert path(shown, "sgd").count("L") == before.count("L") - 20
    assert find(shown, "step").get_attribute("aria-valuetext") == f"step {STEPS - 20} of {STEPS}"
    now = shown.find_element(By.CSS_SELECTOR, "#losses .now")
    right = float(now.get_attribute("x1"))
    move(shown, "step", 0)
    assert path(shown, "sgd").count("L") == 0
    assert float(now.get_attribute("x1")) == 0 < right


def test_the_rate_slider_leaves_the_best_settings(shown, sweep):
    before = path(shown, "sgd"), path(shown, "newton")
    move(shown, "rate", 0)
    assert (state(shown)["best"], find(shown, "rate-value").text) == ("false", "0.0001")
    assert not find(shown, "best").is_selected()
    assert path(shown, "sgd") != before[0]
    assert path(shown, "newton") == before[1]
    assert sweep.families[0].setting((0, 0)) in entry(shown, "sgd").text
    assert sweep.families[2].setting((0, 2)) in entry(shown, "adadelta").text
    find(shown, "best").click()
    assert (state(shown)["best"], path(shown, "sgd")) == ("true", before[0])


def test_the_momentum_slider_changes_heavy_ball_but_not_sgd(shown):
    move(shown, "rate", 1)
    before = path(shown, "heavyball"), path(shown, "sgd")
    move(shown, "momentum", 1)
    assert (state(shown)["best"], find(shown, "momentum-value").text) == ("false", "0.5")
    assert path(shown, "heavyball") != before[0]
    assert path(shown, "sgd") == before[1]


def test_play_goes_on_by_itself_and_pause_stops(shown):
    find(shown, "play").click()
    wait(shown).until(lambda b: 2 < int(state(b)["step"]) < STEPS)
    assert find(shown, "play").text == "Pause"
    find(shown, "play").click()
    stopped = state(shown)["step"]
    assert find(shown, "play").text == "Play"
    still_after_frames(shown, 6)
    assert state(shown)["step"] == stopped


def still_after_frames(browser, frames):
    browser.execute_async_script(
        "let n = arguments[0]; const done = arguments[1];"
        "const tick = () => (n-- ? requestAnimationFrame(tick) : setTimeout(done, 60)); tick();", frames
    )  # fmt: skip


def test_the_space_key_plays_and_the_race_stops_at_its_end(shown):
    shown.execute_script("document.getElementById('speed').value = 25")
    move(shown, "step", STEPS - 40)
    find(shown, "step").send_keys(" ")
    assert state(shown)["playing"] == "true"
    wait(shown).until(lambda b: state(b)["playing"] == "false")
    assert state(shown)["step"] == str(STEPS)
    shown.find_element(By.TAG_NAME, "body").send_keys(" ")
    wait(shown).until(lambda b: int(state(b)["step"]) < STEPS)  # and begins anew
    find(shown, "reset").click()


def test_a_legend_entry_hides_and_shows_its_path(shown):
    drawn = shown.find_element(By.CSS_SELECTOR, '#surface .run[data-method="adam"] .path')
    other = shown.find_element(By.CSS_SELECTOR, '#surface .run[data-method="sgd"] .path')
    button = entry(shown, "adam")
    assert (button.get_attribute("aria-pressed"), drawn.is_displayed()) == ("true", True)
    button.click()
    assert (button.get_attribute("aria-pressed"), drawn.is_displayed(), other.is_displayed()) == ("false", False, True)
    button.send_keys(Keys.ENTER)
    assert (button.get_attribute("aria-pressed"), drawn.is_displayed()) == ("true", True)
    find(shown, "none").click()
    assert not any(line.is_displayed() for line in shown.find_elements(By.CSS_SELECTOR, ".run > path"))
    find(shown, "all").click()
    assert drawn.is_displayed()
    assert other.is_displayed()


def test_an_entry_in_focus_lights_its_path_up(shown):
    find(shown, "none").send_keys(Keys.TAB)
    group = shown.find_element(By.CSS_SELECTOR, '#surface .run[data-method="sgd"]')
    other = shown.find_element(By.CSS_SELECTOR, '#surface .run[data-method="adam"]')
    wait(shown).until(lambda b: float(other.value_of_css_property("opacity")) < 0.2)
    assert float(group.value_of_css_property("opacity")) == 1


def test_a_diverged_run_is_named(shown, sweep):
    move(shown, "rate", 3)
    lost = int(np.isnan(sweep.families[0].losses[3, 0]).argmax())
    assert lost > 1
    button = entry(shown, "sgd")
    assert f"diverged at step {lost}" in button.text
    move(shown, "step", lost)
    assert f"diverged at step {lost}" in button.text
    move(shown, "step", lost - 1)
    assert "diverged" not in button.text
    assert "left the picture at step 1" in button.text
    move(shown, "step", 0)
    assert button.get_attribute("data-fate") == ""


def test_a_leap_out_of_the_picture_keeps_its_direction(shown, sweep):
    move(shown, "rate", 3)
    move(shown, "step", 1)
    leap = np.diff(sweep.families[0].paths[3, 0, :2], axis=0)[0]
    assert np.linalg.norm(leap) > 1000
    drawn, _ = corners(shown, "sgd", sweep.problem.domain)
    (x, y), length = drawn[1] - drawn[0], np.linalg.norm(leap)
    assert np.hypot(x, y) < 12  # cut off, for the browser's sake, where it is not seen
    np.testing.assert_allclose((x, y) / np.hypot(x, y), leap / length, atol=0.01)


def test_a_run_that_comes_back_is_drawn_anew_from_where_it_enters(shown, sweep):
    move(shown, "momentum", 0)
    move(shown, "rate", 3)
    low, high = np.array(sweep.problem.domain).T
    true = sweep.families[3].paths[3, 0]
    away = (np.abs(true - (low + high) / 2) > 1.5 * (high - low)).any(axis=1)
    assert away.any()
    assert not away[-1]
    drawn, pixel = corners(shown, "adam", sweep.problem.domain)
    assert path(shown, "adam").count("M") > 1
    assert (np.abs(drawn - (low + high) / 2) <= 1.5 * (high - low) + pixel).all()
    np.testing.assert_allclose(drawn[-1], true[-1], atol=0.25 * pixel.max())


def test_arrival_at_the_minimum_is_named(shown, sweep):
    near = np.linalg.norm(sweep.families[4].paths[0, 0] - 1, axis=-1) < 0.01
    assert f"minimum at step {near.argmax()}" in entry(shown, "newton").text
    move(shown, "step", int(near.argmax()) - 1)
    assert "minimum" not in entry(shown, "newton").text


def test_reset_goes_back_to_the_beginning(shown):
    before = state(shown), path(shown, "sgd")
    move(shown, "rate", 1)
    move(shown, "step", 9)
    entry(shown, "sgd").click()
    find(shown, "reset").click()
    assert (state(shown), path(shown, "sgd")) == before
    assert entry(shown, "sgd").get_attribute("aria-pressed") == "true"


def test_the_loss_panel_takes_a_click_as_a_step(shown):
    panel = find(shown, "losses")
    webdriver.ActionChains(shown).move_to_element(panel).click().perform()
    assert 0 < int(state(shown)["step"]) < STEPS


@pytest.mark.parametrize(("width", "height"), [(380, 800), (760, 900), (1400, 900)])
def test_it_fits_the_width(shown, width, height):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    shown.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        wait(shown).until(lambda b: b.execute_script("return innerWidth") == width)
        inside = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        wait(shown).until(lambda b: b.execute_script(inside))
        drawings = "return [...document.querySelectorAll('.drawing > svg')].map(s => s.getBoundingClientRect().width)"
        surface, losses = shown.execute_script(drawings)
        assert min(surface, losses) > 300
        move(shown, "step", STEPS - 3)
        assert state(shown)["step"] == str(STEPS - 3)
    finally:
        shown.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_nothing_is_asked_of_the_network_and_nothing_is_global(browser, url, tmp_path):
    (tmp_path / "empty.html").write_text("<!doctype html><title>empty</title>")
    browser.get((tmp_path / "empty.html").as_uri())
    plain = names_of_window(browser)
    browser.get_log("performance")
    opened(browser, url)
    assert names_of_window(browser) == plain
    find(browser, "play").click()
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [address for address in asked if not address.startswith("data:")] == [url]


def names_of_window(browser):
    browser.execute_script("")  # after which the driver's own name is there
    return set(browser.execute_script("return Object.getOwnPropertyNames(window)"))


def test_hostile_titles_run_no_script(browser, sweep, tmp_path):
    evil = "</title></script><script>document.body.dataset.evil = 1</script><img src=x onerror=alert(1)>"
    method = replace(sweep.families[0].method, label=evil)
    families = (replace(sweep.families[0], method=method),)
    hostile = replace(sweep, problem=replace(sweep.problem, title=evil), families=families)
    opened(browser, write_race_page(hostile, tmp_path / "hostile.html").as_uri())
    assert browser.find_element(By.TAG_NAME, "h1").text == evil
    assert entry(browser, "sgd").find_element(By.CLASS_NAME, "name").text == evil
    assert "evil" not in state(browser)
    assert browser.find_elements(By.TAG_NAME, "img") == []
    assert not find(browser, "momentum-row").is_displayed()


def test_methods_without_any_setting_have_no_sliders(browser, sweep, tmp_path):
    newton = sweep.families[4]
    stopped = replace(newton, paths=newton.paths.copy(), losses=newton.losses.copy())
    stopped.paths[0, 0, 4:], stopped.losses[0, 0, 4:] = np.nan, np.nan
    opened(browser, write_race_page(replace(sweep, families=(stopped,)), tmp_path / "alone.html").as_uri())
    assert not find(browser, "rate-row").is_displayed()
    assert path(browser, "newton").count("L") == 3
    assert "goes no further than step 3" in entry(browser, "newton").text  # it did not diverge
