"""The driving domain: single frames with masks, and clips of recordings from video files or image sequences."""

from domains.domain import Domain
from domains.driving.dataset_yaml import schema
from domains.driving.datasets import crops
from domains.driving.entries import glance
from domains.driving.generate import generate
from domains.driving.heads import HEADS
from domains.driving.layout import open_inputs, scan
from domains.driving.paint import make_painter
from domains.driving.plan import VERSION, has_time, inspect, plan
from domains.driving.preprocess import read, read_label, write, write_label
from domains.driving.recipes import RECIPES
from domains.driving.results import write_prediction
from domains.driving.show import panels, thumbnail
from domains.driving.stream import stream, whole

DOMAIN = Domain(
    name="driving",
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
    knows_anomalies=lambda recipe: not has_time(recipe),
    open_inputs=open_inputs,
    write_prediction=write_prediction,
    picture=thumbnail,
    glance=glance,
    panels=panels,
    has_time=has_time,
    generate=generate,
    recording=whole,
    stream=stream,
    dataset_yaml=schema(),
)
