"""Attention within documents of packed rows, with T5's bias by distance and dropout, in Triton: the forward pass.

FlashAttention-2's scheme (Dao 2023, arXiv 2307.08691), one program a (block of rows, head); a list says which block of
which document (`attention_ops.row_blocks`). What is added:

Masks. Only the last tile of a document and the tiles on the diagonal of causal attention are masked; the tiles between
compare nothing.

Bias. It depends on key - query position alone and is constant beyond a reach, so tiles far from the diagonal add one
number, and near ones load a tile made beforehand (`attention_ops.bias_tiles`), chosen by blocks from the diagonal.

Dropout. A score is kept by the product of a random number of its row (and head and layer) and a random odd number of its
column: multiply-shift hashing (Dietzfelbinger et al. 1997), one multiplication a score, whose results are independent
in pairs. The backward pass computes it again.

Scores are kept in base 2 (times log2 e), because the hardware's exponential is; their scale, which is positive, is
multiplied in where the maximum is subtracted.
"""

# mypy: disable-error-code="no-untyped-def"
import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
NONE, FAR, NEAR = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)  # how a tile gets its bias
LOWEST = tl.constexpr(-1.0e30)  # a score that is never kept; finite, so that no row becomes NaN


@triton.jit
def hashed(x):
    """lowbias32 of Wellons (2018)."""
    x = x.to(tl.uint32)
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def row_numbers(rows, head, SEEDS, site):
    """One a row of the pack, which names the document too."""
    return hashed(rows.to(tl.uint32) + hashed(tl.load(SEEDS + site).to(tl.uint32) + head.to(tl.uint32) * 0x9E3779B1))


@triton.jit
def kept(numbers_of_rows, numbers_of_columns, threshold):
    return (numbers_of_rows * numbers_of_columns).to(tl.int32) >= threshold


@triton.jit
def block_of(BLOCKS, Q_OFFSETS, K_OFFSETS):
    """Document (-1: none), first row of the block in it, and where its queries and keys start and how many they are."""
    document = tl.load(BLOCKS + 2 * tl.program_id(0))
    first = tl.load(BLOCKS + 2 * tl.program_id(0) + 1)
    at = tl.maximum(document, 0)
    q_start, k_start = tl.load(Q_OFFSETS + at), tl.load(K_OFFSETS + at)
    q_length, k_length = tl.load(Q_OFFSETS + at + 1) - q_start, tl.load(K_OFFSETS + at + 1) - k_start
    return document, first, q_start, q_length, k_start, k_length


@triton.jit
def near_range(first, length, WIDE: tl.constexpr, SIZE: tl.constexpr):
    """Where tiles with a bias of their own begin and end, for the block of the other side that starts at `first`."""
    start = tl.minimum(tl.maximum(first - (WIDE - 1) * SIZE, 0), length)
    stop = tl.minimum(first + WIDE * SIZE, length)
    return start, tl.maximum(start, stop)


@triton.jit
def _tiles(
    acc, total, top, q, numbers, K, V, NUMBERS, TILES, start, stop, m0, k_length, rows, inner, dims, stride_k, stride_v,
    scale2, far_bias, threshold, BIAS: tl.constexpr, MASKED: tl.constexpr, CAUSAL: tl.constexpr, DROPOUT: tl.constexpr,
    WIDE: tl.constexpr, SIZE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    for n0 in range(start, stop, SIZE):
        columns = n0 + inner
        if MASKED:
            there = columns < k_length
            k = tl.load(K + columns[None, :] * stride_k + dims[:, None], mask=there[None, :], other=0.0)
            v = tl.load(V + columns[:, None] * stride_v + dims[None, :], mask=there[:, None], other=0.0)
        else:
            k = tl.load(K + columns[None, :] * stride_k + dims[:, None])
            v = tl.load(V + columns[:, None] * stride_v + dims[None, :])
        s = tl.dot(q, k, input_precision=PRECISION)
        if DROPOUT:  # while the product is under way, which also needs fewer registers
            number = tl.load(NUMBERS + columns).to(tl.uint32)
            stay = kept(numbers[:, None], number[None, :], threshold)
        if BIAS == NEAR:
            tile = TILES + ((n0 - m0) // SIZE + WIDE - 1) * SIZE * SIZE + inner[:, None] * SIZE + inner[None, :]
            s = s * scale2 + tl.load(tile)
        if MASKED:
            seen = there[None, :]
            if CAUSAL:
                seen = seen & (columns[None, :] <= rows[:, None])
            s = tl.where(seen, s, LOWEST)
        if BIAS == NEAR:
            new_top = tl.maximum(top, tl.max(s, 1))
            p = tl.math.exp2(s - new_top[:, None])
        else:
            new_top = tl.maximum(top, tl.max(s, 1) * scale2 + far_bias)
            p = tl.math.exp2(s * scale2 - (new_top - far_bias)[:, None])
        shrink = tl.math.exp2(top - new_top)
        total = total * shrink + tl.sum(p, 1)
        if DROPOUT:
            p = tl.where(stay, p, 0.0)
        acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None], input_precision=PRECISION)
        top = new_top
    return acc, total, top


