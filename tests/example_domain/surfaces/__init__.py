"""Industrial surfaces: greyscale photographs of pieces, production batches, defect masks. An example domain."""

from __future__ import annotations

from domains.domain import Domain
from surfaces import data, head, paint, recipes, show

DOMAIN = Domain(
    name="surfaces",
    version=data.VERSION,
    recipes=recipes.RECIPES,
    heads={"defect": head.HEAD},
    scan=data.scan,
    inspect=data.inspect,
    plan=data.plan,
    read=data.read,
    write=data.write,
    read_label=data.read_label,
    write_label=data.write_label,
    crops=data.SurfaceCrops,
    painter=lambda contract, recipe: paint.paint_defects,
    open_inputs=data.open_inputs,
    write_prediction=data.write_prediction,
    picture=show.picture,
    panels=show.panels,
    generate=paint.generate,
)
