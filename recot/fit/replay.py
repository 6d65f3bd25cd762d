"""Steps of fused Adam on single rows, compiled: what torch's kernel does to them, to the last bit.

Every operation rounds as in the vectorised part of ATen's ``FusedAdamKernel.cpp``, where gcc makes two fused
multiply-adds beside the one that is written. The arguments of the functions are these:

* ``p``, ``m``, ``v``, ``g``: (rows, d) float32, a table, its two moments and its gradient.
* ``slow``: (rows, d) float32, what follows the table; (0, d) where nothing does.
* ``clock``: (rows,) int32, how many events each row has seen. Event ``2 s`` is Adam's step ``s``, and event ``2 s + 1``
  moves ``slow``.
* ``steps``: (n, 3) float32, of each step the negative step size, the root of the second bias correction, and the share
  by which ``slow`` moves, NaN where it does not.
* ``fixed``: (5,) float32, epsilon, ``1 - beta1``, ``beta2``, ``1 - beta2`` and the weight decay.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LINE = 16
"""Numbers of a cache line."""
AHEAD = 4
"""Rows that are on their way from memory while one is worked on."""
LOOK = 32
"""Steps after which it is worth a look whether a row has come to rest."""
RESTING = 1000
"""Steps in which the root of a second moment falls by less than half, with ``beta2`` of 0.999 or more."""


def multiply_add(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, rounded once."""
    return a(a, b, c), lambda context, builder, signature, values: builder.fma(*values)


def load_ahead(typing: Any, array: Any, place: Any) -> Any:
    """Ask for the cache line of ``array`` that holds its entry number ``place``; nothing waits for it."""
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        pointer = builder.bitcast(builder.gep(data, [values[1]]), ir.IntType(8).as_pointer())
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, word, word, word])
        called = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(called, [pointer, word(1), word(3), word(1)])  # to be written, used soon, data
        return context.get_dummy_value()
    return types.void(array, place), generate


def compiled(function: Any) -> Any:
    """``function`` as machine code, which is kept on disk where there is a place for it."""
    # Counting references to the arrays of each row would take half of the time.
    options = {"nogil": True, "_nrt": False, "error_model": "numpy"}
    try:
        return njit(function, cache=True, **options)
    except RuntimeError:  # neither the folder of this file nor one of the user can be written
        return njit(function, **options)


def part(function: Any) -> Any:
    """``function`` as a part of those that call it."""
    return njit(function, inline="always", _nrt=False)


fma, prefetch = intrinsic(multiply_add), intrinsic(load_ahead)


@part
def step(r: int, s: int, p: Any, m: Any, v: Any, g: Any, steps: Any, fixed: Any) -> None:
    """Step ``s`` of row ``r``, whose gradient is cleared."""
    move, root = steps[s, 0], steps[s, 1]
    eps, c1, beta2, c2, decay = fixed[0], fixed[1], fixed[2], fixed[3], fixed[4]
    for j in range(p.shape[1]):
        slope = g[r, j]
        if decay != 0:
            slope = fma(p[r, j], decay, slope)
        mean = fma(c1, slope - m[r, j], m[r, j])
        square = fma(c2 * slope, slope, v[r, j] * beta2)
        p[r, j] += move * mean / (np.sqrt(square) / root + eps)
        m[r, j] = mean
        v[r, j] = square
        g[r, j] = 0


@part
def idle(r: int, first: int, last: int, p: Any, m: Any, v: Any, steps: Any, fixed: Any) -> None:
    """The steps from ``first`` to before ``last`` of row ``r``, without a gradient, decay or what follows it."""
    eps, c1, beta2 = fixed[0], fixed[1], fixed[2]
    for s in range(first, last):  # one loop within the other: LLVM checks once that the rows are apart
        move, root = steps[s, 0], steps[s, 1]
        for j in range(p.shape[1]):
            mean = fma(c1, -m[r, j], m[r, j])
            square = v[r, j] * beta2
            p[r, j] += move * mean / (np.sqrt(square) / root + eps)
            m[r, j] = mean
            v[r, j] = square


