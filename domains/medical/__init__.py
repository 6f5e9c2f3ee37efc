"""The medical domain: MRI volumes, one channel or several, with or without segmentation labels."""

from domains.domain import Domain
from domains.medical.dataset_yaml import schema
from domains.medical.datasets import crops
from domains.medical.generate import generate
from domains.medical.heads import HEADS
from domains.medical.layout import open_inputs, scan
from domains.medical.paint import make_painter
from domains.medical.plan import VERSION, inspect, plan
from domains.medical.preprocess import read, read_label, write, write_label
from domains.medical.recipes import RECIPES
from domains.medical.results import write_prediction
from domains.medical.show import panels, thumbnail

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
    open_inputs=open_inputs,
    write_prediction=write_prediction,
    picture=thumbnail,
    panels=panels,
    generate=generate,
    dataset_yaml=schema(),
)
