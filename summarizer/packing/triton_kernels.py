"""Attention within documents of packed rows, with T5's bias by distance, its gradient, and dropout, in Triton.

FlashAttention-2's scheme (Dao 2023, arXiv 2307.08691), one program a (block of rows, head, document). What is added:

Bias. It depends on key - query position alone and is constant beyond a reach, so tiles far from the diagonal add one
number, and near ones load a tile made beforehand (`attention_ops.bias_tiles`), chosen by blocks from the diagonal.

Gradient of the bias. A far tile adds one sum. A near tile is skewed by a gather along its rows, so that each diagonal
becomes a column (two, where it wraps), and column sums are added to the distances' numbers; copies of the vector keep
the atomic additions apart. Their order is not fixed: the last bits of this one gradient vary from run to run.

Dropout. Keep or drop is a hash of (seed, head, document, row, column): the backward pass computes it again.

Scores are kept in base 2 (times log2 e), because the hardware's exponential is.
"""

# mypy: disable-error-code="no-untyped-def"
import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
NONE, FAR, NEAR = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)  # how a tile gets its bias
LOWEST = tl.constexpr(-1.0e30)  # a score that is never kept; finite, so that no row becomes NaN


@triton.jit
def _hashed(x):
    x = x.to(tl.uint32)
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def _program_seed(SEEDS, site, head, document):
    seed = tl.load(SEEDS + site).to(tl.uint32)
    return _hashed(_hashed(seed + head.to(tl.uint32) * 0x9E3779B1) + document.to(tl.uint32) * 0x85EBCA77)


@triton.jit
def _row_numbers(rows, seed):
    return _hashed(rows.to(tl.uint32) * 0xC2B2AE3D + seed)


@triton.jit
def _kept(row_numbers, columns, threshold):
    """One multiplication a score: the rows' numbers are mixed already."""
    h = row_numbers + columns.to(tl.uint32) * 0x9E3779B1
    h = (h ^ (h >> 15)) * 0x7FEB352D
    return (h >> 1).to(tl.int32) >= threshold


@triton.jit
def _scores(q, k_transposed, scale2, tile, far_bias, BIAS: tl.constexpr, PRECISION: tl.constexpr):
    s = tl.dot(q, k_transposed, input_precision=PRECISION) * scale2
    if BIAS == NEAR:
        s += tl.load(tile)
    if BIAS == FAR:
        s += far_bias
    return s


@triton.jit
def _near_range(block, length, WIDE: tl.constexpr, SIZE: tl.constexpr):
    """Where tiles with a bias of their own begin and end, for a block of the other side."""
    start = tl.minimum(tl.maximum(block - (WIDE - 1), 0) * SIZE, length)
    stop = tl.minimum((block + WIDE) * SIZE, length)
    return start, tl.maximum(start, stop)


@triton.jit
def _forward_tiles(
    acc, total, top, q, row_numbers, K, V, TILES, start, stop, m0, k_length, rows, inner, dims, stride_k, stride_v,
    scale2, far_bias, threshold, BIAS: tl.constexpr, CAUSAL: tl.constexpr, DROPOUT: tl.constexpr, WIDE: tl.constexpr,
    SIZE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    for n0 in range(start, stop, SIZE):
        columns = n0 + inner
        there = columns < k_length
        k = tl.load(K + columns[None, :] * stride_k + dims[:, None], mask=there[None, :], other=0.0)
        tile = TILES + ((n0 - m0) // SIZE + WIDE - 1) * SIZE * SIZE + inner[:, None] * SIZE + inner[None, :]
        s = _scores(q, k, scale2, tile, far_bias, BIAS, PRECISION)
        seen = there[None, :]
        if CAUSAL:
            seen = seen & (columns[None, :] <= rows[:, None])
        s = tl.where(seen, s, LOWEST)
        new_top = tl.maximum(top, tl.max(s, 1))
        p = tl.math.exp2(s - new_top[:, None])
        shrink = tl.math.exp2(top - new_top)
        total = total * shrink + tl.sum(p, 1)
        if DROPOUT:
            p = tl.where(_kept(row_numbers[:, None], columns[None, :], threshold), p, 0.0)
        v = tl.load(V + columns[:, None] * stride_v + dims[None, :], mask=there[:, None], other=0.0)
        acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None], input_precision=PRECISION)
        top = new_top
    return acc, total, top


