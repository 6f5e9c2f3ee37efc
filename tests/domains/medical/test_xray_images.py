"""X-ray images: the same grey values from every container, refusals with reasons, one scale in the store."""

import numpy as np
import pytest
from PIL import Image
from xray_files import chest

from domains.domain import Candidate, load
from domains.errors import Refused
from domains.medical import xray_images
from domains.medical.augment import XRAYS, augment_crops, may_mirror, moves_of
from domains.medical.entries import open_entry
from domains.medical.recipes import RECIPES

RECIPE = RECIPES["chest_xray"]
GREY = chest(0, ill=True)


@pytest.fixture
def saved(tmp_path):
    def save(array, name="x.png", **options):
        image = array if isinstance(array, Image.Image) else Image.fromarray(array)
        image.save(tmp_path / name, **options)
        return Candidate(
            "x", "g", {"xray": tmp_path / name}, notes={"facts": {"sex": "F", "age_band": None, "view": "PA"}}
        )

    return save


def test_read__one_digest_in_every_container(saved):
    rgb = np.repeat(GREY[..., None], 3, axis=-1)
    forms = [saved(GREY, "a.png"), saved(rgb, "b.png"), saved(GREY.astype(np.uint16), "c.png"),
             saved(Image.fromarray(GREY).convert("LA"), "d.png")]  # fmt: skip
    assert len({xray_images.read(form, RECIPE).digest for form in forms}) == 1
    other = xray_images.read(saved(chest(1, ill=True), "e.png"), RECIPE)
    assert other.digest != xray_images.read(forms[0], RECIPE).digest


def test_read__sixteen_bit_and_jpeg(saved):
    deep = GREY.astype(np.uint16) * 200
    raw = xray_images.read(saved(deep, "deep.png"), RECIPE)
    assert np.array_equal(raw.pixels, deep) and raw.facts["bits"] == 16
    raw = xray_images.read(saved(np.repeat(GREY[..., None], 3, axis=-1), "c.jpg", quality=80), RECIPE)
    assert np.abs(raw.pixels - GREY).mean() < 6 and raw.facts["bits"] == 8


def colourful(shape=(128, 128)):
    return np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (colourful(), "colour image"),
        (np.full((128, 128), 7, np.uint8), "constant: every pixel is 7"),
        (np.pad(np.full((2, 2), 9, np.uint8), 63), "no contrast"),
        (GREY[:40], "too small"),
        (np.tile(GREY, (1, 3)), "too long"),
    ],
)
def test_read__refused_with_a_reason(saved, array, reason):
    with pytest.raises(Refused, match=reason):
        xray_images.read(saved(array), RECIPE)


def test_read__truncated_and_no_image(saved, tmp_path):
    whole = saved(GREY)
    (tmp_path / "x.png").write_bytes((tmp_path / "x.png").read_bytes()[:3000])
    for content in (None, b"not an image at all", b""):
        if content is not None:
            (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(Refused, match="cannot be decoded") as refusal:
            xray_images.read(whole, RECIPE)
        assert "x.png" not in refusal.value.reason


def written(candidate, folder, recipe=RECIPE):
    domain = load("medical")
    contract = domain.plan([domain.inspect(candidate)], recipe)
    raw = domain.read(candidate, recipe)
    folder.mkdir()
    facts = domain.write(raw, contract, folder)
    return contract, facts


def test_write__scale_size_and_direction(saved, tmp_path):
    marked = GREY.astype(np.float32)
    marked[:, :12] = 250  # the left of the picture: the patient's right
    contract, facts = written(saved(marked.astype(np.uint8)), tmp_path / "entry")
    entry = open_entry(tmp_path / "entry")
    image = entry.read()[0, 0]
    assert contract.rules["kind"] == "xray" and contract.crop_shape == image.shape == (112, 112)
    assert abs(image.mean()) < 0.01 and image.std() == pytest.approx(1, abs=0.01)
    assert image[:, -8:].mean() > image[:, :8].mean() + 1  # canonical: columns grow to the patient's right
    assert facts["view"] == "PA" and "image" not in str(facts)


def test_write__a_scanners_scale_is_gone(saved, tmp_path):
    entries = []
    for name, image in (("a", GREY), ("b", (GREY.astype(np.uint16) * 37 + 900))):
        written(saved(image, f"{name}.png"), tmp_path / name)
        entries.append(open_entry(tmp_path / name).read())
    assert np.abs(entries[0] - entries[1]).max() < 0.02


def test_resized__keeps_the_aspect_and_the_mean_of_areas():
    image = np.kron(np.arange(12, dtype=np.float32).reshape(3, 4), np.ones((40, 40), np.float32))
    small = xray_images.resized(image, 60)
    assert small.shape == (60, 80) and small.mean() == pytest.approx(image.mean(), rel=1e-3)
    fine = np.indices((120, 120)).sum(0) % 2 * 100.0  # a chequerboard is grey from afar
    assert np.abs(xray_images.resized(fine, 30)[2:-2, 2:-2] - 50).max() < 2


def test_augment__any_part_of_the_image_and_never_mirrored(saved, tmp_path):
    import torch

    contract, _ = written(saved(GREY), tmp_path / "entry")
    assert moves_of(contract) == XRAYS and not may_mirror(contract)
    ramp = torch.linspace(-1, 1, 64).expand(200, 1, 64, 64).clone()
    still = XRAYS.__class__(rotation_degrees=0.0, scale=XRAYS.scale, shift=None)
    moved, _, _ = augment_crops(ramp, None, None, torch.arange(200), None, mirror=False, moves=still)
    rising = moved[:, 0, 32, -8:].mean(1) - moved[:, 0, 32, :8].mean(1)
    assert (rising > 0).all()  # left stays left
    from domains.medical.augment import _affine
    from domains.medical.draws import Draws

    matrix = _affine(Draws.of(torch.arange(500), 1), torch.Size((64, 64)), None, False, still)
    corner = matrix[:, 0, 0] + matrix[:, 0, 2].abs()
    assert corner.max() <= 1 + 1e-5 and corner.min() < 0.95  # what is cut out lies inside, and is not always all
    assert (matrix[:, 0, 0] ** 2).min() == pytest.approx(0.5, abs=0.02)


@pytest.mark.real_data
def test_real__every_image_is_taken(real_medical):
    domain, source = load("medical"), real_medical / "chest_xray_nih"
    if not source.is_dir():
        pytest.skip("chest_xray_nih is not there")
    found = domain.scan(source, RECIPE)
    assert len(found.candidates) == 798 and len({c.group for c in found.candidates}) == 546
    assert {c.notes["facts"]["view"] for c in found.candidates} == {"AP", "PA"}
    assert set(found.ignored) == {source / "boxes.csv"}
    assert sum(c.notes["findings"]["pneumonia"] == "1" for c in found.candidates) == 396
    for candidate in found.candidates[::80]:
        assert domain.read(candidate, RECIPE).pixels.shape == (224, 224)
