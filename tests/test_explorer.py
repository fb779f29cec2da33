"""The Explorer in a browser: each of its figures is the one of `d2l_dense.cost`."""

import inspect
import random
import re
from urllib.parse import urlencode

import pytest
import torch
from conftest import HTML, PHONE, barriers, empty_page

import explorer_figures as figures
from d2l_dense import VARIANTS, DenseNet, cost

pages = pytest.mark.pages

PAGE = "chapters/explorer.html"
# What the page shows at each of some addresses: message, Python, figures.
READ = """queries => queries.map(query => {
    if (query !== null) {
        history.replaceState(null, "", "?" + query);
        dispatchEvent(new PopStateEvent("popstate"));
    }
    const part = name => document.querySelector(`#explorer [data-part=${name}]`);
    const cells = [...document.querySelectorAll("#explorer [data-value]")];
    return [part("error").textContent, part("python").textContent,
        cells.map(cell => [cell.dataset.part, cell.dataset.value])];
})"""


def drawn(seed, **fixed):
    """A configuration with every knob at random, and its setting."""
    rng = random.Random(seed)
    whole = ("growth_rate", "num_channels", "in_channels", "num_classes")
    config = {key: rng.randint(*figures.LIMITS[key]) for key in whole}
    blocks, deepest = rng.randint(*figures.LIMITS["blocks"]), rng.choice([4, 12])
    config["arch"] = tuple(rng.randint(1, deepest) for _ in range(blocks))
    config["bottleneck"] = rng.choice([None, *range(1, 9)])
    config["compression"] = rng.randint(1, 100) / 100
    config["bias"] = rng.random() < 0.5
    for key in ("pool", "stem", "memory"):
        config[key] = rng.choice(figures.CHOICES[key])
    side, batch = (rng.randint(*figures.LIMITS[key]) for key in ("side", "batch"))
    return config | fixed, {"side": side, "batch": batch, "bytes": rng.choice([2, 4])}


def preset(name):
    config = {k: v for k, v in figures.PRESETS[name].items() if k != "side"}
    side = figures.PRESETS[name]["side"]
    return config, {"side": side, "batch": figures.BATCH, "bytes": 4}


SETTING = preset(figures.CHAPTER)[1]


def query(config, setting):
    """The address that asks for all of it."""
    values = figures.DEFAULTS | config | setting
    values["arch"] = ",".join(map(str, values["arch"]))
    values["bottleneck"] = values["bottleneck"] or "none"
    values["dtype"] = "half" if values.pop("bytes") == 2 else "fp32"
    return urlencode(values)


def expected(config, setting=SETTING):
    """The page's figures, by the Python code."""
    size = {"bytes_per_element": setting["bytes"]}
    image = (config.get("in_channels", 1), setting["side"], setting["side"])
    shape = (setting["batch"], *image)
    parameters, macs, activations = cost.summary(config, shape, **size)[1:]
    values = {"parameters": parameters, "activations": activations}
    values["macs"] = macs // setting["batch"]
    for memory in figures.MEMORY:
        chosen = {**config, "memory": memory}
        peak = cost.peak(chosen, shape, **size)
        values[f"peak-{memory}"] = peak.total
        for i, budget in enumerate(figures.BUDGETS):
            largest = cost.largest_batch(chosen, image, budget, **size)
            values[f"largest-{memory}-{i}"] = largest
        if memory == config.get("memory", "plain"):
            values["peak"] = peak.total
            parts = peak._asdict().items()
            values |= {f"peak-{part}": n for part, n in parts if part != "stage"}
    return values


def read(page, queries=(None,)):
    """What the page shows there, or as it is: messages, calls of Python, figures."""
    for message, code, cells in page.evaluate(READ, [*queries]):
        yield message, code, {part: int(value) for part, value in cells}


def shown(page):
    """Message and figures."""
    ((message, _, found),) = read(page)
    return message, found


def works(config, setting=SETTING):
    return "", expected(config, setting)


@pytest.fixture(scope="module")
def page(browser, site):
    """The Explorer's page, opened once; a test goes to the address that it needs."""
    allowed = ["clipboard-read", "clipboard-write"]
    with empty_page(browser, permissions=allowed, base_url=site) as page:
        yield page


def test_any_network_is_counted_as_ours_are_in_closed_form():
    for name, side in (("121", 224), ("40-12", 32)):
        with torch.device("meta"):
            net = DenseNet.variant(name)
        expected = cost.summary(VARIANTS[name], (1, 3, side, side))[1:]
        assert figures.counted(net, (1, 3, side, side)) == [*expected]


