"""What comes from outside leads nowhere: paths, links, YAML tags, names of recipes; and no test calls out."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
import yaml
from nifti_files import write_nifti
from xray_files import write_archive, write_rows

from domains.domain import find_recipe, recipe_from
from domains.errors import RecipeError, SelfsightError, UsageError
from flows.options import recipe_of
from pipelines.predict import predict
from pipelines.registry import resolve

RECIPES = ("brain_tumor", "chest_xray", "dashcam_lanes", "dashcam_obstacles", "road_scene")


def evil(marker: Path) -> str:
    """YAML that makes a file where a loader believes its tags."""
    return f"!!python/object/apply:os.mknod ['{marker}']"


def named_files(scan) -> set[Path]:
    """Every file that a scan would have read."""
    images = {path for one in scan.candidates for part in one.images.values() for path in
              (part if isinstance(part, list | tuple) else [part])}  # fmt: skip
    return images | {one.label for one in scan.candidates if isinstance(one.label, Path)}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the source with an image and a table that must not be read."""
    write_archive(tmp_path / "outside", patients=2)
    return tmp_path / "outside"


@pytest.mark.parametrize("name", RECIPES)
def test_dataset_yaml__a_python_tag_is_an_error_and_not_run(tmp_path, name):
    domain, recipe = find_recipe(name)
    marker = tmp_path / "run"
    (tmp_path / "dataset.yaml").write_text(f"licence: {evil(marker)}\n")
    with pytest.raises(UsageError, match=r"dataset\.yaml is not YAML"):
        domain.scan(tmp_path, recipe)
    assert not marker.exists()
    yaml.unsafe_load(evil(marker))  # the same text does harm where it is believed
    assert marker.exists()


def test_recipes__a_python_tag_is_an_error_and_not_run(tmp_path):
    marker, file = tmp_path / "run", tmp_path / "recipe.yaml"
    file.write_text(f"seed: {evil(marker)}\n")
    with pytest.raises(UsageError, match="is not YAML"):
        recipe_of("brain_tumor", None, file)
    with pytest.raises(RecipeError, match="'seed'"):
        recipe_of("brain_tumor", [f"seed={evil(marker)}"])
    assert not marker.exists()


@pytest.mark.parametrize(
    "name", ["../../elsewhere", "/etc/passwd", "..", "a/b", "<script>", "", "a\n", ".hidden", "a b"]
)
def test_recipe__a_name_cannot_lead_out_of_the_home(name):
    _, recipe = find_recipe("brain_tumor")
    with pytest.raises(RecipeError, match="'name'"):
        recipe_from(recipe.model_dump(mode="json") | {"name": name})


@pytest.mark.parametrize("key, value", [("domain", "os"), ("domain", "../medical"), ("domain", "medical.recipes")])
def test_recipe__names_no_module_of_its_own(key, value):
    _, recipe = find_recipe("brain_tumor")
    with pytest.raises(SelfsightError):
        recipe_from(recipe.model_dump(mode="json") | {key: value})


@pytest.mark.parametrize("way", ["relative", "absolute", "linked folder"])
def test_xray_table__a_row_cannot_name_a_file_outside(tmp_path, outside, way):
    domain, recipe = find_recipe("chest_xray")
    source = tmp_path / "source"
    rows = write_archive(source, patients=4)
    target = next((outside / "images").glob("*.png")).rename(outside / "images" / "stranger.png")
    names = {"relative": f"../outside/images/{target.name}", "absolute": str(target), "linked folder": target.name}
    if way == "linked folder":
        (source / "linked").symlink_to(outside / "images")
    write_rows(source, [*rows, rows[0] | {"image": names[way], "patient_id": "stranger"}])
    scan = domain.scan(source, recipe)
    assert len(scan.candidates) == len(rows)
    assert all(path.resolve().is_relative_to(source.resolve()) for path in named_files(scan))
    assert "stranger" not in {candidate.group for candidate in scan.candidates}


@pytest.mark.parametrize(
    "pattern", ["../outside/images/{subject}.png", "/{subject}.png", "**/../../outside/{subject}.png"]
)
def test_dataset_yaml__a_pattern_cannot_name_a_file_outside(tmp_path, pattern):
    source = tmp_path / "source"
    for place, name in ((source / "flair", "a"), (source / "flair", "b"), (tmp_path / "outside", "secret")):
        write_nifti(place / f"{name}.nii.gz", seed=1)
    domain, recipe = find_recipe("brain_tumor")
    for asked in ("flair/{subject}.nii.gz", pattern):
        (source / "dataset.yaml").write_text(yaml.safe_dump({"images": {"flair": asked}}))
        found = {path.name for path in named_files(domain.scan(source, recipe))}
        assert found == ({"a.nii.gz", "b.nii.gz"} if asked != pattern else set())


@pytest.mark.parametrize("lead", ["../outside/", "/"])
def test_coco__a_file_name_cannot_lead_outside(tmp_path, lead):
    domain, recipe = find_recipe("dashcam_obstacles")
    assert domain.generate is not None
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    picture = next((write_archive(tmp_path / "made", 2) and (tmp_path / "made" / "images")).glob("*.png"))
    for at in (source / "images" / "seen.png", tmp_path / "outside" / "secret.png"):
        shutil.copy(picture, at)
    names = ["images/seen.png", f"{tmp_path}/outside/secret.png" if lead == "/" else f"{lead}secret.png"]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 9, 9]} for n in range(2)]
    coco = {"images": [{"id": n, "file_name": name, "width": 128, "height": 128} for n, name in enumerate(names)],
            "annotations": boxes, "categories": [{"id": 1, "name": "car"}]}  # fmt: skip
    (source / "boxes.json").write_text(json.dumps(coco))
    found = named_files(domain.scan(source, recipe))
    assert found and not [path for path in found if "secret" in path.name]


@pytest.mark.parametrize(
    "reference", ["models:/../../etc/passwd", "models:/../x@champion", "models://etc", "../../etc"]
)
def test_resolve__a_reference_leads_to_a_registered_model_or_nowhere(tmp_path, reference):
    with pytest.raises(UsageError):
        resolve(tmp_path / "home", reference)


def test_predict__a_model_folder_with_a_hostile_recipe_is_refused(tmp_path):
    _, recipe = find_recipe("brain_tumor")
    (tmp_path / "model").mkdir()
    values = recipe.model_dump(mode="json") | {"name": "../../elsewhere"}
    (tmp_path / "model" / "model.json").write_text(json.dumps({"format": 1, "kind": "model", "recipe": values}))
    with pytest.raises(SelfsightError):
        predict(tmp_path / "model", [tmp_path], tmp_path / "out", tmp_path / "home")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == ["model"]


def test_network__a_fast_test_that_calls_out_fails():
    with pytest.raises(AssertionError, match="network"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        socket.create_connection(listening.getsockname(), timeout=1).close()
