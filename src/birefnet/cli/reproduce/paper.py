"""The paper's claims, tables and figures, each with the commands that show it; no torch.

Zheng et al., "Bilateral Reference for High-Resolution Dichotomous Image Segmentation", CAAI
Artificial Intelligence Research 3 (2024). `birefnet reproduce` runs the commands, and
`docs/tables.py` makes the tables of docs/paper.md of the same entries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["here", "data", "training", "a GPU"]
Section = Literal["method", "tables", "figures"]

SCORES = "{out}/scores"


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        words: as typed after `birefnet`, or whole where they begin with `python` or `pytest`, which
            run in a clone of the repository. `{data}` is the folder of data, `{out}` that of the
            results, `{NAME}` the folder of the data set NAME, with `.im` or `.gt` its pictures or
            masks, and `{picture}` a picture of the folder of data.
        row: of the item's table, whose numbers the command measures.
        small: words that are added to make the command small (`--tiny`).
    """

    words: str
    row: str = ""
    small: str = ""


@dataclass(frozen=True)
class Item:
    """A claim, table or figure.

    Attributes:
        key: its name for `birefnet reproduce`.
        paper: where it stands.
        claim: what the paper says.
        answer: what shows it here, in Markdown; the commands of `steps` need not be repeated.
        kind: what it takes.
        steps: the commands.
        needs: folders of data under the root.
        any_of: one of them is enough.
        also: further names.
        table: of `published_rows`, whose numbers stand beside the measured ones.
        note: what to know before comparing.
    """

    key: str
    paper: str
    claim: str
    answer: str
    kind: Kind
    section: Section
    steps: tuple[Step, ...]
    needs: tuple[str, ...] = ()
    any_of: bool = False
    also: tuple[str, ...] = ()
    table: str = ""
    note: str = ""


