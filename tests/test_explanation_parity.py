"""Raw maps in float64 against pytorch-grad-cam and captum, on the same weights."""

import importlib.util

import explanation_parity
import pytest
from test_parity import needs_originals


@pytest.mark.slow
@pytest.mark.parametrize("case", explanation_parity.CASES, ids=lambda case: case.model)
def test_raw_maps_agree_with_other_libraries(case):
    needs_originals()
    absent = [name for name in ("pytorch_grad_cam", "captum", "cv2") if not importlib.util.find_spec(name)]
    if absent:
        pytest.skip(f"{', '.join(absent)} not installed: pip install --no-deps grad-cam captum opencv-python-headless")
    rows = explanation_parity.compare(case)
    assert [row.method for row in rows] == [*explanation_parity.CAMS, "integrated_gradients"]
    assert all(row.difference < 1e-6 and row.num_nonzero > 0 for row in rows), rows