@part
def at_rest(r: int, s: int, p: Any, m: Any, v: Any, steps: Any, fixed: Any) -> bool:
    """Whether :data:`RESTING` steps from ``s`` on, without gradient or decay, leave row ``r`` of ``p`` as it is.

    From step ``s`` on, neither the first moment nor the step size grows, and the denominator falls to no less than
    ``root / 2`` of what it would be now. So no step is longer than ``2 / root`` of one that is made with the moments of
    now, and all have its sign. Where that much does not change a weight, less does not. The bounds leave out what is
    subnormal or infinite.
    """
    move, root = steps[s, 0] * np.float32(2.1) / steps[s, 1], steps[s, 1]
    eps, low, high = fixed[0], np.float32(1e-30), np.float32(1e30)
    moved = 0
    for j in range(p.shape[1]):
        most = p[r, j] + move * m[r, j] / (np.sqrt(v[r, j]) / root + eps)
        size = abs(p[r, j])
        moved += (most != p[r, j]) | ((size < low) & (m[r, j] != 0)) | (size > high)
    return moved == 0


@part
def rest(r: int, count: int, m: Any, v: Any, fixed: Any) -> None:
    """What ``count`` steps do to the moments of a row whose weights stay."""
    c1, beta2 = fixed[1], fixed[2]
    for _ in range(count >> 2):
        for j in range(m.shape[1]):  # four steps for one walk through the row
            mean, square = m[r, j], v[r, j]
            mean = fma(c1, -mean, mean)
            mean = fma(c1, -mean, mean)
            mean = fma(c1, -mean, mean)
            m[r, j] = fma(c1, -mean, mean)
            v[r, j] = square * beta2 * beta2 * beta2 * beta2
    for _ in range(count & 3):
        for j in range(m.shape[1]):
            m[r, j] = fma(c1, -m[r, j], m[r, j])
            v[r, j] *= beta2


@part
def alone(r: int, s: int, last: int, p: Any, m: Any, v: Any, steps: Any, fixed: Any) -> None:
    """As :func:`idle`, as long as the weights do not rest."""
    while s < last:
        many = last - s >= LOOK
        if many and at_rest(r, s, p, m, v, steps, fixed):
            until = min(last, s + RESTING)
            rest(r, until - s, m, v, fixed)
        else:
            until = min(last, s + LOOK) if many else last
            idle(r, s, until, p, m, v, steps, fixed)
        s = until


@part
def decayed(r: int, first: int, last: int, p: Any, m: Any, v: Any, steps: Any, fixed: Any) -> None:
    """The same with decay, where a row never rests."""
    eps, c1, beta2, c2, decay = fixed[0], fixed[1], fixed[2], fixed[3], fixed[4]
    for s in range(first, last):
        move, root = steps[s, 0], steps[s, 1]
        for j in range(p.shape[1]):
            slope = p[r, j] * decay
            mean = fma(c1, slope - m[r, j], m[r, j])
            square = fma(c2 * slope, slope, v[r, j] * beta2)
            p[r, j] += move * mean / (np.sqrt(square) / root + eps)
            m[r, j] = mean
            v[r, j] = square


@part
def followed(r: int, first: int, last: int, p: Any, m: Any, v: Any, slow: Any, steps: Any, fixed: Any) -> None:
    """The same with or without decay; after each step ``slow`` moves by a share below a half."""
    eps, c1, beta2, c2, decay = fixed[0], fixed[1], fixed[2], fixed[3], fixed[4]
    for s in range(first, last):
        move, root, share = steps[s, 0], steps[s, 1], steps[s, 2]
        for j in range(p.shape[1]):
            slope = p[r, j] * decay if decay != 0 else np.float32(0)
            mean = fma(c1, slope - m[r, j], m[r, j])
            square = fma(c2 * slope, slope, v[r, j] * beta2)
            value = p[r, j] + move * mean / (np.sqrt(square) / root + eps)
            p[r, j] = value
            m[r, j] = mean
            v[r, j] = square
            slow[r, j] = fma(share, value - slow[r, j], slow[r, j])


