"""The Explorer in a browser: each of its figures is the one of `d2l_dense.cost`."""

import inspect
import json
import random
import re
import sys
from urllib.parse import urlencode

import pytest
from conftest import HTML
from helpers import serious_barriers

from d2l_dense import VARIANTS, DenseNet, cost

sys.path.insert(0, str(HTML.parent.parent / "book" / "extensions"))
import explorer  # noqa: E402

pytestmark = pytest.mark.pages

PAGE = "chapters/explorer.html"
FILES = ("cost.js", "view.js", "style.css")
PHONE = {"viewport": {"width": 390, "height": 844}}
READ = """() => Object.fromEntries(
    [...document.querySelectorAll("#explorer [data-value]")]
        .map(e => [e.dataset.part, e.dataset.value]))"""
COUNT = """cases => JSON.stringify(
    cases.map(([config, setting]) => {
        try {
            return DenseNetCost.count(config, setting);
        } catch (error) {
            return {error: error.message};
        }
    }),
    (key, value) => typeof value === "bigint" ? String(value) : value)"""


def drawn(seed, largest=16, **fixed):
    """A configuration with every knob at random, and its setting."""
    rng = random.Random(seed)
    config = {k: rng.randint(*explorer.LIMITS[k]) for k in ("growth_rate",)}
    for key in ("num_channels", "in_channels", "num_classes"):
        config[key] = rng.randint(*explorer.LIMITS[key])
    blocks = rng.randint(*explorer.LIMITS["blocks"])
    deepest = rng.choice([4, largest])
    config["arch"] = tuple(rng.randint(1, deepest) for _ in range(blocks))
    config["bottleneck"] = rng.choice([None, *range(1, 9)])
    config["compression"] = rng.randint(1, 100) / 100
    config["bias"] = rng.random() < 0.5
    for key in ("pool", "stem", "memory"):
        config[key] = rng.choice(explorer.choices()[key])
    side, batch = (rng.randint(*explorer.LIMITS[key]) for key in ("side", "batch"))
    return config | fixed, {"side": side, "batch": batch, "bytes": rng.choice([2, 4])}


def preset(name):
    config = explorer.presets()[name]
    setting = {"side": config.pop("side"), "batch": explorer.BATCH, "bytes": 4}
    return config, setting


def largest_batch(config, image, budget, options, found):
    """`cost.largest_batch`, at once where what was found is right."""

    def fits(n):
        return not n or cost.peak(config, (n, *image), **options).total <= budget

    if found is not None and fits(found) and not fits(found + 1):
        return found
    return cost.largest_batch(config, image, budget, **options)


def expected(config, setting, found=None):
    """What the page's data-value attributes hold, by the Python code, or its error."""
    claimed = found or {}
    bytes_per_element = {"bytes_per_element": setting["bytes"]}
    image = (config.get("in_channels", 1), setting["side"], setting["side"])
    shape = (setting["batch"], *image)
    try:
        counted = cost.summary(config, shape, **bytes_per_element)
    except ValueError as error:
        return {"error": str(error)}
    values = {
        "parameters": counted.parameters,
        "macs": counted.macs // setting["batch"],
        "activations": counted.activation_bytes,
    }
    for memory in cost.MEMORY:
        chosen = {**config, "memory": memory}
        peak = cost.peak(chosen, shape, **bytes_per_element)
        values[f"peak-{memory}"] = peak.total
        for i, budget in enumerate(explorer.BUDGETS):
            key = f"largest-{memory}-{i}"
            values[key] = largest_batch(
                chosen, image, budget, bytes_per_element, claimed.get(key)
            )
        if memory == config.get("memory", "plain"):
            values["peak"] = peak.total
            for part in peak._fields[1:]:
                values[f"peak-{part}"] = getattr(peak, part)
    return values


def shown(page):
    """The same, as the page shows it."""
    error = page.locator("#explorer [data-part=error]")
    if error.is_visible():
        return {"error": error.inner_text()}
    return {part: int(value) for part, value in page.evaluate(READ).items()}


def flat(counted, strategy):
    """The same, of what cost.js returns."""
    values = {k: counted[k] for k in ("parameters", "macs", "activations")}
    for memory, peak in counted["memory"].items():
        values[f"peak-{memory}"] = peak["total"]
        for i, n in enumerate(peak["largest"]):
            values[f"largest-{memory}-{i}"] = n
    peak = counted["memory"][strategy]
    values["peak"] = peak["total"]
    values |= {f"peak-{part}": peak[part] for part in cost.Peak._fields[1:]}
    return {key: int(value) for key, value in values.items()}


