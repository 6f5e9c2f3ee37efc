"""The medical domain (temporary while heads/tumor.py, show.py and generate.py are being written)."""

import importlib

from domains.domain import Domain
from domains.medical.layout import open_inputs, scan
from domains.medical.plan import VERSION, inspect, plan
from domains.medical.prediction import write_prediction
from domains.medical.preprocess import read, read_label, write, write_label
from domains.medical.recipes import RECIPES


def _get(module, name):
    try:
        return getattr(importlib.import_module(f"domains.medical.{module}"), name)
    except (ImportError, AttributeError):
        return None


HEAD = _get("heads.tumor", "HEAD")
DOMAIN = Domain(
    name="medical", version=VERSION, recipes=RECIPES, heads={"tumor": HEAD} if HEAD else {}, scan=scan, inspect=inspect, plan=plan, read=read,
    write=write, read_label=read_label, write_label=write_label, crops=_get("datasets", "crops"), painter=_get("paint", "make_painter"),
    open_inputs=open_inputs, write_prediction=write_prediction, picture=_get("show", "thumbnail") or (lambda entry: b""),
    panels=_get("show", "panels") or (lambda named: b""), generate=_get("generate", "generate"),
)