def slug(text: str) -> str:
    """A row's name as a folder: `RM + InRef` → `rm-inref`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


_TRAIN = "train --recipe dis5k --variant paper --data {DIS-TR} --validate {DIS-VD}"
_DIS = ("DIS-TR", "DIS-VD")
_DIS_TESTS = ("DIS-VD", "DIS-TE1", "DIS-TE2", "DIS-TE3", "DIS-TE4")
_HRSOD_TESTS = ("DAVIS-S", "TE-HRSOD", "TE-UHRSD", "TE-DUTS", "DUT-OMRON")
_COD_TESTS = ("TE-CAMO", "TE-COD10K", "NC4K")

_NO_RM = ("network_overrides.decoder_block=resnet", "network_overrides.attention=plain")
_NO_INWARD = ("network_overrides.inward_reference=none",)
_NO_OUTWARD = ("network_overrides.outward_reference=false", "loss.gradient=0")
_NO_STAGES = ("network_overrides.multi_scale_supervision=false", *_NO_OUTWARD)
_NO_FUSION = ("network_overrides.context_fusion=false",)
_NO_PYRAMID = ("network_overrides.image_pyramid=none",)
_NO_FINETUNING = ("loss.phases=[]",)
_PLAIN = (*_NO_FUSION, *_NO_PYRAMID, *_NO_FINETUNING)  # Table 2 is without those of Table 3


def _ablation(row: str, *settings: str) -> tuple[Step, Step]:
    """Train a network with these settings, and measure it on DIS-VD."""
    run = f"{{out}}/{slug(row)}"
    assignments = "".join(f" --set {setting}" for setting in settings)
    scores = f"--suite dis5k --set DIS-VD --data {{data}} --out {SCORES}/{slug(row)}"
    return (
        Step(f"{_TRAIN} --output {run}{assignments}"),
        Step(f"benchmark {scores} --model {run}/best", row),
    )


def _suite(suite: str, model: str) -> Step:
    return Step(f"benchmark --suite {suite} --data {{data}} --model {model} --out {SCORES}")


ITEMS: tuple[Item, ...] = (
    Item(
        "fig2",
        "Fig. 2, 3, Sec. 3.1–3.3",
        "localisation and reconstruction module",
        "[architecture](architecture.md), `python docs/figures.py`; outputs equal to the released "
        "network: `pytest tests/network/test_equality.py`",
        "here",
        "method",
        (Step("pytest -q tests/network/test_equality.py"),),
        also=("fig3", "sec3.1", "sec3.3"),
    ),
    Item(
        "fig4",
        "Fig. 4, Sec. 3.4",
        "BiRef block: inward and outward reference",
        "the same; `birefnet explain photo.jpg` draws both for any picture",
        "here",
        "method",
        (Step("explain {picture} --output {out}/fig4.png", small="--no-field"),),
        needs=("pictures",),
        also=("sec3.4",),
    ),
    Item(
        "eq1",
        "Eq. 1–5",
        "BCE, IoU, SSIM and classification losses with weights 30, 0.5, 10, 5",
        "recipe `dis5k`, variant `paper`; values to 1e-6: `pytest tests/training/test_losses.py`",
        "here",
        "method",
        (Step("pytest -q tests/training/test_losses.py"),),
    ),
    Item(
        "eq6",
        "Eq. 6–9, Sec. 4.2",
        "S, F, weighted F, E, MAE, HCE",
        "equal to the official programs: `pytest tests/evaluation`; [evaluation](evaluation.md)",
        "here",
        "method",
        (Step("pytest -q tests/evaluation"),),
        also=("sec4.2",),
    ),
    Item(
        "sec4.1",
        "Sec. 4.1",
        "training and test sets of four tasks",
        "`birefnet train --list` names the sets of each recipe; "
        "`birefnet benchmark --suite dis5k --data data` says where each is found",
        "data",
        "method",
        (Step("train --list"),),
    ),
    Item(
        "sec4.3",
        "Sec. 4.3",
        "1024², flips, Adam, 600/150/150 epochs, last 20 with IoU",
        "`birefnet train --recipe dis5k --variant paper --data DIS-TR --dry-run` prints every "
        "value",
        "here",
        "method",
        (Step(f"{_TRAIN} --dry-run"),),
        needs=_DIS,
    ),
    Item(
        "sec3.2",
        "Sec. 3.2, 4.3",
        "auxiliary head of 219 classes",
        "preset `variant_auxiliary_classification`; used by variant `paper` of `dis5k`",
        "here",
        "method",
        (Step(f"{_TRAIN} --dry-run"),),
        needs=_DIS,
    ),
    Item(
        "table1",
        "Table 1",
        "400 epochs beat 200; multi-stage supervision reaches in 200 epochs what takes 400 "
        'without (Sec. 3.6 also says "30 %" of the epochs; the table says half)',
        "recipe `dis5k`, variant `paper`, with and without multi-stage supervision, of 200 and 400 "
        "epochs",
        "training",
        "tables",
        (
            *_ablation("200 epochs", "schedule.epochs=200", *_NO_STAGES),
            *_ablation("400 epochs", "schedule.epochs=400", *_NO_STAGES),
            *_ablation("200 epochs, multi-stage supervision", "schedule.epochs=200"),
        ),
        needs=_DIS,
        table="Table 1",
    ),
    Item(
        "table2",
        "Table 2",
        "RM, InRef, OutRef help alone and together: max F on DIS-VD .837 → .855 by RM, .861 by "
        "both references, .889 by all (2.2, 2.9 and 6.2 %)",
        "the same with parts left out; [what they cost](#what-the-components-cost)",
        "training",
        "tables",
        (
            *_ablation("baseline", *_NO_RM, *_NO_INWARD, *_NO_OUTWARD, *_PLAIN),
            *_ablation("RM", *_NO_INWARD, *_NO_OUTWARD, *_PLAIN),
            *_ablation("InRef", *_NO_RM, *_NO_OUTWARD, *_PLAIN),
            *_ablation("RM + InRef", *_NO_OUTWARD, *_PLAIN),
            *_ablation("RM + OutRef", *_NO_INWARD, *_PLAIN),
            *_ablation("InRef + OutRef", *_NO_RM, *_PLAIN),
            *_ablation("RM + InRef + OutRef", *_PLAIN),
        ),
        needs=_DIS,
        table="Table 2",
        note="The paper does not say for how many epochs; here they are the 600 of Sec. 4.3. Its "
        "marks for the third to fifth row were read from their order.",
    ),
    Item(
        "table3",
        "Table 3",
        "context fusion, image pyramid and IoU in the last epochs help",
        "the same with one of them, and with all",
        "training",
        "tables",
        (
            *_ablation("none", *_PLAIN),
            *_ablation("CFF", *_NO_PYRAMID, *_NO_FINETUNING),
            *_ablation("IPT", *_NO_FUSION, *_NO_FINETUNING),
            *_ablation("RLFT", *_NO_FUSION, *_NO_PYRAMID),
            *_ablation("CFF + IPT + RLFT"),
        ),
        needs=_DIS,
        table="Table 3",
    ),
    Item(
        "table4",
        "Table 4",
        "DIS5K: S .901 and weighted F .858 over TE1–4",
        "`birefnet benchmark --suite dis5k --data data --model dis5k`",
        "data",
        "tables",
        (_suite("dis5k", "dis5k"),),
        needs=_DIS_TESTS,
        any_of=True,
    ),
    Item(
        "table5",
        "Table 5",
        "HRSOD, UHRSD, DAVIS-S, DUTS, DUT-OMRON",
        "`birefnet benchmark --suite hrsod --data data --model hrsod`; combinations of training "
        "sets: recipes `hrsod-d` to `hrsod-hu`",
        "data",
        "tables",
        (_suite("hrsod", "hrsod"),),
        needs=_HRSOD_TESTS,
        any_of=True,
    ),
    Item(
        "table6",
        "Table 6",
        "CAMO, COD10K, NC4K: S .904, .913, .914",
        "`birefnet benchmark --suite cod --data data --model cod`",
        "data",
        "tables",
        (_suite("cod", "cod"),),
        needs=_COD_TESTS,
        any_of=True,
    ),
    Item(
        "table7",
        "Table 7",
        "size, multiplications and time by backbone; IS-Net and UDUN beside them are other "
        "networks, not here",
        "[Efficiency](#efficiency-table-7-and-fig-8): `python benchmarks/efficiency.py`",
        "here",
        "tables",
        (
            Step(
                "python benchmarks/efficiency.py --out {out}/efficiency.json",
                small="--side 128 --only pvt_v2_b0 nano",
            ),
        ),
        also=("fig8", "sec4.4"),
    ),
    Item(
        "fig1",
        "Fig. 1, 6, 7",
        "finer masks than others on DIS5K and COD10K",
        "a page of pictures, the worst first; with `-p` given twice, methods stand beside each "
        "other: `birefnet evaluate -p mine=results/mine -p theirs=results/theirs "
        "-t data/DIS-VD/gt --image data/DIS-VD/im --sheet worst.html --sort hce`",
        "data",
        "figures",
        (
            replace(
                _suite("dis5k", "dis5k"),
                words="benchmark --suite dis5k --set DIS-VD "
                f"--data {{data}} --model dis5k --out {SCORES}",
            ),
            Step(
                "evaluate -p {predictions} -t {DIS-VD.gt} --image {DIS-VD.im} "
                "--metrics dis --sheet {out}/worst.html --sort hce --overwrite"
            ),
        ),
        needs=("DIS-VD",),
        also=("fig6", "fig7"),
    ),
    Item(
        "fig5",
        "Fig. 5",
        "S of one network in four tasks",
        "the S columns of the suites above",
        "data",
        "figures",
        (_suite("dis5k", "dis5k"), _suite("hrsod", "hrsod"), _suite("cod", "cod")),
        needs=(*_DIS_TESTS, *_HRSOD_TESTS, *_COD_TESTS),
    ),
    Item(
        "sec3.6",
        "Sec. 3.6",
        "structure is learnt early, detail late",
        "every run writes its validation to `metrics.jsonl` and TensorBoard",
        "training",
        "figures",
        (Step(f"{_TRAIN} --output {{out}}/run --set validation.metrics=s_measure,hce,iou"),),
        needs=_DIS,
    ),
    Item(
        "sec4.5",
        "Sec. 4.5",
        "more than 10 pictures a second on an A100; compiled 13 % faster (its Table 7 says 83.3 → "
        "78.3 ms, which is 6 %)",
        "`python benchmarks/gpu.py` on a GPU; `TorchEngine(network, compile=True)`",
        "a GPU",
        "figures",
        (
            Step(
                "python benchmarks/gpu.py --output {out}/gpu.json",
                small="--tiny --device cpu --only network",
            ),
        ),
    ),
    Item(
        "sec5.1",
        "Sec. 5, #1; Fig. 9 A",
        "crack detection in walls",
        "[fine-tuning](finetune.md) on drawn cracks, IoU .289 → .727 in under three minutes on a "
        "CPU",
        "here",
        "figures",
        (
            Step("python docs/cracks.py {out}/cracks 100"),
            Step("python docs/cracks.py {out}/cracks-test 40 1000"),
            Step(
                "train --recipe finetune --data {out}/cracks --validate {out}/cracks-test "
                "--set schedule.epochs=6 --set optimiser.rate=5e-4 --output {out}/run"
            ),
            Step(
                "remove {out}/cracks-test/im --type mask --model {out}/run/best "
                "--output {out}/masks --overwrite"
            ),
            Step(
                "evaluate -p {out}/masks -t {out}/cracks-test/gt "
                "--metrics iou,mae,s_measure,boundary_iou_mean"
            ),
        ),
        also=("fig9a",),
    ),
    Item(
        "sec5.2",
        "Sec. 5, #2; Fig. 9 B",
        "objects at high resolution, down to threads, without a mask",
        "`birefnet remove photo.jpg --model hr --refine-passes 2`",
        "here",
        "figures",
        (
            Step(
                "remove {picture} --model hr --refine-passes 2 --output {out}/cutout.png "
                "--overwrite"
            ),
        ),
        needs=("pictures",),
        also=("fig9b",),
    ),
    Item(
        "fig9c",
        "Fig. 9 C–E, Sec. 6 #1",
        "ComfyUI nodes of viperyl and ZHO, the service of fal.ai",
        "both packs' workflows run: `pytest tests/integrations/comfyui`; fal.ai's clients work "
        "against `birefnet serve`: [routes](compatible_routes.md)",
        "here",
        "figures",
        (Step("pytest -q tests/integrations/comfyui"),),
        also=("fig9d", "fig9e"),
    ),
    Item(
        "fig9f",
        "Fig. 9 F, G, Sec. 6 #2",
        "as good as RMBG 1.4; compared with rembg and others by users",
        "own pictures side by side: `birefnet evaluate -p mine=results/mine "
        "-p theirs=results/theirs -t truth --sheet worst.html`; rembg's command is answered by "
        "`birefnet rembg` ([drop-ins](drop_in.md))",
        "data",
        "figures",
        (
            Step(
                "evaluate -p mine={mine} -p theirs={theirs} -t {truth} "
                "--sheet {out}/worst.html --overwrite"
            ),
        ),
        needs=("mine", "theirs", "truth"),
        also=("fig9g",),
    ),
)


def find_item(name: str) -> Item | None:
    """The item of a key or one of its further names, in any letter case; None if there is none."""
    wanted = name.lower().replace(" ", "").replace("figure", "fig")
    return next((item for item in ITEMS if wanted in (item.key, *item.also)), None)