@triton.jit(do_not_specialize=["site", "threshold"])
def _forward_kernel(
    Q, K, V, BIAS_VECTOR, TILES, OUT, LSE, Q_OFFSETS, K_OFFSETS, SEEDS, site, stride_q, head_q, stride_k, head_k,
    stride_v, head_v,
    stride_o, head_o, q_rows, scale, threshold, grow, BIASED: tl.constexpr, CAUSAL: tl.constexpr, DROPOUT: tl.constexpr,
    REACH: tl.constexpr, WIDE: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    block, head, document = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    q_start = tl.load(Q_OFFSETS + document)
    q_length = tl.load(Q_OFFSETS + document + 1) - q_start
    m0 = block * SIZE
    if m0 >= q_length:
        return
    k_start = tl.load(K_OFFSETS + document)
    k_length = tl.load(K_OFFSETS + document + 1) - k_start
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
    row_numbers = tl.zeros([SIZE], tl.uint32)
    if DROPOUT:
        row_numbers = _row_numbers(rows, _program_seed(SEEDS, site, head, document))
    stop = k_length
    if CAUSAL:
        stop = tl.minimum(k_length, m0 + SIZE)
    if BIASED:
        BIAS_VECTOR += head * (2 * REACH + 1)
        TILES += head * (2 * WIDE - 1) * SIZE * SIZE
        near_start, near_stop = _near_range(block, stop, WIDE, SIZE)
        before, after = tl.load(BIAS_VECTOR) * LOG2E, tl.load(BIAS_VECTOR + 2 * REACH) * LOG2E
        acc, total, top = _forward_tiles(
            acc, total, top, q, row_numbers, K, V, TILES, 0, near_start, m0, k_length, rows, inner, dims, stride_k,
            stride_v, scale2, before, threshold, FAR, CAUSAL, DROPOUT, WIDE, SIZE, PRECISION,
        )  # fmt: skip
        acc, total, top = _forward_tiles(
            acc, total, top, q, row_numbers, K, V, TILES, near_start, near_stop, m0, k_length, rows, inner, dims,
            stride_k, stride_v, scale2, 0.0, threshold, NEAR, CAUSAL, DROPOUT, WIDE, SIZE, PRECISION,
        )  # fmt: skip
        if not CAUSAL:
            acc, total, top = _forward_tiles(
                acc, total, top, q, row_numbers, K, V, TILES, near_stop, stop, m0, k_length, rows, inner, dims,
                stride_k, stride_v, scale2, after, threshold, FAR, CAUSAL, DROPOUT, WIDE, SIZE, PRECISION,
            )  # fmt: skip
    else:
        acc, total, top = _forward_tiles(
            acc, total, top, q, row_numbers, K, V, TILES, 0, stop, m0, k_length, rows, inner, dims, stride_k,
            stride_v, scale2, 0.0, threshold, NONE, CAUSAL, DROPOUT, WIDE, SIZE, PRECISION,
        )  # fmt: skip
    total = tl.where(total > 0, total, 1.0)  # a document without keys gives zeros
    out = acc * (grow / total)[:, None]
    OUT += (q_start + rows)[:, None] * stride_o + head * head_o + dims[None, :]
    tl.store(OUT, out.to(OUT.dtype.element_ty), mask=there[:, None])
    tl.store(LSE + head * q_rows + q_start + rows, top + tl.math.log2(total), mask=there)


@triton.jit
def _delta_kernel(OUT, GRADIENT, DELTA, q_rows, HEADS: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr):
    """Row sums of output times gradient, which the softmax's gradient subtracts."""
    rows, head, dims = tl.program_id(0) * SIZE + tl.arange(0, SIZE), tl.program_id(1), tl.arange(0, WIDTH)
    there = rows < q_rows
    at = (rows[:, None] * HEADS + head) * WIDTH + dims[None, :]
    out = tl.load(OUT + at, mask=there[:, None], other=0.0).to(tl.float32)
    gradient = tl.load(GRADIENT + at, mask=there[:, None], other=0.0).to(tl.float32)
    tl.store(DELTA + head * q_rows + rows, tl.sum(out * gradient, 1), mask=there)


@triton.jit
def _key_tiles(
    dk, dv, k, v, columns, there_k, Q, GRADIENT, LSE, DELTA, TILES, seed, start, stop, n0, q_length, inner, dims,
    stride_q, stride_o,
    scale2, far_bias, threshold, grow, BIAS: tl.constexpr, CAUSAL: tl.constexpr, DROPOUT: tl.constexpr,
    WIDE: tl.constexpr, SIZE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    for m0 in range(start, stop, SIZE):
        rows = m0 + inner
        there = rows < q_length
        q_transposed = tl.load(Q + rows[None, :] * stride_q + dims[:, None], mask=there[None, :], other=0.0)
        lse = tl.load(LSE + rows, mask=there, other=0.0)
        delta = tl.load(DELTA + rows, mask=there, other=0.0)
        tile = TILES + ((n0 - m0) // SIZE + WIDE - 1) * SIZE * SIZE + inner[:, None] * SIZE + inner[None, :]
        s = _scores(k, q_transposed, scale2, tile, far_bias, BIAS, PRECISION)
        seen = there_k[:, None] & there[None, :]
        if CAUSAL:
            seen = seen & (columns[:, None] <= rows[None, :])
        p = tl.where(seen, tl.math.exp2(s - lse[None, :]), 0.0)
        gradient = tl.load(GRADIENT + rows[:, None] * stride_o + dims[None, :], mask=there[:, None], other=0.0)
        dp = tl.dot(v, tl.trans(gradient), input_precision=PRECISION)
        used = p
        if DROPOUT:
            kept = _kept(_row_numbers(rows, seed)[None, :], columns[:, None], threshold)
            used = tl.where(kept, p * grow, 0.0)
            dp = tl.where(kept, dp * grow, 0.0)
        dv = tl.dot(used.to(gradient.dtype), gradient, dv, input_precision=PRECISION)
        ds = p * (dp - delta[None, :])
        dk = tl.dot(ds.to(q_transposed.dtype), tl.trans(q_transposed), dk, input_precision=PRECISION)
    return dk, dv


@triton.jit(do_not_specialize=["site", "threshold"])
def _key_kernel(
    Q, K, V, BIAS_VECTOR, TILES, GRADIENT, DK, DV, LSE, DELTA, Q_OFFSETS, K_OFFSETS, SEEDS, site, stride_q, head_q,
    stride_k, head_k,
    stride_v, head_v, stride_o, head_o, stride_d, head_d, q_rows, scale, threshold, grow, BIASED: tl.constexpr,
    CAUSAL: tl.constexpr, DROPOUT: tl.constexpr, REACH: tl.constexpr, WIDE: tl.constexpr, WIDTH: tl.constexpr,
    SIZE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of one block of keys and values; TILES here are transposed: by key row and query column."""
    block, head, document = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    k_start = tl.load(K_OFFSETS + document)
    k_length = tl.load(K_OFFSETS + document + 1) - k_start
    n0 = block * SIZE
    if n0 >= k_length:
        return
    q_start = tl.load(Q_OFFSETS + document)
    q_length = tl.load(Q_OFFSETS + document + 1) - q_start
    inner, dims = tl.arange(0, SIZE), tl.arange(0, WIDTH)
    columns = n0 + inner
    there_k = columns < k_length
    at = (k_start + columns)[:, None] * stride_k + head * head_k + dims[None, :]
    k = tl.load(K + at, mask=there_k[:, None], other=0.0)
    at = (k_start + columns)[:, None] * stride_v + head * head_v + dims[None, :]
    v = tl.load(V + at, mask=there_k[:, None], other=0.0)
    Q += q_start * stride_q + head * head_q
    GRADIENT += q_start * stride_o + head * head_o
    LSE += head * q_rows + q_start
    DELTA += head * q_rows + q_start
    dk = tl.zeros([SIZE, WIDTH], tl.float32)
    dv = tl.zeros([SIZE, WIDTH], tl.float32)
    scale2 = scale * LOG2E
    seed = head.to(tl.uint32)
    if DROPOUT:
        seed = _program_seed(SEEDS, site, head, document)
    start = 0
    if CAUSAL:
        start = tl.minimum(n0, q_length)
    if BIASED:
        BIAS_VECTOR += head * (2 * REACH + 1)
        TILES += head * (2 * WIDE - 1) * SIZE * SIZE
        near_start, near_stop = _near_range(block, q_length, WIDE, SIZE)
        if CAUSAL:
            near_start = start
            near_stop = tl.maximum(near_stop, start)
        before, after = tl.load(BIAS_VECTOR) * LOG2E, tl.load(BIAS_VECTOR + 2 * REACH) * LOG2E
        if not CAUSAL:  # queries far before these keys
            dk, dv = _key_tiles(
                dk, dv, k, v, columns, there_k, Q, GRADIENT, LSE, DELTA, TILES, seed, 0, near_start, n0, q_length,
                inner, dims,
                stride_q, stride_o, scale2, after, threshold, grow, FAR, CAUSAL, DROPOUT, WIDE, SIZE, PRECISION,
            )  # fmt: skip
        dk, dv = _key_tiles(
            dk, dv, k, v, columns, there_k, Q, GRADIENT, LSE, DELTA, TILES, seed, near_start, near_stop, n0, q_length,
            inner, dims, stride_q, stride_o, scale2, 0.0, threshold, grow, NEAR, CAUSAL, DROPOUT, WIDE, SIZE, PRECISION,
        )  # fmt: skip
        dk, dv = _key_tiles(
            dk, dv, k, v, columns, there_k, Q, GRADIENT, LSE, DELTA, TILES, seed, near_stop, q_length, n0, q_length,
            inner, dims,
            stride_q, stride_o, scale2, before, threshold, grow, FAR, CAUSAL, DROPOUT, WIDE, SIZE, PRECISION,
        )  # fmt: skip
    else:
        dk, dv = _key_tiles(
            dk, dv, k, v, columns, there_k, Q, GRADIENT, LSE, DELTA, TILES, seed, start, q_length, n0, q_length,
            inner, dims, stride_q, stride_o, scale2, 0.0, threshold, grow, NONE, CAUSAL, DROPOUT, WIDE, SIZE, PRECISION,
        )  # fmt: skip
    at = (k_start + columns)[:, None] * stride_d + head * head_d + dims[None, :]
    tl.store(DK + at, (dk * scale).to(DK.dtype.element_ty), mask=there_k[:, None])
    tl.store(DV + at, dv.to(DV.dtype.element_ty), mask=there_k[:, None])


@triton.jit
def _add_diagonals(ds, DBIAS, from_diagonal, inner, REACH: tl.constexpr, SIZE: tl.constexpr):
    """Add a tile's sums along its diagonals to the gradient of their distances."""
    to = inner[:, None] + inner[None, :]  # row i, column c takes element (c + i) mod SIZE: a diagonal or two a column
    skewed = tl.gather(ds, to % SIZE, 1)
    whole = tl.sum(tl.where(to < SIZE, skewed, 0.0), 0)
    wrapped = tl.sum(tl.where(to >= SIZE, skewed, 0.0), 0)
    distance = from_diagonal + inner
    tl.atomic_add(DBIAS + tl.minimum(tl.maximum(distance, -REACH), REACH) + REACH, whole, sem="relaxed")
    distance -= SIZE
    tl.atomic_add(DBIAS + tl.minimum(tl.maximum(distance, -REACH), REACH) + REACH, wrapped, sem="relaxed")


@triton.jit
def _query_tiles(
    dq, far_sum, q, gradient, lse, delta, row_numbers, there_q, K, V, TILES, DBIAS, start, stop, m0, k_length, rows,
    inner, dims, stride_k, stride_v, scale2, far_bias, threshold, grow, BIAS: tl.constexpr, LEARN: tl.constexpr,
    CAUSAL: tl.constexpr,
    DROPOUT: tl.constexpr, REACH: tl.constexpr, WIDE: tl.constexpr, SIZE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    for n0 in range(start, stop, SIZE):
        columns = n0 + inner
        there = columns < k_length
        k_transposed = tl.load(K + columns[None, :] * stride_k + dims[:, None], mask=there[None, :], other=0.0)
        v_transposed = tl.load(V + columns[None, :] * stride_v + dims[:, None], mask=there[None, :], other=0.0)
        tile = TILES + ((n0 - m0) // SIZE + WIDE - 1) * SIZE * SIZE + inner[:, None] * SIZE + inner[None, :]
        s = _scores(q, k_transposed, scale2, tile, far_bias, BIAS, PRECISION)
        seen = there[None, :] & there_q[:, None]
        if CAUSAL:
            seen = seen & (columns[None, :] <= rows[:, None])
        p = tl.where(seen, tl.math.exp2(s - lse[:, None]), 0.0)
        dp = tl.dot(gradient, v_transposed, input_precision=PRECISION)
        if DROPOUT:
            dp = tl.where(_kept(row_numbers[:, None], columns[None, :], threshold), dp * grow, 0.0)
        ds = p * (dp - delta[:, None])
        if LEARN:
            if BIAS == NEAR:
                _add_diagonals(ds, DBIAS, n0 - m0, inner, REACH, SIZE)
            else:
                far_sum += tl.sum(ds, 1)
        dq = tl.dot(ds.to(k_transposed.dtype), tl.trans(k_transposed), dq, input_precision=PRECISION)
    return dq, far_sum


@triton.jit(do_not_specialize=["site", "threshold"])
def _query_kernel(
    Q, K, V, BIAS_VECTOR, TILES, GRADIENT, DQ, DBIAS, LSE, DELTA, Q_OFFSETS, K_OFFSETS, SEEDS, site, stride_q, head_q,
    stride_k,
    head_k, stride_v, head_v, stride_o, head_o, stride_d, head_d, q_rows, scale, threshold, grow, BIASED: tl.constexpr,
    LEARN: tl.constexpr, CAUSAL: tl.constexpr, DROPOUT: tl.constexpr, REACH: tl.constexpr, WIDE: tl.constexpr,
    WIDTH: tl.constexpr, SIZE: tl.constexpr, PRECISION: tl.constexpr, NUM_COPIES: tl.constexpr,
):  # fmt: skip
    """Gradients of one block of queries, and its share of the bias's."""
    block, head, document = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    q_start = tl.load(Q_OFFSETS + document)
    q_length = tl.load(Q_OFFSETS + document + 1) - q_start
    m0 = block * SIZE
    if m0 >= q_length:
        return
    k_start = tl.load(K_OFFSETS + document)
    k_length = tl.load(K_OFFSETS + document + 1) - k_start
    inner, dims = tl.arange(0, SIZE), tl.arange(0, WIDTH)
    rows = m0 + inner
    there = rows < q_length
    at = (q_start + rows)[:, None] * stride_q + head * head_q + dims[None, :]
    q = tl.load(Q + at, mask=there[:, None], other=0.0)
    at = (q_start + rows)[:, None] * stride_o + head * head_o + dims[None, :]
    gradient = tl.load(GRADIENT + at, mask=there[:, None], other=0.0)
    lse = tl.load(LSE + head * q_rows + q_start + rows, mask=there, other=0.0)
    delta = tl.load(DELTA + head * q_rows + q_start + rows, mask=there, other=0.0)
    K += k_start * stride_k + head * head_k
    V += k_start * stride_v + head * head_v
    dq = tl.zeros([SIZE, WIDTH], tl.float32)
    before_sum = tl.zeros([SIZE], tl.float32)
    after_sum = tl.zeros([SIZE], tl.float32)
    scale2 = scale * LOG2E
    row_numbers = tl.zeros([SIZE], tl.uint32)
    if DROPOUT:
        row_numbers = _row_numbers(rows, _program_seed(SEEDS, site, head, document))
    stop = k_length
    if CAUSAL:
        stop = tl.minimum(k_length, m0 + SIZE)
    if BIASED:
        BIAS_VECTOR += head * (2 * REACH + 1)
        TILES += head * (2 * WIDE - 1) * SIZE * SIZE
        DBIAS += ((document + block) % NUM_COPIES * tl.num_programs(1) + head) * (2 * REACH + 1)
        near_start, near_stop = _near_range(block, stop, WIDE, SIZE)
        before, after = tl.load(BIAS_VECTOR) * LOG2E, tl.load(BIAS_VECTOR + 2 * REACH) * LOG2E
        dq, before_sum = _query_tiles(
            dq, before_sum, q, gradient, lse, delta, row_numbers, there, K, V, TILES, DBIAS, 0, near_start, m0,
            k_length, rows,
            inner, dims, stride_k, stride_v, scale2, before, threshold, grow, FAR, LEARN, CAUSAL, DROPOUT, REACH,
            WIDE, SIZE, PRECISION,
        )  # fmt: skip
        dq, after_sum = _query_tiles(
            dq, after_sum, q, gradient, lse, delta, row_numbers, there, K, V, TILES, DBIAS, near_start, near_stop, m0,
            k_length,
            rows, inner, dims, stride_k, stride_v, scale2, 0.0, threshold, grow, NEAR, LEARN, CAUSAL, DROPOUT, REACH,
            WIDE, SIZE, PRECISION,
        )  # fmt: skip
        if not CAUSAL:
            dq, after_sum = _query_tiles(
                dq, after_sum, q, gradient, lse, delta, row_numbers, there, K, V, TILES, DBIAS, near_stop, stop, m0,
                k_length, rows,
                inner, dims, stride_k, stride_v, scale2, after, threshold, grow, FAR, LEARN, CAUSAL, DROPOUT, REACH,
                WIDE, SIZE, PRECISION,
            )  # fmt: skip
        if LEARN:
            tl.atomic_add(DBIAS, tl.sum(before_sum, 0), sem="relaxed")
            if not CAUSAL:
                tl.atomic_add(DBIAS + 2 * REACH, tl.sum(after_sum, 0), sem="relaxed")
    else:
        dq, before_sum = _query_tiles(
            dq, before_sum, q, gradient, lse, delta, row_numbers, there, K, V, TILES, DBIAS, 0, stop, m0, k_length,
            rows, inner,
            dims, stride_k, stride_v, scale2, 0.0, threshold, grow, NONE, False, CAUSAL, DROPOUT, REACH, WIDE, SIZE,
            PRECISION,
        )  # fmt: skip
    at = (q_start + rows)[:, None] * stride_d + head * head_d + dims[None, :]
    tl.store(DQ + at, (dq * scale).to(DQ.dtype.element_ty), mask=there[:, None])
