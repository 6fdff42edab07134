"""Writes docs/performance.md from the JSON files under benchmarks/results.

    python -m benchmarks.write_performance

Its sentences are in performance.md.jinja beside this file; its numbers, and what is said of a goal,
are computed from the files. What a missing file would have told is left out, and the page says so.
A test rebuilds the page and compares.
"""

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from scipy.stats import binom

from benchmarks.loss_cost import (
    CLASSES,
    COMPILED,
    FLOOR,
    FRESH_FLOOR,
    LARGE,
    OURS,
    PAIRS_UP_TO,
    PEAK_FROM,
    RIVALS,
    SAMPLES,
    SOFT,
)
from benchmarks.loss_step import SAME_HEAD
from ccloss.bench.report.text import markdown_table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
TEMPLATE = ROOT / "benchmarks" / "performance.md.jinja"
PAGE = ROOT / "docs" / "performance.md"

NONE = "–"
Content = Mapping[str, Any]


def text(results: Path = RESULTS) -> str:
    """The whole page, from what there is in a folder of results."""
    files = {name: read(results / f"{name}.json") for name in TOPICS}
    environment = Environment(
        undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(TEMPLATE.read_text()).render(
        files=files,
        source=lambda name: source(name, files[name]),
        goals=goals(files),
        large=f"{LARGE:,}",
        peak_from=f"{PEAK_FROM:,}",
        pairs_up_to=f"{PAIRS_UP_TO:,}",
        only_cpu=all(is_on_cpu(content) for content in files.values() if content),
        processors=sorted({c["provenance"]["processor"] for c in files.values() if c}),
        loss_times=loss_times,
        loss_memory=loss_memory,
        loss_errors=loss_errors,
        notes=notes,
        growth=growth,
        processes=processes,
        sent=sent,
        steps=steps,
        variants=variants,
        loop=loop,
        speeds=speeds,
        layout=layout,
        campaign=campaign,
        waits=waits,
    )


def read(path: Path) -> Content | None:
    """A file of results, if it is there."""
    return json.loads(path.read_text()) if path.exists() else None


# ---- numbers -------------------------------------------------------------------------------------


def figures(number: float | None) -> str:
    """Three figures, or all before the point."""
    if number is None:
        return NONE
    if abs(number) >= 1:
        return f"{number:,.{max(0, 3 - len(str(int(abs(number)))))}f}"
    return f"{number:.3g}"


def times(number: float | None) -> str:
    return NONE if number is None else f"{figures(number)}×"


def thousandths(number: float | None) -> str:
    return NONE if number is None else f"{number:.3f}"


def power(number: float | None) -> str:
    return NONE if number is None else f"{number:.1e}"


def milliseconds(seconds: float | None) -> str:
    return NONE if seconds is None else f"{figures(1000 * seconds)} ms"


def seconds_text(seconds: float | None) -> str:
    return NONE if seconds is None else f"{seconds:.2f} s"


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Repetition by repetition."""
    return [a / b for a, b in zip(over, under, strict=True)]


def spread(values: Sequence[float]) -> str:
    """The values that the true median lies between with a confidence of at least 95 %.

    By order statistics, without a word on how the values are distributed. Of fewer than six these
    are the least and the largest, and the confidence is less.
    """
    ordered = sorted(values)
    outside = max(0, int(binom.ppf(0.025, len(ordered), 0.5)) - 1)
    return f"{ordered[outside]:.3f} to {ordered[-1 - outside]:.3f}"


def table(lines: Sequence[Sequence[str]]) -> str:
    return markdown_table(lines, numbers=True).strip()


# ---- where a file comes from ---------------------------------------------------------------------


class Topic(NamedTuple):
    """What a file's content tells of the run that made it."""

    repetitions: Callable[[Content], int]
    options: Callable[[Content], str]


def loss_cost_options(content: Content) -> str:
    options = f"--gigabytes {content['memory_limit_gigabytes']:g}"
    samples = list(dict.fromkeys(case["samples"] for case in content["cases"]))
    classes = list(dict.fromkeys(case["classes"] for case in content["cases"]))
    if samples != list(SAMPLES):
        options += f" --samples {' '.join(map(str, samples))}"
    if classes != list(CLASSES):
        options += f" --classes {' '.join(map(str, classes))}"
    if any(COMPILED in case["competitors"] for case in content["cases"]):
        options += " --compile"
    return options + (" --cold" if content["cold"] else "")


def throughput_options(content: Content) -> str:
    script = "--timm-script train.py " if content["timm_script_sha256"] else ""
    device = "" if is_on_cpu(content) else " --device cuda"
    steps = f"--warmup {content['warmup']} --steps {content['steps']}"
    return f"{script}--cases {' '.join(content['cases'])} {steps}{device}"


def campaign_options(content: Content) -> str:
    return f"--rounds {content['runs'] // 2} --epochs {content['epochs']}"


def longest(lists: Iterable[Sequence[float]]) -> int:
    return max(map(len, lists))


TOPICS: dict[str, Topic] = {
    "loss_cost": Topic(
        lambda content: longest(case["competitors"][OURS]["seconds"] for case in content["cases"]),
        loss_cost_options,
    ),
    "loss_scaling": Topic(
        lambda content: longest(
            seconds for sweep in content["sweeps"].values() for seconds in sweep["seconds"].values()
        ),
        lambda content: "" if "processes" in content else "--no-processes",
    ),
    "loss_step": Topic(lambda content: longest(content["seconds"].values()), lambda _: ""),
    "step_variants": Topic(
        lambda content: longest(
            seconds for case in content["cases"].values() for seconds in case["seconds"].values()
        ),
        lambda content: f"--cases {' '.join(repr(name) for name in content['cases'])}",
    ),
    "loop_overhead": Topic(
        lambda content: longest(case["ratios"] for case in content["cases"].values()), lambda _: ""
    ),
    "throughput": Topic(
        lambda content: longest(
            seconds for case in content["cases"].values() for seconds in case["seconds"].values()
        ),
        throughput_options,
    ),
    "campaign_speed": Topic(lambda content: len(content["ratios"]), campaign_options),
    "start_up": Topic(
        lambda content: longest(case["seconds"] for case in content["cases"].values()),
        lambda _: "",
    ),
}


def source(name: str, content: Content | None) -> str:
    """The command that makes a file, and on what, of what and how often it was made."""
    if content is None:
        script = "--timm-script train.py " if name == "throughput" else ""
        made = f"`python -m benchmarks.{name} {script}--out benchmarks/results/{name}.json` does it"
        return f"**Not measured yet**: there is no `benchmarks/results/{name}.json`; {made}."
    topic = TOPICS[name]
    count = topic.repetitions(content)
    repeat = "pairs" if name in ("loop_overhead", "campaign_speed") else "repetitions"
    counted = f"{count} {repeat if count > 1 else repeat[:-1]}"
    parts = [f"python -m benchmarks.{name}", topic.options(content), f"--{repeat} {count}"]
    parts.append(f"--out benchmarks/results/{name}.json")
    command = " ".join(part for part in parts if part)
    return f"```sh\n{command}\n```\n\n{counted}. {machine(content)}."


def is_on_cpu(content: Content) -> bool:
    return bool(content["provenance"]["device"] == "cpu")


def machine(content: Content) -> str:
    """Device, threads, versions and commit."""
    origin = content["provenance"]
    threads = f", {content['threads']} threads" if "threads" in content else ""
    versions = {**origin["versions"], **content.get("versions", {})}
    versions |= {"lightning": content["lightning"]} if content.get("lightning") else {}
    listed = ", ".join(f"{package} {version}" for package, version in versions.items() if version)
    where = f"{origin['processor']}, {origin['cores']} cores{threads}, {origin['system']}"
    commit = origin["commit"] or "unknown"
    python = f"Python {origin['python']}"
    return f"Device: {origin['device']} ({where}, {python}; {listed}; commit {commit})"


# ---- goals ---------------------------------------------------------------------------------------

Values = dict[str, float | None]
"""What was measured, by name; ``None``, or nothing at all: not measured."""


class Goal(NamedTuple):
    """A bound, and what of a file is held against it; without a file: not to be measured here."""

    words: str
    limit: float
    file: str = ""
    values: Callable[[Content], Values] = lambda _: {}
    least: bool = False  # the limit is the least, else the largest
    strict: bool = False  # the limit itself does not do
    form: Callable[[float | None], str] = figures
    unit: str = ""

    def met(self, values: Values) -> bool | None:
        """Whether all values keep to the limit; ``None`` if one that is asked for is missing."""
        known = [value for value in values.values() if value is not None]
        kept = [
            (value >= self.limit if self.least else value <= self.limit)
            and not (self.strict and value == self.limit)
            for value in known
        ]
        if not all(kept):
            return False  # what is missing cannot mend it
        return True if known and len(known) == len(values) else None


def quoted(title: str, samples: int) -> Callable[[Content], Values]:
    """A number of the summary of loss_cost, at one N and the K of the goals."""

    def values(content: Content) -> Values:
        found = content["summary"][title]
        return {f"K = {k:,}": found.get(f"K {k}, N {samples}") for k in CLASSES}

    return values


def slopes(content: Content) -> Values:
    found = content["summary"][f"log-log slope of ours from N {LARGE}"]
    reached = {(case["samples"], case["classes"]) for case in content["cases"]}
    return {
        f"K = {k:,}": found.get(f"K {k}") if (max(SAMPLES), k) in reached else None for k in CLASSES
    }


def floors(content: Content) -> Values:
    """The largest ratio to each kind of floor, over all large batches."""
    titles = {"memory in hand": "ours / floor", "fresh memory": "ours / floor, fresh memory"}
    asked = [f"K {k}, N {n}" for k in CLASSES for n in SAMPLES if n >= LARGE]
    return {
        words: largest(content["summary"][title].get(size) for size in asked)
        for words, title in titles.items()
    }


def largest(values: Iterable[float | None]) -> float | None:
    """``None`` if one is missing, for it might have been the largest."""
    asked = list(values)
    known = [value for value in asked if value is not None]
    return max(known) if known and len(known) == len(asked) else None


def own(content: Content) -> dict[str, list[Content]]:
    """What was found at all sizes of each way to compute our loss."""
    names = {OURS: "class labels", SOFT: "soft labels", COMPILED: "compiled"}
    found: dict[str, list[Content]] = {}
    for case in content["cases"]:
        for name, words in names.items():
            result = case["competitors"].get(name, {"skipped": ""})
            if "skipped" not in result:
                found.setdefault(words, []).append(result)
    return found


def peaks(content: Content) -> Values:
    found: Values = {}
    for name, results in own(content).items():
        extras = [r["extra_per_input"] for r in results if r["extra_per_input"] is not None]
        if extras:
            found[name] = max(extras)
    return found


def worst_error(part: str) -> Callable[[Content], Values]:
    def values(content: Content) -> Values:
        return {
            name: largest(error[part] for r in results for error in r["errors"].values())
            for name, results in own(content).items()
        }

    return values


def same_head(content: Content) -> Values:
    return {f"cc / {SAME_HEAD}": content.get("median_ratio_of_cc_to_ce+cam")}


def over_rival(tool: str, setting: str) -> Callable[[Content], Values]:
    """Images/s over a tool's; over its defaults in the faster precision, else in the same one."""
    choose = max if setting == "defaults" else min

    def values(content: Content) -> Values:
        found: Values = {}
        for case, result in content["cases"].items():
            of_tool = [
                ratio
                for entry, by_precision in result["median_ratios"].items()
                if entry.startswith(f"{tool}, {setting}")
                for ratio in by_precision.values()
            ]
            found[case] = choose(of_tool) if of_tool else None
        return found

    return values


def waited(word: str, key: str, unit: float = 1.0) -> Callable[[Content], Values]:
    """Medians of the cases of start_up that have a word in their name."""

    def values(content: Content) -> Values:
        return {
            f"`{name}`": None if case[key] is None else case[key] / unit
            for name, case in content["cases"].items()
            if word in name
        }

    return values


def mistakes(others: bool) -> Callable[[Content], Values]:
    """Cases of the command that are not its help, in names of ours or of other libraries'."""

    def values(content: Content) -> Values:
        return {
            name: value
            for name, value in waited("ccloss ", "median_seconds")(content).items()
            if name.startswith("`ccloss") and "--help" not in name
            if others == (":" in name)
        }

    return values


GOALS: tuple[Goal, ...] = (
    *(
        Goal(
            f"loss, N = {n:,}: at least {{}} times as fast as the paper's form",
            limit,
            "loss_cost",
            quoted("paper / ours", n),
            least=True,
        )
        for n, limit in ((32, 0.9), (2048, 50), (8192, 200))
    ),
    Goal(
        f"loss, N = {LARGE:,} to {max(SAMPLES):,}: slope of log time over log N at most {{}}",
        1.1,
        "loss_cost",
        slopes,
    ),
    Goal("loss: peak extra memory at most {} times the input", 2.5, "loss_cost", peaks),
    Goal(f"loss, N from {LARGE:,}: at most {{}} times the bandwidth floor", 6, "loss_cost", floors),
    Goal(
        "loss: relative error of the value below {}",
        1e-5,
        "loss_cost",
        worst_error("value"),
        strict=True,
        form=power,
    ),
    Goal(
        "loss: relative error of the gradient below {}",
        1e-3,
        "loss_cost",
        worst_error("gradient"),
        strict=True,
        form=power,
    ),
    Goal(
        "step of CC, of the time of CE with the same head: at most {}",
        1.02,
        "loss_step",
        same_head,
        form=thousandths,
    ),
    *(
        Goal(
            f"training: at least {{}} times the images/s of {words}, {condition}",
            limit,
            "throughput",
            over_rival(tool, setting),
            least=True,
        )
        for tool, words in (("timm", "timm's script"), ("lightning", "a Lightning Trainer"))
        for setting, condition, limit in (
            ("defaults", "at its defaults", 1.7),
            ("same", "in the same precision and memory format", 1.0),
        )
    ),
    Goal(
        "`import ccloss` adds less than {} ms to `import torch`",
        50,
        "start_up",
        waited("import torch, ccloss", "median_after_torch_seconds", unit=1e-3),
        strict=True,
        unit=" ms",
    ),
    Goal(
        "help answers in less than {} s",
        0.5,
        "start_up",
        waited("--help", "median_seconds"),
        strict=True,
        unit=" s",
    ),
    *(
        Goal(
            f"mistakes {kind} are answered in less than {{}} s",
            0.5,
            "start_up",
            mistakes(others),
            strict=True,
            unit=" s",
        )
        for others, kind in (
            (False, "in what is ours"),
            (True, "in names of other libraries' losses and networks"),
        )
    ),
    Goal(
        "first step on the digits at most {} s after `import torch`",
        5,
        "start_up",
        waited("first step", "median_after_torch_seconds"),
        unit=" s",
    ),
    Goal("CUDA, loss at N = 32, eager: at most {} kernels", 8),
    Goal("CUDA, step of CC, of the time of CE with the same head: at most {}", 1.05),
    Goal("CUDA, ResNet18 on CIFAR-100, batch 32: at least {} times timm's images/s", 3),
    Goal("CUDA: five rounds side by side in at most {} times the time of one", 2.5),
    Goal(
        "CUDA, one H200: five 300-epoch rounds of ResNet18 on CIFAR-100 in less than {} minutes", 30
    ),
)


def goals(files: Mapping[str, Content | None]) -> str:
    """What was asked for, what was measured, and whether they agree."""
    lines = [["goal", "measured", "met"]]
    for goal in GOALS:
        content = files[goal.file] if goal.file else None
        values = goal.values(content) if content and is_on_cpu(content) else {}
        measured = "; ".join(
            f"{name}: {goal.form(value)}{goal.unit if value is not None else ''}"
            for name, value in values.items()
        )
        if not measured:
            measured = "not measured yet" if goal.file else "not measured: needs a CUDA device"
        met = {True: "yes", False: "**no**", None: NONE}[goal.met(values)]
        lines.append([goal.words.format(f"{goal.limit:g}".replace("e-0", "e-")), measured, met])
    return markdown_table(lines, numbers=False).strip()


# ---- tables of a topic ---------------------------------------------------------------------------


def competitors(content: Content) -> list[str]:
    """Who was compared, in one order for all tables; the floors are no competitors."""
    known = {name for case in content["cases"] for name in case["competitors"]}
    return [name for name in RIVALS if name in known]


def loss_times(content: Content, classes: int) -> str:
    """Milliseconds of ours, and how many times that the others take, for one K."""
    rivals = [name for name in competitors(content) if name != OURS]
    floors = {FLOOR: "ours / floor", FRESH_FLOOR: "ours / floor, fresh memory"}
    lines = [["N", "ours", *rivals, *floors.values()]]
    for case in content["cases"]:
        if case["classes"] != classes:
            continue
        found = case["competitors"]
        size = f"K {classes}, N {case['samples']}"
        cells = [milliseconds(found[OURS]["median_seconds"])]
        cells += [rival_time(found.get(name, {})) for name in rivals]
        cells += [times(content["summary"][title].get(size)) for title in floors.values()]
        lines.append([f"{case['samples']:,}", *cells])
    return table(lines)


def rival_time(found: Content) -> str:
    """Of ours; a single call is marked, for nothing tells how well it is known."""
    mark = "†" if found.get("only_first_call") else ""
    return times(found.get("median_ratio_to_ours")) + mark


def notes(content: Content) -> str:
    """What the signs in the table of times mean, where they occur."""
    every = [found for case in content["cases"] for found in case["competitors"].values()]
    limit = (
        f"more memory than the limit of {content['memory_limit_gigabytes']:g} GB would be needed"
    )
    reasons = {
        limit if found["skipped"].startswith("needs ") else found["skipped"]
        for found in every
        if "skipped" in found
    }
    sentences = [f"{NONE}: not run ({'; '.join(sorted(reasons))})."] if reasons else []
    if any(found.get("only_first_call") for found in every):
        sentences.append("†: a single call.")
    return " ".join(sentences)


def loss_memory(content: Content) -> str:
    """Growth of the peak over the size of the input."""
    names = [name for name in competitors(content) if name != COMPILED]
    lines = [["N", "K", *names]]
    for case in content["cases"]:
        extras = [case["competitors"].get(name, {}).get("extra_per_input") for name in names]
        if any(extra is not None for extra in extras):
            size = [f"{case['samples']:,}", f"{case['classes']:,}"]
            lines.append([*size, *map(times, extras)])
    return table(lines)


def loss_errors(content: Content) -> str:
    """The largest errors over all sizes at which they were taken."""
    kinds = [
        (kind, part) for kind in ("ordinary", "nearly equal") for part in ("value", "gradient")
    ]
    lines = [["", *(f"{part}, {kind} vectors" for kind, part in kinds)]]
    for name in competitors(content):
        found = [case["competitors"].get(name, {}).get("errors") for case in content["cases"]]
        errors = [error for error in found if error]
        if errors:
            worst = [max(error[kind][part] for error in errors) for kind, part in kinds]
            lines.append([name, *map(power, worst)])
    return table(lines)


def growth(content: Content) -> str:
    """A line a size of every sweep."""
    lines = [["what grows", "to", "times the first", "step", "times the first's time"]]
    for name, sweep in content["sweeps"].items():
        first = sweep["sizes"][0][name]
        for size in sweep["sizes"]:
            value = size[name]
            ratio = sweep["median_ratio_to_first"][str(value)]
            step = milliseconds(sweep["median_seconds"][str(value)])
            lines.append([name, f"{value:,}", times(value / first), step, times(ratio)])
    return table(lines)


def processes(content: Content) -> str:
    """Seconds of a step by every way to share a batch."""
    lines = [["way", "N", "step", "of one process"]]
    for case in content["processes"]:
        for name, seconds in case["median_seconds"].items():
            ratio = case["median_ratio_to_one_process"][name]
            lines.append([name, f"{case['samples']:,}", milliseconds(seconds), times(ratio)])
    return table(lines)


def sent(content: Content) -> str:
    """Bytes that a process sends in a step."""
    lines = [["N", "K", "class sums", "gathering", "ratio", "ratio without passing gradients back"]]
    for case in content["bytes"]:
        cells = [f"{case[way]['sent_in_all']:,.0f}" for way in ("class_sums", "gathering")]
        cells.append(times(case["gathering_over_class_sums"]))
        cells.append(times(case["gathering_without_gradients_over_class_sums"]))
        lines.append([f"{case['samples']:,}", f"{case['classes']:,}", *cells])
    return table(lines)


def steps(content: Content) -> str:
    """Every loss beside cross-entropy."""
    lines = [["loss", "of CE's time", "95 % interval", "step"]]
    for name, seconds in content["seconds"].items():
        found = ratios(seconds, content["seconds"]["ce"])
        median = statistics.median(seconds)
        interval = NONE if name == "ce" else spread(found)
        cells = [thousandths(statistics.median(found)), interval, milliseconds(median)]
        lines.append([f"`{name}`", *cells])
    if SAME_HEAD in content["seconds"]:
        found = ratios(content["seconds"]["cc"], content["seconds"][SAME_HEAD])
        cells = [thousandths(statistics.median(found)), spread(found), NONE]
        lines.append([f"`cc`, of the time of `{SAME_HEAD}`", *cells])
    return table(lines)


def variants(content: Content) -> str:
    """Ways to take one step, beside ours."""
    cases = content["cases"]
    names = list(dict.fromkeys(name for case in cases.values() for name in case["seconds"]))
    lines = [["step", *cases, *(f"first step, {name}" for name in cases)]]
    for name in names:
        cells = [variant(case, name) for case in cases.values()]
        cells += [seconds_text(case["first_step_seconds"].get(name)) for case in cases.values()]
        lines.append([name, *cells])
    return table(lines)


def variant(case: Content, name: str) -> str:
    """Milliseconds of a step, and of ours how much that is; of a single step it is said."""
    taken = case["seconds"].get(name)
    if taken is None:
        return NONE
    mark = "†" if len(taken) == 1 else ""
    ratio = times(case["median_ratio_to_ours"][name])
    return f"{milliseconds(statistics.median(taken))} ({ratio}{mark})"


def loop(content: Content) -> str:
    """The library's loop beside a bare one."""
    lines = [["case", "of the bare loop's time", "95 % interval", "bare step"]]
    for name, case in content["cases"].items():
        step = statistics.median(case["seconds"]["bare"]) / case["steps"]
        cells = [thousandths(case["median_ratio"]), spread(case["ratios"]), milliseconds(step)]
        lines.append([name, *cells])
    return table(lines)


def speeds(content: Content) -> str:
    """Images/s of every tool, and how many times as many ccloss makes."""
    cases = content["cases"]
    entries = list(dict.fromkeys(entry for case in cases.values() for entry in case["seconds"]))
    rows = [[entry, *(speed(case, entry) for case in cases.values())] for entry in entries]
    return table([["images/s", *cases], *rows])


def speed(case: Content, entry: str) -> str:
    """Of one tool in one setting."""
    if entry not in case["seconds"]:
        return NONE
    found = figures(case["median_images_per_second"][entry])
    by_precision = case["median_ratios"].get(entry, {})
    several = len(by_precision) > 1
    compared = [
        f"{precision} {times(ratio)}" if several else times(ratio)
        for precision, ratio in by_precision.items()
    ]
    return f"{found} ({', '.join(compared)})" if compared else found


def layout(content: Content) -> str:
    """What memory format and fused optimiser alone change, seen in the plain loop."""
    found = []
    for name, case in content["cases"].items():
        before, after = (case["seconds"].get(f"loop, {way}") for way in ("defaults", "same fp32"))
        if before and after:
            found.append(f"{name} {times(statistics.median(ratios(before, after)))}")
    return ", ".join(found)


def campaign(content: Content) -> str:
    """Two workers beside one."""
    median = {
        way: statistics.median(pair[way] for pair in content["seconds"]) for way in ("one", "two")
    }
    cells = [f"{content['runs']} of {content['epochs']} epochs"]
    cells += [f"{seconds:.1f} s" for seconds in median.values()]
    cells += [times(content["median_ratio"]), spread(content["ratios"])]
    return table([["runs", "one worker", "two workers", "times as fast", "95 % interval"], cells])


def waits(content: Content) -> str:
    """Every start of a process."""
    lines = [["process", "until its exit", "after `import torch`"]]
    for name, case in content["cases"].items():
        after = None if name == "import torch" else case["median_after_torch_seconds"]
        lines.append([f"`{name}`", seconds_text(case["median_seconds"]), milliseconds(after)])
    return table(lines)


if __name__ == "__main__":
    PAGE.write_text(text())
    print(PAGE)