@triton.jit(do_not_specialize=["site", "threshold"])
def forward_kernel(
    Q, K, V, BIAS_VECTOR, TILES, OUT, LSE, BLOCKS, Q_OFFSETS, K_OFFSETS, SEEDS, NUMBERS, site, stride_q, head_q,
    stride_k, head_k, stride_v, head_v, stride_o, head_o, q_rows, scale, threshold, grow, BIASED: tl.constexpr,
    CAUSAL: tl.constexpr, DROPOUT: tl.constexpr, REACH: tl.constexpr, WIDE: tl.constexpr, WIDTH: tl.constexpr,
    SIZE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    document, m0, q_start, q_length, k_start, k_length = block_of(BLOCKS, Q_OFFSETS, K_OFFSETS)
    if document < 0:
        return
    inner, dims = tl.arange(0, SIZE), tl.arange(0, WIDTH)
    rows = m0 + inner
    there = rows < q_length
    at = (q_start + rows)[:, None] * stride_q + head * head_q + dims[None, :]
    q = tl.load(Q + at, mask=there[:, None], other=0.0)
    K += k_start * stride_k + head * head_k
    V += k_start * stride_v + head * head_v
    acc = tl.zeros([SIZE, WIDTH], tl.float32)
    total = tl.zeros([SIZE], tl.float32)
    top = tl.full([SIZE], LOWEST, tl.float32)
    scale2 = scale * LOG2E
    numbers = tl.zeros([SIZE], tl.uint32)
    if DROPOUT:
        numbers = row_numbers(q_start + rows, head, SEEDS, site)
    stop = k_length
    if CAUSAL:
        stop = tl.minimum(k_length, m0 + SIZE)
    whole = k_length // SIZE * SIZE
    if BIASED:
        BIAS_VECTOR += head * (2 * REACH + 1)
        TILES += head * (2 * WIDE - 1) * SIZE * SIZE
        near_start, near_stop = near_range(m0, stop, WIDE, SIZE)
        before, after = tl.load(BIAS_VECTOR) * LOG2E, tl.load(BIAS_VECTOR + 2 * REACH) * LOG2E
        acc, total, top = _tiles(
            acc, total, top, q, numbers, K, V, NUMBERS, TILES, 0, near_start, m0, k_length, rows, inner, dims, stride_k,
            stride_v, scale2, before, threshold, FAR, False, False, DROPOUT, WIDE, SIZE, PRECISION,
        )  # fmt: skip
        acc, total, top = _tiles(
            acc, total, top, q, numbers, K, V, NUMBERS, TILES, near_start, near_stop, m0, k_length, rows, inner, dims,
            stride_k, stride_v, scale2, 0.0, threshold, NEAR, True, CAUSAL, DROPOUT, WIDE, SIZE, PRECISION,
        )  # fmt: skip
        if not CAUSAL:
            far_stop = tl.maximum(near_stop, whole)
            acc, total, top = _tiles(
                acc, total, top, q, numbers, K, V, NUMBERS, TILES, near_stop, far_stop, m0, k_length, rows, inner, dims,
                stride_k, stride_v, scale2, after, threshold, FAR, False, False, DROPOUT, WIDE, SIZE, PRECISION,
            )  # fmt: skip
            acc, total, top = _tiles(
                acc, total, top, q, numbers, K, V, NUMBERS, TILES, far_stop, stop, m0, k_length, rows, inner, dims,
                stride_k, stride_v, scale2, after, threshold, FAR, True, False, DROPOUT, WIDE, SIZE, PRECISION,
            )  # fmt: skip
    else:
        plain_stop = whole
        if CAUSAL:
            plain_stop = m0
        acc, total, top = _tiles(
            acc, total, top, q, numbers, K, V, NUMBERS, TILES, 0, plain_stop, m0, k_length, rows, inner, dims, stride_k,
            stride_v, scale2, 0.0, threshold, NONE, False, False, DROPOUT, WIDE, SIZE, PRECISION,
        )  # fmt: skip
        acc, total, top = _tiles(
            acc, total, top, q, numbers, K, V, NUMBERS, TILES, plain_stop, stop, m0, k_length, rows, inner, dims,
            stride_k, stride_v, scale2, 0.0, threshold, NONE, True, CAUSAL, DROPOUT, WIDE, SIZE, PRECISION,
        )  # fmt: skip
    total = tl.where(total > 0, total, 1.0)  # a document without keys gives zeros
    out = acc * (grow / total)[:, None]
    OUT += (q_start + rows)[:, None] * stride_o + head * head_o + dims[None, :]
    tl.store(OUT, out.to(OUT.dtype.element_ty), mask=there[:, None])
    tl.store(LSE + head * q_rows + q_start + rows, top + tl.math.log2(total), mask=there)
