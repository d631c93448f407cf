"""The recipes side by side, as Markdown: `python -m birefnet.training.recipes.table`."""

from __future__ import annotations

from collections.abc import Callable

from birefnet.training.loss_settings import MAP_TERMS, LossPhase
from birefnet.training.recipe import Recipe
from birefnet.training.recipes import RECIPES

_SYMBOLS = {"none": "", "sqrt": " x √(step / {})", "linear": " x step / {}"}


def comparison() -> str:
    """A row for each recipe and variant (combinations of hrsod share its row)."""
    columns: dict[str, Callable[[Recipe], str]] = {
        "recipe": lambda r: f"`{r.name}`",
        "variant": lambda r: r.variant,
        "network": lambda r: r.network or "that of the weights",
        "pictures": lambda r: (
            f"{r.data.width} x {r.data.height}" if r.network else "as the weights"
        ),
        "epochs": lambda r: str(r.schedule.epochs),
        "optimiser": _optimiser,
        "losses": _losses,
        "last phase": lambda r: "; ".join(map(_phase, r.loss.phases)) or "–",
    }
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [
        f"| {' | '.join(show(recipe) for show in columns.values())} |"
        for recipe in RECIPES.values()
        if not recipe.name.startswith("hrsod-")
    ]
    return "\n".join(lines)


def _optimiser(recipe: Recipe) -> str:
    settings = recipe.optimiser
    scaling = _SYMBOLS[settings.batch_scaling].format(settings.reference_batch)
    encoder = "" if settings.encoder_factor == 1 else f", encoder x {settings.encoder_factor:g}"
    names = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD"}
    shape = "" if recipe.schedule.shape == "constant" else f", {recipe.schedule.shape}"
    return f"{names[settings.name]} {settings.rate:g}{scaling}{encoder}{shape}"


def _losses(recipe: Recipe) -> str:
    loss = recipe.loss
    words = [f"{name} {getattr(loss, name):g}" for name in MAP_TERMS if getattr(loss, name)]
    words += ["IoU summed"] if loss.iou_summed and loss.iou else []
    words += [] if loss.ssim_halved else ["SSIM not halved"]
    words += [f"gradient {loss.gradient:g} ({loss.gradient_label})"] if loss.gradient else []
    has_classes = recipe.network_overrides.get("auxiliary_classes")
    words += [f"classes {loss.classification:g}"] if has_classes else []
    words += [f"coarse maps x {loss.coarse:g}"] if loss.coarse != 1 else []
    return ", ".join(words)


def _phase(phase: LossPhase) -> str:
    span = f"{phase.last:.0%} of the run" if phase.last < 1 else f"{phase.last:g} epochs"
    words = [f"{', '.join(phase.only)} alone"] if phase.only else []
    words += [f"{name} x {factor:g}" for name, factor in phase.multiply.items()]
    again = ", anew in each" if phase.repeated else ""
    return f"last {span}: {', '.join(words)}{again}"


if __name__ == "__main__":
    print(comparison())
