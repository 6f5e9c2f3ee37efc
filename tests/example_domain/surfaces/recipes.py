"""The recipe of the surfaces domain and the settings its data needs."""

from __future__ import annotations

from pydantic import Field

from domains.recipe import Finetune, Frozen, Pretrain, Recipe


class SurfaceData(Frozen):
    """How photographs are cut."""

    max_crop: int = Field(default=64, ge=16, multiple_of=8)
    """Side of a crop in pixels, where the smallest photograph allows it."""
    defect_crop_share: float = Field(default=0.5, ge=0, le=1)
    """Share of labelled crops that hold a defect; the others lie anywhere."""


class SurfaceRecipe(Recipe):
    data: SurfaceData = SurfaceData()


def settings(recipe: Recipe) -> SurfaceData:
    """The recipe's settings of this domain."""
    assert isinstance(recipe, SurfaceRecipe)
    return recipe.data


RECIPES: dict[str, Recipe] = {
    "surface_defects": SurfaceRecipe(
        name="surface_defects",
        domain="surfaces",
        head="defect",
        objective="mae + 0.5 * anomaly_synthesis",
        pretrain=Pretrain(steps=300, batch_size=16, learning_rate=1e-3),
        finetune=Finetune(steps=200, batch_size=16, learning_rate=1e-3),
    )
}
