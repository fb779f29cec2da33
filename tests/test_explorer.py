"""The Explorer in a browser: each of its figures is the one of `d2l_dense.cost`."""

import inspect
import random
import re
from urllib.parse import urlencode

import pytest
import torch
from conftest import HTML, PHONE, ROOT, barriers

import explorer_figures as figures
from d2l_dense import VARIANTS, DenseNet, cost

pytestmark = pytest.mark.pages

PAGE = "chapters/explorer.html"
SETTING = {"side": 96, "batch": figures.BATCH, "bytes": 4}
IMAGENET = SETTING | {"side": 224}
DESK = {"width": 1280, "height": 900}
# What the page shows at each of some addresses: message, its two codes, figures.
READ = """queries => queries.map(query => {
    if (query !== null) {
        history.replaceState(null, "", "?" + query);
        dispatchEvent(new PopStateEvent("popstate"));
    }
    const part = name => document.querySelector(`#explorer [data-part=${name}]`);
    const cells = [...document.querySelectorAll("#explorer [data-value]")];
    const texts = ["error", "python", "call"].map(name => part(name).textContent);
    return [...texts, cells.map(cell => [cell.dataset.part, cell.dataset.value])];
})"""

# What is hidden of the figures, the picture, the message, and what has the focus.
HIDDEN = """() => {
    const box = name => document.querySelector(name).getBoundingClientRect();
    const { x, y, width, height } = box(":focus");
    const points = [[0.5, 0.1], [0.5, 0.9], [0.1, 0.5], [0.9, 0.5]];
    const seen = (x, y) => document.elementFromPoint(x, y)?.matches(":focus");
    const shown = ["#explorer-results", "#explorer-drawing", "#explorer .error"];
    return [...shown.filter(name =>
        box(name).top < box(".bd-header-article").bottom - 1
        || box(name).bottom > innerHeight + 1),
        ...points.filter(([a, b]) => !seen(x + a * width, y + b * height))];
}"""


def drawn(seed):
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
    setting = {key: rng.randint(*figures.LIMITS[key]) for key in ("side", "batch")}
    return config, setting | {"bytes": rng.choice([2, 4])}


def preset(name):
    config = {k: v for k, v in figures.PRESETS[name].items() if k != "side"}
    return config, SETTING | {"side": figures.PRESETS[name]["side"]}


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
    values = dict(parameters=parameters, activations=activations)
    values["macs"] = macs // setting["batch"]
    values["channels"] = cost.summary(config, shape).rows[-2].shape[0]
    for memory in figures.MEMORY:
        chosen = {**config, "memory": memory}
        peak = cost.peak(chosen, shape, **size)
        parts = {**peak._asdict(), "peak": peak.total}
        for i, budget in enumerate(figures.BUDGETS):
            parts[f"largest-{i}"] = cost.largest_batch(chosen, image, budget, **size)
        del parts["stage"]
        values |= {f"{memory}-{part}": n for part, n in parts.items()}
        if memory == config.get("memory", "plain"):
            values["peak"] = peak.total
    return values


def read(page, queries=(None,)):
    """What the page shows there, or as it is: messages, two codes, figures."""
    for *texts, cells in page.evaluate(READ, [*queries]):
        yield *texts, {part: int(value) for part, value in cells}


def shown(page):
    """Message and figures."""
    ((message, *_, found),) = read(page)
    return message, found


def works(config, setting=SETTING):
    return "", expected(config, setting)


@pytest.fixture(scope="module")
def page(browser, site):
    """The Explorer's page, opened once; a test goes to the address that it needs."""
    context = browser.new_context(base_url=site)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page, wrong = context.new_page(), []
    page.set_default_timeout(120_000)  # the machine may be busy
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    context.close()
    assert wrong == []


