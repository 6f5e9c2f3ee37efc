"""The medical domain: MRI volumes with or without outlines, X-ray images with or without findings."""

from domains.domain import Domain
from domains.medical.dataset_yaml import schema
from domains.medical.generate import generate
from domains.medical.heads import HEADS
from domains.medical.kinds import (
    crops,
    glance,
    hand_out,
    inspect,
    of_xrays,
    open_inputs,
    picture,
    plan,
    read,
    read_label,
    scan,
    write,
    write_label,
    write_prediction,
)  # fmt: skip
from domains.medical.paint import make_painter
from domains.medical.plan import VERSION
from domains.medical.recipes import RECIPES
from domains.medical.show import panels

DOMAIN = Domain(
    name="medical",
    version=VERSION,
    recipes=RECIPES,
    heads=HEADS,
    scan=scan,
    inspect=inspect,
    plan=plan,
    read=read,
    write=write,
    read_label=read_label,
    write_label=write_label,
    crops=crops,
    painter=make_painter,
    knows_anomalies=lambda recipe: not of_xrays(recipe),
    open_inputs=open_inputs,
    write_prediction=write_prediction,
    picture=picture,
    glance=glance,
    panels=panels,
    channel_rules=("channels", "neighbours"),
    generate=generate,
    dataset_yaml=schema(),
    hand_out=hand_out,
)
