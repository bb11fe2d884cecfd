"""The loops over single weights, compiled for this processor, on chunks that stay in its cache."""

from maet_core.kernels import start  # noqa: F401  # isort: skip  (before numba loads a loop)
from maet_core.kernels.bf16 import (
    compare_bf16,
    merge_bf16,
    merge_limited_bf16,
    narrow_bf16,
    widen_bf16,
)
from maet_core.kernels.bits import addresses_of
from maet_core.kernels.changes import change_bf16, changes_near, minus_base_bf16
from maet_core.kernels.kept import merge_kept
from maet_core.kernels.places import merge_columns_bf16, merge_positions_bf16, merge_rows_bf16
from maet_core.kernels.products import gram_bf16
from maet_core.kernels.single import (
    FEW,
    above_and_inside,
    add_difference,
    add_difference_masked,
    add_weights,
    add_weights_masked,
    all_finite,
    count_beginnings,
    elect,
    finish,
    inner_product,
    largest,
    row_ranks,
    uniform,
)

# The base, one model and a sum of this many float32 fit the second-level cache; smaller chunks would spend more on calls than they save.
CHUNK_ELEMENTS = 1 << 17
# What a thread takes in one go where a single loop goes through it: each range has its costs beside the loop.
RANGE_ELEMENTS = 4 * CHUNK_ELEMENTS

__all__ = [
    "CHUNK_ELEMENTS",
    "FEW",
    "RANGE_ELEMENTS",
    "above_and_inside",
    "add_difference",
    "add_difference_masked",
    "add_weights",
    "add_weights_masked",
    "addresses_of",
    "all_finite",
    "change_bf16",
    "changes_near",
    "compare_bf16",
    "count_beginnings",
    "elect",
    "finish",
    "gram_bf16",
    "inner_product",
    "largest",
    "merge_bf16",
    "merge_columns_bf16",
    "merge_kept",
    "merge_limited_bf16",
    "merge_positions_bf16",
    "merge_rows_bf16",
    "minus_base_bf16",
    "narrow_bf16",
    "row_ranks",
    "uniform",
    "widen_bf16",
]