@pages
def test_every_figure_is_that_of_the_python_code(page):
    cases = [drawn(seed) for seed in range(300)]
    cases += [preset(name) for name in figures.PRESETS]
    widest = {"num_channels": 256, "in_channels": 16, "num_classes": 1000}
    widest |= {"growth_rate": 64, "compression": 1.0, "pool": "max", "stem": "cifar"}
    for bottleneck in (None, 8):  # every number exact at the end of every knob
        config = widest | {"arch": (64,) * 6, "bottleneck": bottleneck}
        cases.append((config, {"side": 512, "batch": 4096, "bytes": 4}))
    plain = {k: v.default for k, v in inspect.signature(DenseNet).parameters.items()}
    page.goto(PAGE)
    results = read(page, [query(*case) for case in cases])
    refused = 0
    for (config, setting), (error, code, found) in zip(cases, results, strict=True):
        if not error:
            assert found == expected(config, setting), (config, setting)
            # What is not the default, as a call of Python.
            given = eval(code, {"__builtins__": {}, "DenseNet": dict})
            assert plain | given == plain | config
            assert [key for key in given if given[key] == plain[key]] == []
            continue
        refused += 1
        with pytest.raises(ValueError):
            expected(config, setting)
        assert re.match(r"(side|compression)=[\d.]+ is too small", error)
        if side := re.search(r"at least (\d+) pixels", error):
            enough = config | {"compression": 1.0}
            assert expected(enough, setting | {"side": int(side[1])})
            with pytest.raises(ValueError):
                expected(enough, setting | {"side": int(side[1]) - 1})
    assert 3 < refused < 100


@pages
def test_knobs_by_hand_the_address_and_the_clipboard(page):
    page.goto(PAGE)
    page.locator("[name=preset]").select_option("BC-100-12")
    config, setting = preset("BC-100-12")
    assert shown(page) == works(config, setting)
    config |= {"growth_rate": 24, "bias": True, "pool": "max", "compression": 0.57}
    config |= {"arch": (16, 3), "bottleneck": None}
    typed = {"blocks": 2, "layers2": 3, "growth_rate": 24, "side": 40}
    for key, value in typed.items():
        page.locator(f"[name={key}]").fill(str(value))
    page.locator("[name=bias]").check()
    for key, value in {"pool": "max", "bottleneck": "none", "dtype": "half"}.items():
        page.locator(f"[name={key}]").select_option(value)
    setting |= {"side": 40, "bytes": 2}
    assert shown(page) == works(config, setting)
    page.reload()
    assert shown(page) == works(config, setting)
    page.locator("[data-part=copy]").click()
    page.wait_for_function("document.querySelector('[data-part=copied]').textContent")
    code = page.locator("[data-part=python]").inner_text()
    assert page.evaluate("navigator.clipboard.readText()") == code
    page.locator("[data-part=reset]").click()
    assert shown(page) == works({}) and page.url.endswith(PAGE)


@pages
def test_back_undoes_a_knob(page):
    page.goto(PAGE)
    page.locator("[name=growth_rate]").press("ArrowRight")
    page.locator("[name=pool]").select_option("max")
    assert shown(page) == works({"growth_rate": 33, "pool": "max"})
    page.go_back()
    assert shown(page) == works({"growth_rate": 33})
    assert page.locator("[name=pool]").input_value() == "avg"
    page.go_back()
    assert shown(page) == works({})


@pages
def test_a_bad_address_says_so_and_gives_the_default(page):
    page.goto(PAGE)
    words = {
        "growth_rate=x": "growth_rate=x: expected a whole number from 1 to 64",
        "growth_rate=65": "growth_rate=65: expected",
        "growth_rate=": "growth_rate=(empty): expected",
        "arch=4,0": "layers=0: expected",
        "arch=1,1,1,1,1,1,1": "expected at most 6 blocks",
        "compression=0": "0 < theta <= 1",
        "compression=1e-1": "0 < theta <= 1",
        "pool=median": "pool=median: expected one of avg, max, stride",
        "preset=%3Cimg%20src=x%3E": "preset=<img src=x>: expected one of",
    }
    results = read(page, [f"{bad}&num_classes=7" for bad in words])
    for text, (error, _, found) in zip(words.values(), results, strict=True):
        assert text in error and "default" in error
        assert found == expected({"num_classes": 7})


@pages
def test_unknown_keys_of_an_address_are_left_out(page):
    page.goto(f"{PAGE}?growth_rate=%2012+&fbclid=x&_x_tr_sl=en&depth=3&__proto__=3")
    assert shown(page) == works({"growth_rate": 12})
    page.locator("[name=growth_rate]").press("ArrowRight")
    page.wait_for_url(re.compile(r"\?growth_rate=13$"))