def address(config, setting):
    query = {}
    for key, value in config.items():
        query[key] = "none" if value is None else value
    query["arch"] = ",".join(map(str, config["arch"]))
    query |= {"side": setting["side"], "batch": setting["batch"]}
    query["dtype"] = {2: "half", 4: "fp32"}[setting["bytes"]]
    return f"{PAGE}?{urlencode(query)}"


def turn(page, config, setting):
    """Turn every knob by hand."""
    values = {**config, **setting, "dtype": {2: "half", 4: "fp32"}[setting["bytes"]]}
    del values["bytes"]
    arch = values.pop("arch")
    values |= {"blocks": len(arch)}
    values |= {f"layers{i}": n for i, n in enumerate(arch, start=1)}
    for key, value in values.items():
        knob = page.locator(f"#explorer [name={key}]")
        if isinstance(value, bool):
            knob.set_checked(value)
        elif key in explorer.choices():
            knob.select_option("none" if value is None else str(value))
        else:
            knob.fill(str(value))


def test_the_module_counts_as_the_python_code(open_page):
    cases = [drawn(seed, largest=12) for seed in range(300)]
    cases += [preset(name) for name in explorer.presets()]
    extreme = dict(
        growth_rate=64, arch=(64,) * 6, num_channels=256, in_channels=16,
        num_classes=1000, compression=1.0, pool="max", stem="cifar",
    )  # fmt: skip
    for bottleneck in (None, 8):  # every number exact at the end of every knob
        largest = {"side": 512, "batch": 4096, "bytes": 4}
        cases.append((extreme | {"bottleneck": bottleneck}, largest))
    full = [
        [explorer.defaults() | config, setting | {"budgets": explorer.BUDGETS}]
        for config, setting in cases
    ]
    page = open_page(PAGE)
    errors = 0
    counted = json.loads(page.evaluate(COUNT, full))
    for (config, setting), one in zip(cases, counted, strict=True):
        found = one if "error" in one else flat(one, config.get("memory", "plain"))
        assert found == expected(config, setting, found), (config, setting)
        errors += "error" in found
    assert 3 < errors < 100  # messages are compared too


def test_every_preset_by_its_select(open_page):
    page = open_page(PAGE)
    for name in explorer.presets():
        page.locator("[name=preset]").select_option(name)
        found = shown(page)
        assert found == expected(*preset(name), found), name


def test_knobs_turned_by_hand(open_page):
    page = open_page(PAGE)
    for seed in range(1000, 1030):
        config, setting = drawn(seed)
        turn(page, config, setting)
        found = shown(page)
        assert found == expected(config, setting, found), (config, setting)


def test_the_address_holds_the_state(open_page, site):
    page = open_page(PAGE)
    for seed in range(2000, 2012):
        config, setting = drawn(seed)
        page.goto(site + address(config, setting))
        found = shown(page)
        assert found == expected(config, setting, found), (config, setting)
        page.locator("[name=bias]").click()
        page.locator("[name=bias]").click()  # writes the address anew
        before = shown(page)
        page.reload()
        assert shown(page) == before


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("growth_rate=x", "growth_rate=x: expected a whole number from 1 to 64"),
        ("growth_rate=65", "growth_rate=65: expected"),
        ("growth_rate=", "growth_rate=(empty): expected"),
        ("arch=4,0", "arch[1]=0: expected"),
        ("arch=1,1,1,1,1,1,1", "expected at most 6 blocks"),
        ("compression=0", "0 < theta <= 1"),
        ("compression=1e-1", "0 < theta <= 1"),
        ("pool=median", "pool=median: expected one of avg, max, stride"),
        ("preset=122", "preset=122: expected one of"),
        ("depth=3", "depth: expected one of"),
        ("__proto__=3", "__proto__: expected one of"),
        ("preset=%3Cimg%20src=x%3E", "preset=<img src=x>: expected one of"),
    ],
)
def test_a_bad_address_says_so_and_gives_the_defaults(open_page, query, words):
    page = open_page(f"{PAGE}?{query}")
    message = page.locator("#explorer [data-part=error]").inner_text()
    assert words in message and "defaults" in message
    found = {part: int(value) for part, value in page.evaluate(READ).items()}
    assert found == expected(*preset(explorer.CHAPTER))
    page.locator("[name=growth_rate]").press("ArrowRight")
    assert not page.locator("#explorer [data-part=error]").is_visible()