def test_every_figure_is_that_of_the_python_code(page):
    cases = [drawn(seed) for seed in range(300)]
    cases += [preset(name) for name in figures.PRESETS]
    widest = {"num_channels": 256, "in_channels": 16, "num_classes": 1000}
    widest |= {"growth_rate": 64, "compression": 1.0, "pool": "max", "stem": "cifar"}
    for bottleneck in (None, 8):  # every number exact at the end of every knob
        config = widest | {"arch": (64,) * 6, "bottleneck": bottleneck}
        cases.append((config, {"side": 512, "batch": 10**10, "bytes": 4}))
    plain = {k: v.default for k, v in inspect.signature(DenseNet).parameters.items()}
    page.goto(PAGE)
    results = read(page, [query(*case) for case in cases])
    refused = 0
    for (config, setting), shows in zip(cases, results, strict=True):
        error, code, call, found = shows
        if not error:
            assert found == expected(config, setting), (config, setting)
            assert max(v for k, v in found.items() if "largest" in k) <= 10**10
            given = eval(code, {"DenseNet": dict})
            assert plain | given == plain | config
            assert [key for key in given if given[key] == plain[key]] == []
            assert eval(call, {"cost": cost}).macs // setting["batch"] == found["macs"]
            continue
        refused += 1
        with pytest.raises(ValueError):
            expected(config, setting)
        # In words: which value is too small, by how much, and what is enough.
        value, by = re.search(r"([\d.]+) is too small by ([\d.]+): ", error).groups()
        enough = re.search(r"(?:needs|here is) ([\d.]+)\.", error)[1]
        assert float(enough) == pytest.approx(float(value) + float(by))
        if error.startswith("compression"):
            expected(config | {"compression": float(enough)}, setting)
        else:
            expected(config | {"compression": 1.0}, setting | {"side": int(enough)})
    assert 3 < refused < 100


def test_knobs_by_hand_the_address_back_and_the_clipboard(page):
    page.goto(PAGE)
    page.locator("[name=preset]").select_option("BC-100-12")
    config, setting = preset("BC-100-12")
    for key, value in dict(blocks=2, layers2=3, growth_rate=24, side=40).items():
        page.locator(f"[name={key}]").fill(str(value))
    page.locator("[name=bias]").check()
    page.locator("[name=dtype]").select_option("half")
    config |= {"arch": (16, 3), "growth_rate": 24, "bias": True}
    setting |= {"side": 40, "bytes": 2}
    page.locator("[name=bottleneck]").select_option("none")
    page.locator("[name=pool]").select_option("max")
    page.locator("[name=growth_rate]").press("ArrowRight")
    more = {"bottleneck": None, "pool": "max"}
    assert shown(page) == works(config | more | {"growth_rate": 25}, setting)
    for one in (more, {"bottleneck": None}, {}):  # Back undoes a knob
        page.go_back()
        assert shown(page) == works(config | one, setting)
    page.reload()
    assert shown(page) == works(config, setting)
    for kind in ("python", "call", "link"):
        page.evaluate("navigator.clipboard.writeText('')")
        page.locator(f"[data-copy={kind}]").click()
        page.wait_for_function("navigator.clipboard.readText().then(text => text)")
        code = page.locator(f"[data-part={kind}]")
        text = page.url if kind == "link" else code.inner_text()
        assert page.evaluate("navigator.clipboard.readText()") == text
    page.locator("[data-part=reset]").click()
    assert shown(page) == works({}) and page.url.endswith(PAGE)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_cause_and_effect_share_the_screen(open_page, size):
    query = "?preset=264&baseline=121&side=3"  # and a message
    page = open_page(PAGE + query, viewport=size, has_touch=size is PHONE)
    knobs = page.locator("#explorer-knobs :is(input, select, button:enabled):visible")
    assert (count := knobs.count()) > 18
    for place in (*range(count), *reversed(range(count))):
        if place in (0, count - 1):  # from the far end of the page
            knobs.nth(place).blur()
            page.evaluate("y => scrollTo(0, y)", 0 if place else 99999)
        knobs.nth(place).focus()
        assert page.evaluate(HIDDEN) == [], place
    clipped = "e => e.filter(x => x.clientWidth && x.scrollWidth > x.clientWidth + 1)"
    shows = page.locator("#explorer *:visible:not(.spoken, .more)")
    assert shows.evaluate_all(f"{clipped}.length") == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        page.reload()
        assert barriers(page) == []
    bar = page.locator("#explorer .bars rect").first
    page.locator("#explorer-drawing").evaluate("e => { e.dataset.many = false; }")
    assert bar.evaluate("e => getComputedStyle(e).transitionDuration") == "0s"


