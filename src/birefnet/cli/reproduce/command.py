"""`birefnet reproduce`: the paper's claims, tables and figures, by the commands of `paper.py`."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import birefnet
from birefnet.cli.options import Device, GroupedCommand, Interrupted, check_output, examples
from birefnet.errors import require
from birefnet.terminal import console, fail, say, warn

if TYPE_CHECKING:
    from birefnet.cli.reproduce.paper import Item, Step
    from birefnet.evaluation.tables import Row

_DRAWN = 4  # pictures of a drawn data set
_DEPTH = 3  # ROOT/TASK/PART/SET at most
_GRACE_S = 20  # for an interrupted command to save its work
_NAME = "`birefnet reproduce`"
_CLONE = Path(birefnet.__file__).parents[2]
_TINY_NETWORK = ("network=tiny", "encoder_weights=none")
_TINY_RUN = (
    "data.width=64", "data.height=64", "schedule.batch_size=2", "schedule.accumulate=1",
    "schedule.steps=2", "loop.workers=0", "loop.trackers=none", "validation.previews=0",
)  # fmt: skip
_TINY = (
    "Drawn data and the tiny network, barely trained: this shows that the commands run, and no "
    "number below says anything about the paper."
)


EXAMPLES = examples(
    "birefnet reproduce",
    "birefnet reproduce table2 --tiny",
    "birefnet reproduce table2 --data DIS5K --out reproduced --device cuda",
)


def register(app: typer.Typer) -> None:
    """Add `reproduce` to `app`."""
    app.command(cls=GroupedCommand, epilog=EXAMPLES)(reproduce)


def reproduce(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="ITEM", help="Item, such as table2, fig4 or sec4.3.", show_default="list all"
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="ROOT", help="Folder of the data sets."),
    ] = None,
    tiny: Annotated[
        bool,
        typer.Option(
            "--tiny",
            help="A test of the commands in minutes, with drawn data and the tiny network.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            callback=check_output,
            metavar="DIR",
            help="Folder for runs, predictions and numbers.",
            show_default="reproduce/ITEM",
        ),
    ] = None,
    device: Device = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the commands and run none.")
    ] = False,
) -> None:
    """List the claims, tables and figures of the paper, or run one of them.

    A stopped run goes on where it was.

    Exit status 0; 1 if a command failed; 2 for an unknown item or missing data.
    """
    from birefnet.cli.reproduce.paper import ITEMS, find_item

    if name is None:
        _list()
        return
    item = find_item(name)
    if item is None:
        known = ", ".join(one.key for one in ITEMS)
        raise typer.BadParameter(f"the paper has no {name!r} here; there are {known}")
    folder = out or Path("reproduce") / item.key
    if tiny:
        if data is not None:
            raise typer.BadParameter("--tiny draws its own data; leave --data out")
        folder = out or Path("reproduce") / f"{item.key}-tiny"
        data = folder / "data"
        if not dry_run:
            require(_NAME, "train")
            _draw(item, data)
    folders = _folders(item, data, folder, is_drawn=tiny)
    if not dry_run:
        require(_NAME, "train")
    say(f"{item.paper}: {item.claim}")
    for note in filter(None, (item.note, _TINY if tiny else "")):
        warn(note)
    steps = [_words(step, folders, folder, device, tiny=tiny) for step in item.steps]
    if tiny and any("--model" in words and _tiny_model(folder) in words for words in steps):
        steps.insert(0, _train_tiny(data or folder, folder))
    _run_all(item, steps, dry_run=dry_run)
    if not dry_run:
        if item.table:
            _show_table(item, folder, tiny=tiny)
        say(f"\n{item.paper} is done; what it made is in {folder}")


def _run_all(item: Item, steps: list[list[str]], *, dry_run: bool) -> None:
    """Print each command and run it; the first that fails ends it all."""
    is_of_repository = any(words[0] in ("python", "pytest") for words in steps)
    if is_of_repository and not (_CLONE / "benchmarks").is_dir():
        raise typer.BadParameter(
            f"{item.key} runs files of the repository ({shlex.join(steps[0])}), which the package "
            "does not have; clone it, install it from there (pip install -e .), and try again"
        )
    for number, words in enumerate(steps, start=1):
        say(f"\n[{number}/{len(steps)}] {_shown(words)}")
        if not dry_run and (status := _run(words)):
            fail(f"command {number} of {len(steps)} ended with status {status}: {_shown(words)}")
            raise typer.Exit(1)


def _list() -> None:
    from rich import box
    from rich.table import Table

    from birefnet.cli.reproduce.paper import ITEMS

    table = Table(box=box.SIMPLE_HEAD)
    for head in ("item", "paper", "claim", "takes", "data"):
        table.add_column(head, overflow="fold")
    for item in ITEMS:
        needs = (" or " if item.any_of else ", ").join(item.needs)
        table.add_row(item.key, item.paper, item.claim, item.kind, needs)
    console().print(table)


def _folders(item: Item, data: Path | None, out: Path, *, is_drawn: bool) -> dict[str, Path]:
    """Where the placeholders of the item's commands lie.

    Raises:
        typer.BadParameter: a folder of data is missing; the message lists all that are expected.
    """
    from birefnet.evaluation.suites import SUITES, TestSet, find_test_set

    folders = {"out": out.absolute(), "predictions": out.absolute() / "scores/dis5k/DIS-VD"}
    if is_drawn:
        folders["predictions"] = out.absolute() / "scores/best/DIS-VD"
    if not item.needs:
        return folders
    word = " or " if item.any_of else ", "
    expected = word.join(item.needs)
    layout = "each with pictures in im/ and masks in gt/"
    if item.needs == ("pictures",):
        layout = "of any kind"
    if "mine" in item.needs:
        layout = "of masks with the same names"
    if data is None:
        raise typer.BadParameter(
            f"{item.key} needs --data ROOT, a folder that holds {expected}, {layout}; or --tiny"
        )
    folders["data"] = data.absolute()
    if not data.is_dir() and not is_drawn:
        raise typer.BadParameter(
            f"{item.key} needs --data ROOT, a folder that holds {expected}, {layout}; {data} is no "
            "folder"
        )
    if item.needs == ("pictures",):
        folders["picture"] = _first_picture(data, is_drawn=is_drawn)
        return folders
    known = {one.name: one for suite in SUITES.values() for one in suite.sets}
    missing = []
    for need in item.needs:
        test_set = known.get(need)
        folder = _find(data, (need, *(test_set.aliases if test_set else ())), is_drawn=is_drawn)
        if folder is None:
            missing.append(need)
            continue
        folders[need] = folder
        test_folders = (
            find_test_set(test_set or TestSet(need, 0, ""), data) if data.is_dir() else None
        )
        folders[f"{need}.im"] = test_folders.image if test_folders else folder / "im"
        folders[f"{need}.gt"] = test_folders.truth if test_folders else folder / "gt"
    if missing and (not item.any_of or len(missing) == len(item.needs)):
        pages = [f"{one}: {known[one].published_at}" for one in missing if one in known]
        raise typer.BadParameter(
            f"{item.key} needs under --data the folders {expected}, {layout}; {data} lacks "
            f"{', '.join(missing)}" + (f" ({'; '.join(pages)})" if pages else "")
        )
    return folders


def _find(root: Path, names: tuple[str, ...], *, is_drawn: bool) -> Path | None:
    """A folder of one of these names, in any letter case, up to three levels deep."""
    if is_drawn:
        return (root / names[0]).absolute()
    wanted = {name.lower() for name in names}
    level = [root]
    for _ in range(_DEPTH):
        level = [path for one in level for path in sorted(one.iterdir()) if path.is_dir()]
        for path in level:
            if path.name.lower() in wanted:
                return path.absolute()
    return None


def _first_picture(data: Path, *, is_drawn: bool) -> Path:
    from birefnet.imaging.formats import is_picture

    if is_drawn:
        return (data / "pictures" / "im" / "1#Things#0#Disc#0.jpg").absolute()
    pictures = (path for path in sorted(data.rglob("*")) if path.is_file() and is_picture(path))
    first = next(pictures, None)
    if first is None:
        raise typer.BadParameter(f"--data is {data}, which holds no picture")
    return first.absolute()


def _words(
    step: Step, folders: dict[str, Path], out: Path, device: str, *, tiny: bool
) -> list[str]:
    """The command, with folders in place of placeholders, and small where that is asked for."""
    words = [
        re.sub(r"\{([^}]+)\}", lambda match: str(folders[match[1]]), word)
        for word in shlex.split(step.words)
    ]
    command = words[0]
    if tiny:
        words += shlex.split(step.small)
        if "--model" in words and not words[words.index("--model") + 1].endswith("/best"):
            words[words.index("--model") + 1] = _tiny_model(out)
        if command == "explain":
            words += ["--model", _tiny_model(out)]
        if command == "train" and "--list" not in words:
            settings = _TINY_RUN if "finetune" in words else (*_TINY_NETWORK, *_TINY_RUN)
            words += [word for setting in settings for word in ("--set", setting)]
        if command in ("benchmark", "explain", "remove"):
            words += ["--resolution", "64"]
        if command == "python" and words[1] == "docs/cracks.py":
            words[3] = str(_DRAWN)
        device = "cpu"
    if command in ("train", "benchmark", "explain", "remove") and "--list" not in words:
        words += ["--device", device]
    if command == "train" and "--output" in words:
        run = Path(words[words.index("--output") + 1])
        if run.is_dir() and any(run.iterdir()):
            words.append("--resume")
    return words


def _tiny_model(out: Path) -> str:
    return str(out.absolute() / "tiny" / "best")


def _train_tiny(data: Path, out: Path) -> list[str]:
    """A network for commands that take a model."""
    sets = sorted(path for path in data.absolute().iterdir()) if data.is_dir() else []
    source = str(sets[0]) if sets else str(data / "SET")
    words = [
        "train",
        "--recipe",
        "dis5k",
        "--data",
        source,
        "--validate",
        source,
        "--device",
        "cpu",
    ]
    for setting in (*_TINY_NETWORK, *_TINY_RUN):
        words += ["--set", setting]
    run = out.absolute() / "tiny"
    resume = ["--resume"] if run.is_dir() else []
    return [*words, "--output", str(run), *resume]


def _shown(words: list[str]) -> str:
    prefix = [] if words[0] in ("python", "pytest") else ["birefnet"]
    return shlex.join([*prefix, *words])


def _run(words: list[str]) -> int:
    """Run one command with this Python, and wait for its end; its exit status."""
    command, folder = [sys.executable, "-m", "birefnet", *words], None
    if words[0] == "pytest":
        command, folder = [sys.executable, "-m", *words], _CLONE
    elif words[0] == "python":
        command, folder = [sys.executable, *words[1:]], _CLONE
    with subprocess.Popen(command, cwd=folder) as process:
        try:
            return process.wait()
        except Interrupted as interrupt:
            if interrupt.status != 128 + signal.SIGINT:
                process.terminate()  # a Ctrl-C has reached it already
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)
            raise
        finally:
            process.kill()


def _show_table(item: Item, out: Path, *, tiny: bool) -> None:
    """The paper's rows with the measured ones beneath, printed and written as JSON."""
    from birefnet.evaluation.published import published_rows
    from birefnet.evaluation.tables import to_terminal
    from birefnet.imaging.io import write_atomic

    measured = _measured(item, out)
    by_row = {row.dataset: dict(row.values) for row in measured}
    rows: list[Row] = []
    columns: tuple[str, ...] = ()
    for published in published_rows(item.table):
        columns = columns or tuple(published.values)
        rows += [published, *(row for row in measured if row.dataset == published.method)]
    title = f"{item.paper}, the paper's rows and those measured here"
    shown = [_renamed(row, item.table) for row in rows]
    results = {
        "item": item.key,
        "tiny": tiny,
        "rows": [
            {
                "row": published.method,
                "paper": dict(published.values),
                "here": by_row.get(published.method, {}),
            }
            for published in published_rows(item.table)
        ],
    }
    write_atomic(out / f"{item.key}.json", (json.dumps(results, indent=1) + "\n").encode())
    console().print(to_terminal(shown, columns, title=title))