def test_what_other_sites_add_to_an_address_is_left_out(open_page):
    page = open_page(f"{PAGE}?growth_rate=12&fbclid=x&utm_source=y&highlight=z")
    assert not page.locator("#explorer [data-part=error]").is_visible()
    setting = preset(explorer.CHAPTER)[1]
    assert shown(page) == expected({"growth_rate": 12}, setting)
    page.locator("[name=growth_rate]").press("ArrowRight")
    page.wait_for_url(re.compile(r"\?growth_rate=13$"))


def test_a_wrong_number_is_named_and_marked(open_page):
    page = open_page(PAGE)
    page.locator("[name=side]").fill("0")
    assert "side=0: expected a whole number from 1 to 512" in shown(page)["error"]
    assert page.locator("[name=side]").get_attribute("aria-invalid") == "true"
    page.locator("[data-part=reset]").click()
    assert shown(page) == expected(*preset(explorer.CHAPTER))
    assert page.locator("[aria-invalid]").count() == 0


def test_a_wrong_number_gives_way_to_what_is_shown(open_page):
    page = open_page(PAGE)
    page.locator("[name=side]").fill("99999")
    page.locator("[name=growth_rate]").press("ArrowRight")
    setting = preset(explorer.CHAPTER)[1]
    assert shown(page) == expected({"growth_rate": 33}, setting)
    assert page.locator("[name=side]").input_value() == str(setting["side"])
    assert page.locator("[aria-invalid]").count() == 0


def test_reset(open_page, site):
    page = open_page(f"{PAGE}?preset=264&memory=shared&dtype=half&batch=3")
    page.locator("[data-part=reset]").click()
    assert shown(page) == expected(*preset(explorer.CHAPTER))
    page.wait_for_url(site + PAGE)
    assert page.locator("[name=batch]").input_value() == str(explorer.BATCH)


@pytest.mark.parametrize("case", [*VARIANTS, explorer.CHAPTER, *range(10)], ids=str)
def test_copied_python_builds_the_same_network(open_page, case):
    if isinstance(case, int):
        config, setting = drawn(case, arch=(3, 2)[: 1 + case % 2], compression=0.57)
    else:
        config, setting = preset(case)
    page = open_page(address({"arch": (4, 4, 4, 4)} | config, setting))
    code = page.locator("[data-part=python]").inner_text()
    given = eval(code, {"__builtins__": {}, "DenseNet": dict})
    plain = {
        key: value.default
        for key, value in inspect.signature(DenseNet).parameters.items()
    }
    assert plain | given == plain | config
    assert [key for key, value in given.items() if value == plain[key]] == []


def test_copy_writes_to_the_clipboard(open_page):
    page = open_page(
        f"{PAGE}?growth_rate=12", permissions=["clipboard-read", "clipboard-write"]
    )
    page.locator("[data-part=copy]").click()
    page.wait_for_function("document.querySelector('[data-part=copied]').textContent")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "DenseNet(growth_rate=12)"


def test_keyboard_turns_a_knob_and_walks_the_layers(open_page):
    page = open_page(PAGE)
    page.locator("[name=growth_rate]").focus()
    page.keyboard.press("ArrowRight")
    config = {"growth_rate": 33}
    assert shown(page) == expected(config, preset(explorer.CHAPTER)[1])
    page.wait_for_url(re.compile("growth_rate=33"))
    assert page.locator("[data-layer][tabindex='0']").count() == 1  # one tab stop
    page.locator("[data-layer][tabindex='0']").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    focused = page.locator(":focus")
    assert focused.get_attribute("data-layer") == "block1.layer3"
    read = str(cost.channels(64, 2, 33))
    assert focused.get_attribute("data-reads") == read
    assert read in page.locator("[data-part=layer]").inner_text()
    lit = page.locator("#explorer .feeds").evaluate_all(
        "e => e.map(x => x.dataset.layer)"
    )
    assert lit == ["stem", "block1.layer1", "block1.layer2"]
    assert page.locator("#explorer .lit path").count() == 3


@pytest.mark.parametrize("name", ["121", "BC-250-24"])
def test_every_layer_is_drawn_with_its_channels(open_page, name):
    config, setting = preset(name)
    page = open_page(f"{PAGE}?preset={name}")
    image = (config["in_channels"], setting["side"], setting["side"])
    rows = cost.summary(config, (1, *image)).rows
    bars = page.locator("#explorer [data-layer]").evaluate_all(
        "e => e.map(x => [x.dataset.layer, Number(x.dataset.channels)])"
    )
    assert bars == [[row.name, row.shape[0]] for row in rows]
    assert page.locator("#explorer .connections path").count() == 0  # too many
    page.locator("[data-layer='block2.layer5']").hover()
    assert page.locator("#explorer .lit path").count() == 5