def test_a_turn_of_the_largest_network_is_quick(page):
    page.goto(PAGE + "?preset=264&baseline=121&bars=activations")
    times = page.evaluate(
        """() => Array.from({length: 21}, (_, i) => {
            const [knob] = document.getElementsByName("growth_rate");
            const start = performance.now();
            knob.value = 20 + i;
            knob.dispatchEvent(new Event("input", {bubbles: true}));
            return document.body.clientHeight && performance.now() - start;
        })"""
    )
    assert sorted(times)[10] < 50


def test_a_baseline_shows_differences_and_stays_in_the_address(page):
    page.goto(f"{PAGE}?preset=264&batch=16")
    page.locator("[data-part=keep]").click()
    page.locator("[name=bottleneck]").select_option("none")
    than = page.locator("[data-than]")
    texts = than.all_text_contents()
    names = than.evaluate_all("e => e.map(x => x.dataset.than)")
    configs = VARIANTS["264"], {**VARIANTS["264"], "bottleneck": None}
    old, new = (expected(config, IMAGENET | {"batch": 16}) for config in configs)
    assert {*names} == {*new}
    for name, text in zip(names, texts, strict=True):
        sign, ratio = re.fullmatch(r"([+−±]).* ×([\d.]+)", text).groups()
        assert sign == "±+−"[(new[name] > old[name]) - (new[name] < old[name])]
        assert float(ratio) == pytest.approx(new[name] / old[name], rel=6e-3)
    assert page.locator("#explorer .baseline > *").count() == 1 + 3
    page.locator("[data-part=forget]").click()
    assert {*than.all_text_contents()} == {""}
    page.go_back()
    assert than.all_text_contents() == texts
    for name, (query, why) in figures.COMPARISONS.items():
        page.goto(PAGE)
        page.locator("[name=preset]").select_option(name)
        assert page.locator("[data-part=why]").inner_text() == why
        texts = than.all_text_contents()
        page.goto(f"{PAGE}?{query}")
        assert than.all_text_contents() == texts != [""] * len(texts)
    page.goto(f"{PAGE}?preset=121&baseline=resnet-50")
    ratio = expected(*preset("121"))["parameters"] / 25_557_032
    assert than.nth(1).inner_text().endswith(f" ×{ratio:.3}")


def test_a_bad_address_says_so_and_gives_the_default(page):
    page.goto(PAGE)
    words = {
        "growth_rate=x": "growth rate (k): “x” is not a whole number from 1 to 64",
        "growth_rate=70": "growth rate (k): 70 is too large by 6; it takes a whole",
        "growth_rate=": "growth rate (k): there is no number",
        "arch=4,0": "layers of block 2: 0 is too small by 1",
        "arch=1,1,1,1,1,1,1": "dense blocks: 7 is too large by 1",
        "bias=x": "biases: “x” is none of yes, no",
        "compression=0.125": "not a number from 0.01 to 1 in hundredths",
        "pool=median": "pooling: “median” is none of avg, max, stride",
        "preset=%3Cimg%20src=x%3E": "preset: “<img src=x>” is none of",
        "baseline=side%3D28": "The baseline's pixels a side: 28 is too small by 1",
    }
    results = read(page, [f"{bad}&num_classes=7" for bad in words])
    for text, (error, *_, found) in zip(words.values(), results, strict=True):
        assert text in error and not re.search("Error|None|True|undefined|NaN", error)
        assert found == expected({"num_classes": 7})


