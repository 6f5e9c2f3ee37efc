"""The decoder without skips: sizes, and that it looks at the coarsest map alone."""

import pytest
import torch

from ssl_models import encoders
from ssl_models.decoders.reconstruction import ReconstructionDecoder
from ssl_models.protocols import Geometry

GEOMETRIES = [
    Geometry((16, 24), ((1, 1), (2, 2), (1, 2)), (4, 8)),
    Geometry((4, 16, 16), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), (2, 8, 8)),
]


@pytest.mark.parametrize(
    ("name", "geometry"), [(n, g) for n in encoders.NAMES for g in GEOMETRIES if encoders.takes(n, g)]
)
def test_forward__full_size_from_the_coarsest_map_alone(name: str, geometry: Geometry) -> None:
    torch.manual_seed(0)
    encoder = encoders.build(name, size="tiny", in_channels=2, geometry=geometry)
    decoder = ReconstructionDecoder(widths=encoder.widths, strides=encoder.strides, out_channels=3)
    features = encoder(torch.randn(2, 2, *geometry.crop_shape))
    painted = decoder(features)
    assert painted.shape == (2, 3, *geometry.crop_shape)
    *skips, coarsest = features
    assert torch.equal(decoder([*(torch.randn_like(skip) for skip in skips), coarsest]), painted)
    assert not torch.allclose(decoder([*skips, coarsest + torch.randn_like(coarsest)]), painted)