@pages
def test_a_wrong_number_is_named_and_the_last_figures_stay(page):
    page.goto(f"{PAGE}?growth_rate=12")
    side = page.locator("[name=side]")
    for wrong, words in (
        ("0", "side=0: expected a whole number from 1 to 512"),
        ("", "side=(empty): expected a whole number"),
        ("28", "side=28 is too small: 4 blocks"),
    ):
        side.fill(wrong)
        error, found = shown(page)
        assert words in error and "the last network that works" in error
        assert side.get_attribute("aria-invalid") == "true"
        assert found == expected({"growth_rate": 12})
    side.fill("29")
    side.fill("99999")  # gives way to what is shown
    page.locator("[name=growth_rate]").press("ArrowRight")
    assert shown(page) == works({"growth_rate": 13}, SETTING | {"side": 29})
    assert side.input_value() == "29"
    assert page.locator("[aria-invalid]").count() == 0


@pages
def test_every_layer_is_drawn_and_the_keyboard_walks_them(page):
    page.goto(f"{PAGE}?growth_rate=33")
    assert page.locator("[data-layer][tabindex='0']").count() == 1  # one tab stop
    page.locator("[data-layer][tabindex='0']").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    focused = page.locator(":focus")
    assert focused.get_attribute("data-layer") == "block1.layer3"
    assert focused.get_attribute("data-reads") == "130"
    assert "130" in page.locator("[data-part=layer]").inner_text()
    names = "e => e.map(bar => [bar.dataset.layer, Number(bar.dataset.channels)])"
    lit = page.locator("#explorer .feeds").evaluate_all(names)
    assert lit == [["stem", 64], ["block1.layer1", 97], ["block1.layer2", 130]]
    assert page.locator("#explorer .lit path").count() == 3

    page.goto(f"{PAGE}?preset=BC-250-24")
    rows = cost.summary(VARIANTS["BC-250-24"], (1, 3, 32, 32)).rows
    bars = page.locator("#explorer [data-layer]").evaluate_all(names)
    assert bars == [[row.name, row.shape[0]] for row in rows]
    assert page.locator("#explorer .connections path").count() == 0  # too many
    page.locator("[data-layer='block2.layer5']").hover()
    assert page.locator("#explorer .lit path").count() == 5


@pages
def test_a_change_is_said_once(page):
    page.goto(PAGE)
    page.evaluate(
        """() => new MutationObserver(() => { window.said = (window.said ?? 0) + 1; })
            .observe(document.querySelector("[data-part=status]"), {childList: true})"""
    )
    for _ in range(5):
        page.locator("[name=growth_rate]").press("ArrowRight")
    parameters = expected({"growth_rate": 37})["parameters"]
    status = page.locator("[aria-live=polite]", has_text=f"{parameters:,} parameters")
    status.wait_for(state="attached")
    assert page.evaluate("window.said") <= 2


@pages
def test_without_javascript_the_table_stands(open_page):
    page = open_page(PAGE, java_script_enabled=False)
    assert not page.locator("#explorer").is_visible()
    rows = page.locator(".explorer-table tbody tr:visible").evaluate_all(
        """rows => rows.map(row => [row.querySelector("th").textContent,
            ...[...row.querySelectorAll("td[data-value]")]
                .map(cell => Number(cell.dataset.value))])"""
    )
    assert rows[:-5] == [[name, *values] for name, _, values in figures.presets()]
    # torchvision publishes the parameters.
    assert rows[-5] == ["ResNet-18", 11_689_512, 1_814_073_344, 21_577_728]
    assert rows[-3][:3] == ["ResNet-50", 25_557_032, 4_089_184_256]


@pages
def test_works_from_the_disk(new_page):
    page = new_page()
    page.goto((HTML / PAGE).as_uri() + "?preset=121")
    page.locator("[name=growth_rate]").press("ArrowRight")
    config, setting = preset("121")
    assert shown(page) == works(config | {"growth_rate": 33}, setting)


@pages
def test_its_files_are_small_and_on_its_page_alone():
    folder = HTML / "_static" / "explorer"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 60_000
    for path in (HTML / "chapters").glob("*.html"):
        text = path.read_text("utf-8")
        assert ("_static/explorer/" in text) == (path.stem == "explorer")


@pages
def test_no_barrier_with_a_message_and_many_layers(open_page):
    page = open_page(f"{PAGE}?preset=121", viewport=PHONE)
    page.locator("[name=side]").fill("0")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert barriers(page) == []


@pages
def test_the_links_to_try_set_a_state(page):
    page.goto(PAGE)
    links = page.locator("article a[href^='?']").evaluate_all("e => e.map(x => x.href)")
    assert len(links) >= 4
    for link in links:
        small = "side=28" in link
        error, _, found = next(read(page, [link.partition("?")[2]]))
        assert ("at least 29 pixels" in error) == small
        assert small or found != expected({})