def test_strangers_spaces_and_encodings_in_an_address(page):
    page.goto(f"{PAGE}?growth_rate=%2012+&fbclid=x&_x_tr_sl=en&__proto__=3&&=&x")
    assert shown(page) == works({"growth_rate": 12})
    page.locator("[name=growth_rate]").press("ArrowRight")
    page.wait_for_url(re.compile(r"\?growth_rate=13$"))
    config = {**VARIANTS["121"], "arch": (2, 3, 4), "pool": "max"}
    for arch in ("2,3,4", "2%2C3%2C4", "2%252C3%252C4", "(2,+3,+4)", "2%C2%A0+3+4"):
        page.goto(f"{PAGE}?preset=+121&amp;arch={arch}&POOL=Max&side=%32%32%34&x=%")
        assert shown(page) == works(config, IMAGENET)


def test_a_wrong_number_is_named_and_the_last_figures_stay(page):
    page.goto(f"{PAGE}?growth_rate=12")
    side = page.locator("[name=side]")
    for wrong, words in {
        "0": "pixels a side: 0 is too small by 1; it takes a whole number from 1",
        "": "pixels a side: there is no number; it takes a whole number from 1 to",
        "28": "28 is too small by 1: 4 dense blocks halve the image so often",
    }.items():
        side.fill(wrong)
        error, found = shown(page)
        assert words in error and "the last network that works" in error
        assert side.get_attribute("aria-invalid") == "true"
        assert found == expected({"growth_rate": 12})
    side.fill("29")
    side.fill("99999")  # gives way to what is shown
    page.locator("[name=growth_rate]").press("ArrowRight")
    assert shown(page) == works({"growth_rate": 13}, SETTING | {"side": 29})
    assert side.input_value() == "29" and not page.locator("[aria-invalid]").count()


def test_every_layer_is_drawn_with_an_axis(page):
    rows = cost.summary(VARIANTS["BC-250-24"], (32, 3, 32, 32)).rows
    for place, bars in enumerate(figures.CHOICES["bars"], start=1):  # in a row
        page.goto(f"{PAGE}?preset=BC-250-24&bars={bars}")
        wanted = [row[place] if place > 1 else row.shape[0] for row in rows]
        heights = page.locator("#explorer .bars rect").evaluate_all(
            "e => e.map(x => [x.dataset.layer, +x.getAttribute('height')])"
        )
        scale = max(height for _, height in heights) / max(wanted)
        for row, n, (name, height) in zip(rows, wanted, heights, strict=True):
            assert (name, height) == (row.name, pytest.approx(max(1, n * scale)))
        assert page.locator("#explorer-drawing .ticks text").count() > 1
    sizes = page.locator("#explorer-drawing .names text").all_text_contents()
    assert sizes == ["block 1", "32×32", "block 2", "16×16", "block 3", "8×8"]
    assert page.locator("#explorer-peaks .kinds rect").count() == 3 * 5


def test_keyboard_pointer_and_finger_light_what_a_layer_reads(page, open_page):
    page.goto(f"{PAGE}?growth_rate=33")
    page.locator("[name=bars]").first.focus()
    for key in ("Tab", *["ArrowRight"] * 3):  # one stop for the whole picture
        page.keyboard.press(key)
    about = page.locator("[data-part=layer]").inner_text()
    assert page.locator(":focus").get_attribute("aria-valuetext") == about
    rows, parameters, *_ = cost.summary({"growth_rate": 33}, (1, 1, 96, 96))
    share = 100 * rows[3].parameters / parameters
    assert about.startswith(
        "Layer 3 of block 1 reads 130 channels from the stem and the 2 layers after "
        f"it; adds 33, so 163 leave it, at 24×24. Its share: {share:.2} % of the param"
    )
    lit = page.locator("#explorer .feeds")
    names = lit.evaluate_all("e => e.map(bar => bar.dataset.layer).join()")
    assert names == "stem,block1.layer1,block1.layer2"
    page.locator("[data-layer='block2.layer2']").hover()
    assert lit.count() == page.locator("#explorer .lit path").count() == 2
    phone = open_page(PAGE, viewport=PHONE, has_touch=True)
    phone.locator("[data-layer='block1.layer4']").tap()
    assert phone.locator("#explorer .feeds").count() == 4