def _measured(item: Item, out: Path) -> list[Row]:
    """The number of each row, with the row's name as the data set."""
    from birefnet.cli.reproduce.paper import slug
    from birefnet.evaluation.tables import Row, read_json

    rows = []
    for name in [step.row for step in item.steps if step.row]:
        path = out / "scores" / slug(name) / "best" / "dis5k.json"
        rows += [Row(name, "here", row.values) for row in read_json(path)]
    return rows


def _renamed(row: Row, table: str) -> Row:
    """As it stands in the table: the row's name, then who measured it."""
    from birefnet.evaluation.tables import Row

    if row.dataset == table:
        return Row(row.method, "paper", row.values, is_published=True)
    return row


def _draw(item: Item, data: Path) -> None:
    """Sets of a few drawn pictures, in place of those that the item needs."""
    import cv2
    import numpy as np

    from birefnet.imaging.io import encode, write_atomic

    for need in item.needs:
        for number in range(_DRAWN):
            rng = np.random.default_rng(number)
            rough = rng.integers(10, 110, (4, 5, 3), dtype=np.uint8)
            truth = np.zeros((72, 96), np.uint8)
            centre = (int(rng.integers(30, 66)), int(rng.integers(24, 48)))
            cv2.circle(truth, centre, 16, 255, -1, cv2.LINE_AA)
            picture = cv2.resize(rough, (96, 72), interpolation=cv2.INTER_CUBIC)
            picture = np.where(truth[..., None] > 127, np.uint8(235), picture)
            name = f"1#Things#{number}#Disc#{number}"  # as DIS5K names its pictures, by class
            if item.needs == ("mine", "theirs", "truth"):
                files = {data / need / f"{name}.png": encode(truth, format="png")}
            else:
                files = {
                    data / need / "im" / f"{name}.jpg": encode(picture, format="jpeg"),
                    data / need / "gt" / f"{name}.png": encode(truth, format="png"),
                }
            for path, content in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, content)