def test_the_largest_network_stays_fast(open_page):
    page = open_page(f"{PAGE}?preset=BC-250-24")
    milliseconds = page.evaluate(
        """() => {
            const knob = document.querySelector("[name=growth_rate]");
            const start = performance.now();
            for (const value of [20, 21, 22, 23, 24]) {
                knob.value = value;
                knob.dispatchEvent(new Event("input", {bubbles: true}));
            }
            return (performance.now() - start) / 5;
        }"""
    )
    assert milliseconds < 500  # some 10; the machine may be busy


def test_a_change_is_said_once(open_page):
    page = open_page(PAGE)
    page.evaluate(
        """() => {
            window.said = 0;
            const status = document.querySelector("[data-part=status]");
            new MutationObserver(() => { window.said += 1; })
                .observe(status, {childList: true});
        }"""
    )
    page.locator("[name=growth_rate]").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    status = page.locator("[data-part=status]")
    found = expected({"growth_rate": 37}, preset(explorer.CHAPTER)[1])
    page.wait_for_function(
        """text => document.querySelector("[data-part=status]")
            .textContent.includes(text)""",
        arg=f"{found['parameters']:,}",
    )
    assert status.get_attribute("aria-live") == "polite"
    assert page.evaluate("window.said") <= 2


def test_without_javascript_the_table_stands(open_page):
    page = open_page(PAGE, java_script_enabled=False)
    assert not page.locator("#explorer").is_visible()
    rows = page.locator(".explorer-table tbody tr:visible").evaluate_all(
        """rows => rows.map(row => [row.querySelector("th").textContent,
            ...[...row.querySelectorAll("td[data-value]")]
                .map(cell => Number(cell.dataset.value))])"""
    )
    right = []
    for name in explorer.presets():
        config, setting = preset(name)
        image = (config.get("in_channels", 1), setting["side"], setting["side"])
        counts = cost.summary(config, (1, *image))[1:]
        peak = cost.peak(config, (explorer.BATCH, *image)).total
        largest = [cost.largest_batch(config, image, b) for b in explorer.BUDGETS]
        right.append([name, *counts, peak, *largest])
    for depth in cost.RESNETS:
        right.append([f"ResNet-{depth}", *cost.resnet(depth, (1, 3, 224, 224))[1:]])
    assert rows == right


def test_works_from_the_disk(new_page):
    page = new_page()
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((HTML / PAGE).as_uri() + "?preset=121")
    found = shown(page)
    assert found == expected(*preset("121"), found)
    page.locator("[name=growth_rate]").press("ArrowRight")
    config, setting = preset("121")
    found = shown(page)
    assert found == expected(config | {"growth_rate": 33}, setting, found)
    assert wrong == []


def test_its_files_are_small_and_on_its_page_alone():
    folder = HTML / "_static" / "explorer"
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 60_000
    for path in HTML.rglob("*.html"):
        if HTML / "_static" in path.parents:
            continue
        found = re.findall(r"_static/explorer/([a-z.]+)", path.read_text("utf-8"))
        assert sorted(found) == (sorted(FILES) if path == HTML / PAGE else []), path


@pytest.mark.parametrize("query", ["", "?preset=BC-250-24&memory=shared", "?side=28"])
def test_fits_a_phone_in_every_state(open_page, query):
    page = open_page(PAGE + query, **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("query", ["", "?preset=121&memory=shared", "?side=28"])
def test_has_no_serious_barrier_in_a_changed_state(open_page, scheme, query):
    page = open_page(PAGE + query, color_scheme=scheme)
    page.locator("[name=growth_rate]").press("ArrowRight")
    assert serious_barriers(page, "#explorer") == []


def test_the_links_to_try_set_a_state(open_page, site):
    page = open_page(PAGE)
    links = page.locator("article a[href^='?']").evaluate_all("e => e.map(x => x.href)")
    assert len(links) >= 4
    for link in links:
        page.goto(link)
        found = shown(page)
        if "side=28" in link:
            assert found["error"].startswith("output of transition3=")
        else:
            assert found != expected(*preset(explorer.CHAPTER))
            assert "error" not in found
