"""Gradients of the attention of `triton_forward`: of keys and values a block of keys, of queries a block of queries.

Gradient of the bias. A far tile adds one sum. A near tile is skewed by a gather along its rows, so that each diagonal
becomes a column (two, where it wraps), and column sums are added to the distances' numbers; copies of the vector keep
the atomic additions apart. Their order is not fixed: the last bits of this one gradient vary from run to run.

Dropout's factor is multiplied in once, at the end: what a score's gradient subtracts is divided by it beforehand. Rows
beyond a document's end have an infinite log-sum, so that their probabilities are 0 and need no mask.
"""

# mypy: disable-error-code="no-untyped-def"
import triton
import triton.language as tl

from summarizer.packing.triton_forward import FAR, LOG2E, NEAR, NONE, block_of, kept, near_range, row_numbers

BEYOND = tl.constexpr(1.0e30)  # a log-sum that leaves no probability


@triton.jit(do_not_specialize=["site"])
def rows_kernel(
    OUT, GRADIENT, DELTA, ROW_NUMBERS, SEEDS, site, q_rows, grow, DROPOUT: tl.constexpr, HEADS: tl.constexpr,
    WIDTH: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """Row sums of output times gradient, which the softmax's gradient subtracts, and the rows' numbers for dropout."""
    rows, head, dims = tl.program_id(0) * SIZE + tl.arange(0, SIZE), tl.program_id(1), tl.arange(0, WIDTH)
    there = rows < q_rows
    at = (rows[:, None] * HEADS + head) * WIDTH + dims[None, :]
    out = tl.load(OUT + at, mask=there[:, None], other=0.0).to(tl.float32)
    gradient = tl.load(GRADIENT + at, mask=there[:, None], other=0.0).to(tl.float32)
    tl.store(DELTA + head * q_rows + rows, tl.sum(out * gradient, 1) / grow, mask=there)
    if DROPOUT:
        numbers = row_numbers(rows, head, SEEDS, site)
        tl.store(ROW_NUMBERS + head * q_rows + rows, numbers.to(tl.int32), mask=there)


@triton.jit
def _key_tiles(
    dk, dv, k, v, columns, number, Q, GRADIENT, LSE, DELTA, ROW_NUMBERS, TILES, start, stop, n0, q_length, inner, dims,
    stride_q, stride_o, scale2, far_bias, threshold, BIAS: tl.constexpr, MASKED: tl.constexpr, CAUSAL: tl.constexpr,
    DROPOUT: tl.constexpr, WIDE: tl.constexpr, SIZE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    for m0 in range(start, stop, SIZE):
        rows = m0 + inner
        if MASKED:
            there = rows < q_length
            q_transposed = tl.load(Q + rows[None, :] * stride_q + dims[:, None], mask=there[None, :], other=0.0)
            gradient = tl.load(GRADIENT + rows[:, None] * stride_o + dims[None, :], mask=there[:, None], other=0.0)
            lse = tl.load(LSE + rows, mask=there, other=BEYOND)
            delta = tl.load(DELTA + rows, mask=there, other=0.0)
        else:
            q_transposed = tl.load(Q + rows[None, :] * stride_q + dims[:, None])
            gradient = tl.load(GRADIENT + rows[:, None] * stride_o + dims[None, :])
            lse = tl.load(LSE + rows)
            delta = tl.load(DELTA + rows)
        s = tl.dot(k, q_transposed, input_precision=PRECISION)
        dp = tl.dot(v, tl.trans(gradient), input_precision=PRECISION)
        if DROPOUT:
            if MASKED:
                of_rows = tl.load(ROW_NUMBERS + rows, mask=there, other=0).to(tl.uint32)
            else:
                of_rows = tl.load(ROW_NUMBERS + rows).to(tl.uint32)
            stay = kept(of_rows[None, :], number[:, None], threshold)
        if BIAS == NEAR:
            tile = TILES + ((n0 - m0) // SIZE + WIDE - 1) * SIZE * SIZE + inner[:, None] * SIZE + inner[None, :]
            p = tl.math.exp2(s * scale2 + tl.load(tile) - lse[None, :])
        else:
            p = tl.math.exp2(s * scale2 - (lse - far_bias)[None, :])
        if CAUSAL:
            p = tl.where(columns[:, None] <= rows[None, :], p, 0.0)
        used = p
        if DROPOUT:
            used = tl.where(stay, p, 0.0)
            dp = tl.where(stay, dp, 0.0)
        dv = tl.dot(used.to(gradient.dtype), gradient, dv, input_precision=PRECISION)
        ds = p * (dp - delta[None, :])
        dk = tl.dot(ds.to(q_transposed.dtype), tl.trans(q_transposed), dk, input_precision=PRECISION)
    return dk, dv


@triton.jit(do_not_specialize=["threshold"])
def key_kernel(
    Q, K, V, BIAS_VECTOR, TILES, GRADIENT, DK, DV, LSE, DELTA, ROW_NUMBERS, BLOCKS, Q_OFFSETS, K_OFFSETS, NUMBERS,
    stride_q, head_q, stride_k, head_k, stride_v, head_v, stride_o, head_o, stride_d, head_d, q_rows, scale, threshold,
    grow, BIASED: tl.constexpr, CAUSAL: tl.constexpr, DROPOUT: tl.constexpr, REACH: tl.constexpr, WIDE: tl.constexpr,
    WIDTH: tl.constexpr, SIZE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of one block of keys and values; TILES here are transposed: by key row and query column."""
    head = tl.program_id(1)
    document, n0, q_start, q_length, k_start, k_length = block_of(BLOCKS, Q_OFFSETS, K_OFFSETS)
    if document < 0:
        return
    inner, dims = tl.arange(0, SIZE), tl.arange(0, WIDTH)
    columns = n0 + inner
    there = columns < k_length
    at = (k_start + columns)[:, None] * stride_k + head * head_k + dims[None, :]
    k = tl.load(K + at, mask=there[:, None], other=0.0)
    at = (k_start + columns)[:, None] * stride_v + head * head_v + dims[None, :]
    v = tl.load(V + at, mask=there[:, None], other=0.0)
    Q += q_start * stride_q + head * head_q
    GRADIENT += q_start * stride_o + head * head_o
    LSE += head * q_rows + q_start
    DELTA += head * q_rows + q_start
    ROW_NUMBERS += head * q_rows + q_start
    dk = tl.zeros([SIZE, WIDTH], tl.float32)
    dv = tl.zeros([SIZE, WIDTH], tl.float32)
    scale2 = scale * LOG2E
    number = tl.zeros([SIZE], tl.uint32)
    if DROPOUT:
        number = tl.load(NUMBERS + columns).to(tl.uint32)
    whole = q_length // SIZE * SIZE
    if BIASED:
        BIAS_VECTOR += head * (2 * REACH + 1)
        TILES += head * (2 * WIDE - 1) * SIZE * SIZE
        near_start, near_stop = near_range(n0, q_length, WIDE, SIZE)
        if CAUSAL:
            near_start = tl.minimum(n0, q_length)
            near_stop = tl.maximum(near_stop, near_start)
        before, after = tl.load(BIAS_VECTOR) * LOG2E, tl.load(BIAS_VECTOR + 2 * REACH) * LOG2E
        if not CAUSAL:  # queries far before these keys
            dk, dv = _key_tiles(
                dk, dv, k, v, columns, number, Q, GRADIENT, LSE, DELTA, ROW_NUMBERS, TILES, 0, near_start, n0,
                q_length, inner, dims, stride_q, stride_o, scale2, after, threshold, FAR, False, False, DROPOUT, WIDE, SIZE,
                PRECISION,
            )  # fmt: skip
        dk, dv = _key_tiles(
            dk, dv, k, v, columns, number, Q, GRADIENT, LSE, DELTA, ROW_NUMBERS, TILES, near_start, near_stop, n0,
            q_length, inner, dims, stride_q, stride_o, scale2, 0.0, threshold, NEAR, True, CAUSAL, DROPOUT, WIDE, SIZE,
            PRECISION,
        )  # fmt: skip
        far_stop = tl.maximum(near_stop, whole)
        dk, dv = _key_tiles(
            dk, dv, k, v, columns, number, Q, GRADIENT, LSE, DELTA, ROW_NUMBERS, TILES, near_stop, far_stop, n0,
            q_length, inner, dims, stride_q, stride_o, scale2, before, threshold, FAR, False, False, DROPOUT, WIDE, SIZE,
            PRECISION,
        )  # fmt: skip
        dk, dv = _key_tiles(
            dk, dv, k, v, columns, number, Q, GRADIENT, LSE, DELTA, ROW_NUMBERS, TILES, far_stop, q_length, n0,
            q_length, inner, dims, stride_q, stride_o, scale2, before, threshold, FAR, True, False, DROPOUT, WIDE, SIZE,
            PRECISION,
        )  # fmt: skip
    else:
        start = 0
        if CAUSAL:
            start = tl.minimum(n0 + SIZE, q_length)
            dk, dv = _key_tiles(
                dk, dv, k, v, columns, number, Q, GRADIENT, LSE, DELTA, ROW_NUMBERS, TILES, n0, start, n0,
                q_length, inner, dims, stride_q, stride_o, scale2, 0.0, threshold, NONE, True, True, DROPOUT, WIDE, SIZE,
                PRECISION,
            )  # fmt: skip
        plain_stop = tl.maximum(start, whole)
        dk, dv = _key_tiles(
            dk, dv, k, v, columns, number, Q, GRADIENT, LSE, DELTA, ROW_NUMBERS, TILES, start, plain_stop, n0,
            q_length, inner, dims, stride_q, stride_o, scale2, 0.0, threshold, NONE, False, False, DROPOUT, WIDE, SIZE,
            PRECISION,
        )  # fmt: skip
        dk, dv = _key_tiles(
            dk, dv, k, v, columns, number, Q, GRADIENT, LSE, DELTA, ROW_NUMBERS, TILES, plain_stop, q_length, n0,
            q_length, inner, dims, stride_q, stride_o, scale2, 0.0, threshold, NONE, True, False, DROPOUT, WIDE, SIZE,
            PRECISION,
        )  # fmt: skip
    at = (k_start + columns)[:, None] * stride_d + head * head_d + dims[None, :]
    tl.store(DK + at, (dk * (scale * grow)).to(DK.dtype.element_ty), mask=there[:, None])
    tl.store(DV + at, (dv * grow).to(DV.dtype.element_ty), mask=there[:, None])


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
    dq, far_sum, q, gradient, lse, delta, numbers, K, V, NUMBERS, TILES, DBIAS, start, stop, m0, k_length, rows, inner,
    dims, stride_k, stride_v, scale2, far_bias, threshold, BIAS: tl.constexpr, LEARN: tl.constexpr,
    MASKED: tl.constexpr, CAUSAL: tl.constexpr, DROPOUT: tl.constexpr, REACH: tl.constexpr, WIDE: tl.constexpr,
    SIZE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    for n0 in range(start, stop, SIZE):
        columns = n0 + inner
        if MASKED:
            there = columns < k_length
            k_transposed = tl.load(K + columns[None, :] * stride_k + dims[:, None], mask=there[None, :], other=0.0)
            v_transposed = tl.load(V + columns[None, :] * stride_v + dims[:, None], mask=there[None, :], other=0.0)
        else:
            k_transposed = tl.load(K + columns[None, :] * stride_k + dims[:, None])
            v_transposed = tl.load(V + columns[None, :] * stride_v + dims[:, None])
        s = tl.dot(q, k_transposed, input_precision=PRECISION)
        dp = tl.dot(gradient, v_transposed, input_precision=PRECISION)
        if DROPOUT:
            number = tl.load(NUMBERS + columns).to(tl.uint32)
            stay = kept(numbers[:, None], number[None, :], threshold)
        if BIAS == NEAR:
            tile = TILES + ((n0 - m0) // SIZE + WIDE - 1) * SIZE * SIZE + inner[:, None] * SIZE + inner[None, :]
            p = tl.math.exp2(s * scale2 + tl.load(tile) - lse[:, None])
        else:
            p = tl.math.exp2(s * scale2 - (lse - far_bias)[:, None])
        if MASKED:
            seen = there[None, :]
            if CAUSAL:
                seen = seen & (columns[None, :] <= rows[:, None])
            p = tl.where(seen, p, 0.0)
        if DROPOUT:
            dp = tl.where(stay, dp, 0.0)
        ds = p * (dp - delta[:, None])
        if LEARN:
            if BIAS == NEAR:
                _add_diagonals(ds, DBIAS, n0 - m0, inner, REACH, SIZE)
            else:
                far_sum += tl.sum(ds, 1)
        dq = tl.dot(ds.to(k_transposed.dtype), tl.trans(k_transposed), dq, input_precision=PRECISION)
    return dq, far_sum


@triton.jit(do_not_specialize=["threshold"])
def query_kernel(
    Q, K, V, BIAS_VECTOR, TILES, GRADIENT, DQ, DBIAS, LSE, DELTA, ROW_NUMBERS, BLOCKS, Q_OFFSETS, K_OFFSETS, NUMBERS,
    stride_q, head_q, stride_k, head_k, stride_v, head_v, stride_o, head_o, stride_d, head_d, q_rows, scale, threshold,
    grow, BIASED: tl.constexpr, LEARN: tl.constexpr, CAUSAL: tl.constexpr, DROPOUT: tl.constexpr, REACH: tl.constexpr,
    WIDE: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr, PRECISION: tl.constexpr, NUM_COPIES: tl.constexpr,
):  # fmt: skip
    """Gradients of one block of queries, and its share of the bias's, but for dropout's factor."""
    head = tl.program_id(1)
    document, m0, q_start, q_length, k_start, k_length = block_of(BLOCKS, Q_OFFSETS, K_OFFSETS)
    if document < 0:
        return
    inner, dims = tl.arange(0, SIZE), tl.arange(0, WIDTH)
    rows = m0 + inner
    there = rows < q_length
    at = (q_start + rows)[:, None] * stride_q + head * head_q + dims[None, :]
    q = tl.load(Q + at, mask=there[:, None], other=0.0)
    at = (q_start + rows)[:, None] * stride_o + head * head_o + dims[None, :]
    gradient = tl.load(GRADIENT + at, mask=there[:, None], other=0.0)
    lse = tl.load(LSE + head * q_rows + q_start + rows, mask=there, other=BEYOND)
    delta = tl.load(DELTA + head * q_rows + q_start + rows, mask=there, other=0.0)
    numbers = tl.zeros([SIZE], tl.uint32)
    if DROPOUT:
        numbers = tl.load(ROW_NUMBERS + head * q_rows + q_start + rows, mask=there, other=0).to(tl.uint32)
    K += k_start * stride_k + head * head_k
    V += k_start * stride_v + head * head_v
    dq = tl.zeros([SIZE, WIDTH], tl.float32)
    before_sum = tl.zeros([SIZE], tl.float32)
    after_sum = tl.zeros([SIZE], tl.float32)
    scale2 = scale * LOG2E
    stop = k_length
    if CAUSAL:
        stop = tl.minimum(k_length, m0 + SIZE)
    whole = k_length // SIZE * SIZE
    if BIASED:
        BIAS_VECTOR += head * (2 * REACH + 1)
        TILES += head * (2 * WIDE - 1) * SIZE * SIZE
        DBIAS += (tl.program_id(0) % NUM_COPIES * tl.num_programs(1) + head) * (2 * REACH + 1)
        near_start, near_stop = near_range(m0, stop, WIDE, SIZE)
        before, after = tl.load(BIAS_VECTOR) * LOG2E, tl.load(BIAS_VECTOR + 2 * REACH) * LOG2E
        dq, before_sum = _query_tiles(
            dq, before_sum, q, gradient, lse, delta, numbers, K, V, NUMBERS, TILES, DBIAS, 0, near_start, m0, k_length,
            rows, inner, dims, stride_k, stride_v, scale2, before, threshold, FAR, LEARN, False, False, DROPOUT, REACH,
            WIDE, SIZE, PRECISION,
        )  # fmt: skip
        dq, after_sum = _query_tiles(
            dq, after_sum, q, gradient, lse, delta, numbers, K, V, NUMBERS, TILES, DBIAS, near_start, near_stop, m0,
            k_length, rows, inner, dims, stride_k, stride_v, scale2, 0.0, threshold, NEAR, LEARN, True, CAUSAL, DROPOUT,
            REACH, WIDE, SIZE, PRECISION,
        )  # fmt: skip
        if not CAUSAL:
            far_stop = tl.maximum(near_stop, whole)
            dq, after_sum = _query_tiles(
                dq, after_sum, q, gradient, lse, delta, numbers, K, V, NUMBERS, TILES, DBIAS, near_stop, far_stop, m0,
                k_length, rows, inner, dims, stride_k, stride_v, scale2, after, threshold, FAR, LEARN, False, False,
                DROPOUT, REACH, WIDE, SIZE, PRECISION,
            )  # fmt: skip
            dq, after_sum = _query_tiles(
                dq, after_sum, q, gradient, lse, delta, numbers, K, V, NUMBERS, TILES, DBIAS, far_stop, stop, m0,
                k_length, rows, inner, dims, stride_k, stride_v, scale2, after, threshold, FAR, LEARN, True, False,
                DROPOUT, REACH, WIDE, SIZE, PRECISION,
            )  # fmt: skip
        if LEARN:
            tl.atomic_add(DBIAS, tl.sum(before_sum, 0), sem="relaxed")
            if not CAUSAL:
                tl.atomic_add(DBIAS + 2 * REACH, tl.sum(after_sum, 0), sem="relaxed")
    else:
        plain_stop = whole
        if CAUSAL:
            plain_stop = m0
        dq, before_sum = _query_tiles(
            dq, before_sum, q, gradient, lse, delta, numbers, K, V, NUMBERS, TILES, DBIAS, 0, plain_stop, m0, k_length,
            rows, inner, dims, stride_k, stride_v, scale2, 0.0, threshold, NONE, False, False, False, DROPOUT, REACH,
            WIDE, SIZE, PRECISION,
        )  # fmt: skip
        dq, before_sum = _query_tiles(
            dq, before_sum, q, gradient, lse, delta, numbers, K, V, NUMBERS, TILES, DBIAS, plain_stop, stop, m0,
            k_length, rows, inner, dims, stride_k, stride_v, scale2, 0.0, threshold, NONE, False, True, CAUSAL, DROPOUT,
            REACH, WIDE, SIZE, PRECISION,
        )  # fmt: skip
    at = (q_start + rows)[:, None] * stride_d + head * head_d + dims[None, :]
    tl.store(DQ + at, (dq * (scale * grow)).to(DQ.dtype.element_ty), mask=there[:, None])
