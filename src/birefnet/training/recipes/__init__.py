"""The recipes: what to train, on what, how, and what to expect; each as `Recipe`, by name.

`paper` holds the values that the paper states, `official` those of the released code with its known
defects, `recommended` the best of both with the defects repaired and the reason beside each choice.
docs/recipes.md shows them side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from birefnet.training.recipe import Recipe
from birefnet.training.recipes import finetune, nano, subjects
from birefnet.training.settings import SettingsError

RECIPES: Mapping[tuple[str, str], Recipe] = MappingProxyType(
    {
        (recipe.name, recipe.variant): recipe
        for module in (subjects, finetune, nano)
        for recipe in module.RECIPES
    }
)
"""Every recipe by (name, variant)."""


def recipe_names() -> list[str]:
    """Names of the recipes, in the order of their subjects."""
    return list(dict.fromkeys(name for name, _ in RECIPES))


def variants(name: str) -> list[str]:
    """Variants that the recipe `name` comes in."""
    return [variant for known, variant in RECIPES if known == name]


def get_recipe(name: str, variant: str = "recommended") -> Recipe:
    """The recipe `name` in `variant`.

    Raises:
        SettingsError: there is none; the message lists what exists.

    Example:
        >>> get_recipe("dis5k", "paper").schedule.epochs
        600
    """
    try:
        return RECIPES[name, variant]
    except KeyError:
        if known := variants(name):
            raise SettingsError(
                f"the recipe {name} has no variant {variant!r}; it comes as {', '.join(known)}"
            ) from None
        raise SettingsError(f"no recipe {name!r}; there are {', '.join(recipe_names())}") from None