@part
def follow(r: int, s: int, p: Any, slow: Any, steps: Any) -> None:
    """``slow.lerp_(p, share)`` of row ``r`` after step ``s``, in the two forms of torch; nothing for a share of NaN."""
    share, one, half = steps[s, 2], np.float32(1), np.float32(0.5)
    if abs(share) < half:
        for j in range(p.shape[1]):
            slow[r, j] = fma(share, p[r, j] - slow[r, j], slow[r, j])
    elif abs(share) >= half:
        for j in range(p.shape[1]):
            slow[r, j] = fma(share - one, p[r, j] - slow[r, j], p[r, j])


@part
def paired(r: int, s: int, last: int, p: Any, m: Any, v: Any, slow: Any, steps: Any, fixed: Any) -> None:
    """The steps from ``s`` to before ``last`` of row ``r`` and of what follows it, whatever the shares."""
    while s < last:
        until = s
        while until < last and abs(steps[until, 2]) < np.float32(0.5):
            until += 1
        if until > s:
            followed(r, s, until, p, m, v, slow, steps, fixed)
        else:
            until = s + 1
            if fixed[4] == 0:
                idle(r, s, until, p, m, v, steps, fixed)
            else:
                decayed(r, s, until, p, m, v, steps, fixed)
            follow(r, s, p, slow, steps)
        s = until


@part
def bring(r: int, done: int, p: Any, m: Any, v: Any, slow: Any, clock: Any, steps: Any, fixed: Any) -> None:
    """What row ``r`` has not seen of the first ``done`` steps."""
    s = (clock[r] + 1) >> 1
    if slow.shape[0] > 0:
        if clock[r] & 1:
            follow(r, s - 1, p, slow, steps)
        paired(r, s, done, p, m, v, slow, steps, fixed)
    elif fixed[4] == 0:
        alone(r, s, done, p, m, v, steps, fixed)
    else:
        decayed(r, s, done, p, m, v, steps, fixed)
    clock[r] = 2 * done


@part
def soon(r: int, now: int, p: Any, m: Any, v: Any, slow: Any, clock: Any) -> None:
    """Have row ``r`` on its way from memory, if there is anything to do."""
    if 0 <= r < len(clock) and clock[r] < now:
        for place in range(r * p.shape[1], (r + 1) * p.shape[1], LINE):
            prefetch(p, place)
            prefetch(m, place)
            prefetch(v, place)
            if slow.shape[0] > 0:
                prefetch(slow, place)


@compiled
def refresh(ids: Any, done: int, p: Any, m: Any, v: Any, slow: Any, clock: Any, steps: Any, fixed: Any) -> None:
    """The first ``done`` steps of the rows ``ids``; rows that do not exist are left to whoever looks them up."""
    for i in range(len(ids)):
        if i + AHEAD < len(ids):
            soon(ids[i + AHEAD], 2 * done, p, m, v, slow, clock)
        r = ids[i]
        if 0 <= r < len(clock) and clock[r] < 2 * done:
            bring(r, done, p, m, v, slow, clock, steps, fixed)


@compiled
def advance(ids: Any, s: int, p: Any, m: Any, v: Any, g: Any, clock: Any, steps: Any, fixed: Any) -> None:
    """Step ``s`` of the rows ``ids``, each once, which have seen all before; their gradient is cleared."""
    for i in range(len(ids)):
        if i + AHEAD < len(ids):
            soon(ids[i + AHEAD], 2 * s + 1, p, m, v, g, clock)
        r = ids[i]
        if clock[r] == 2 * s:
            step(r, s, p, m, v, g, steps, fixed)
            clock[r] = 2 * s + 1