def test_a_change_is_said_once(page):
    page.goto(PAGE)
    status = page.locator("[data-part=status]")
    status.evaluate(
        """e => new MutationObserver(() => { e.dataset.said = -~e.dataset.said; })
            .observe(e, {childList: true})"""
    )
    for _ in range(5):
        page.locator("[name=growth_rate]").press("ArrowRight")
    parameters = expected({"growth_rate": 37})["parameters"]
    status.filter(has_text=f"{parameters:,} parameters").wait_for(state="attached")
    assert int(status.get_attribute("data-said")) <= 2


def test_without_javascript_the_table_stands(open_page):
    page = open_page(PAGE, java_script_enabled=False)
    rows = page.locator(".explorer-table tbody tr:visible").evaluate_all(
        """e => e.map(row => [...row.querySelectorAll("th, [data-value]")]
            .map(x => x.dataset.value ? +x.dataset.value : x.textContent))"""
    )
    for name, row in zip([*figures.PRESETS], rows[:-5], strict=True):
        config, setting = preset(name)
        one, found = (expected(config, setting | n) for n in ({"batch": 1}, {}))
        counts = [one[key] for key in ("parameters", "macs", "activations")]
        batches = [n for key, n in found.items() if "plain-largest" in key]
        assert row == [name, *counts, found["peak"], *batches]
    with torch.device("meta"):  # any network is counted as ours are in closed form
        net = DenseNet.variant("121")
    assert [*figures.counted(net, (1, 3, 224, 224))] == rows[1][1:4]
    # torchvision publishes the parameters.
    assert rows[-5] == ["ResNet-18", 11_689_512, 1_814_073_344, 21_577_728]
    assert rows[-3][:3] == ["ResNet-50", 25_557_032, 4_089_184_256]


def test_its_files_are_small_on_its_page_alone_and_work_from_the_disk(new_page):
    scripts = [path.read_text("utf-8") for path in (ROOT / "book").rglob("*.js")]
    assert len("".join(scripts)) <= 60_000 and "".join(scripts).count("\n") <= 800
    for path in (HTML / "chapters").glob("*.html"):
        text = path.read_text("utf-8")
        assert ("_static/explorer/" in text) == (path.stem == "explorer")
    page = new_page()
    page.goto((HTML / PAGE).as_uri() + "?preset=121")
    page.locator("[name=growth_rate]").press("ArrowRight")
    assert shown(page) == works({**VARIANTS["121"], "growth_rate": 33}, IMAGENET)


def test_links_open_what_they_say_and_show_the_answers(page):
    for path in sorted((HTML / "chapters").glob("*.html")):
        page.goto(f"chapters/{path.name}")
        links = page.locator("article a[href*='explorer.html?']").evaluate_all(
            """e => e.map(x =>
                [x.href, x.closest("p").nextElementSibling?.textContent ?? ""])"""
        )
        assert path.stem != "explorer" or len({answer for _, answer in links}) == 5
        for link, answer in links:
            page.goto(link)
            error, found = shown(page)
            impossible = link.endswith("?side=28#explorer")
            assert (error != "") == impossible == (found == expected({})), link
            assert page.locator("#explorer-results").bounding_box()["y"] < 200
            if answer.startswith("Answer"):
                there = page.locator("#explorer").inner_text()
                assert {*re.findall(r"×[\d.]+\d|\d[\d,]+\d", answer)} <= {
                    *there.split()
                }
