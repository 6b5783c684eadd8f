/* Registers of LANES floats: GNU vector types, and intrinsics where they compile better. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
enum { LANES = 16, BLOCK = 8 };
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
enum { LANES = 8, BLOCK = 6 };
#else
enum { LANES = 4, BLOCK = 8 };
#endif
enum { WIDTH = 2 * LANES, TILE = 96, MAX_CHUNKS = 64 };
/* Queries come in multiples of ROWS. */
enum { ROWS = LANES > BLOCK ? LANES : BLOCK };
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float vec_unaligned __attribute__((vector_size(4 * LANES), may_alias, aligned(4)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));

/* ---- lanes ---------------------------------------------------------------------------------- */

#if defined(__AVX512F__)
INLINE vec splat(float value) { return (vec)_mm512_set1_ps(value); }
#else
INLINE vec splat(float value) { return value - (vec){0}; }
#endif
INLINE vec load(const float *from) { return *(const vec_unaligned *)from; }
INLINE void store(float *to, vec value) { *(vec_unaligned *)to = value; }

/* The first half of the lanes; the others are 0. */
INLINE vec first_half(vec value) {
    ivec half;
    for (int lane = 0; lane < LANES; lane++) half[lane] = lane < LANES / 2 ? -1 : 0;
    return (vec)((ivec)value & half);
}

INLINE vec load_part(const float *from, int64_t count) {
    if (count >= LANES) return load(from);
    vec value = {0};
    memcpy(&value, from, count * sizeof(float));
    return value;
}

INLINE void store_part(float *to, vec value, int64_t count) {
    if (count >= LANES) store(to, value);
    else memcpy(to, &value, count * sizeof(float));
}

INLINE vec choose(ivec mask, vec yes, vec no) {
    return (vec)((mask & (ivec)yes) | (~mask & (ivec)no));
}

/* at_least and at_most propagate a NaN in x. */
#if defined(__AVX512F__)
INLINE vec at_least(float bound, vec x) { return (vec)_mm512_max_ps(_mm512_set1_ps(bound), x); }
INLINE vec at_most(float bound, vec x) { return (vec)_mm512_min_ps(_mm512_set1_ps(bound), x); }
INLINE vec larger(vec a, vec b) { return (vec)_mm512_max_ps(a, b); }
INLINE vec root(vec x) { return (vec)_mm512_sqrt_ps(x); }
INLINE float sum(vec x) { return _mm512_reduce_add_ps(x); }
INLINE vec reciprocal(vec x) {
    vec first = (vec)_mm512_rcp14_ps(x);
    return first * (2.0f - x * first);
}
#elif defined(__AVX2__)
INLINE vec at_least(float bound, vec x) { return (vec)_mm256_max_ps(_mm256_set1_ps(bound), x); }
INLINE vec at_most(float bound, vec x) { return (vec)_mm256_min_ps(_mm256_set1_ps(bound), x); }
INLINE vec larger(vec a, vec b) { return (vec)_mm256_max_ps(a, b); }
INLINE vec root(vec x) { return (vec)_mm256_sqrt_ps(x); }
INLINE float sum(vec x) {
    float total = 0;
    for (int lane = 0; lane < LANES; lane++) total += x[lane];
    return total;
}
INLINE vec reciprocal(vec x) { return 1.0f / x; }
#else
INLINE vec at_least(float bound, vec x) { return choose(x < bound, splat(bound), x); }
INLINE vec at_most(float bound, vec x) { return choose(x > bound, splat(bound), x); }
INLINE vec larger(vec a, vec b) { return choose(a > b, a, b); }
INLINE vec root(vec x) {
    for (int lane = 0; lane < LANES; lane++) x[lane] = sqrtf(x[lane]);
    return x;
}
INLINE float sum(vec x) {
    float total = 0;
    for (int lane = 0; lane < LANES; lane++) total += x[lane];
    return total;
}
INLINE vec reciprocal(vec x) { return 1.0f / x; }
#endif

/* 2^x of -126 <= x <= 127.4 by a quintic polynomial of the fraction, relative error 1e-7; NaN
 * propagates. */
INLINE vec power2_within(vec x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: the sum's last bits are the nearest integer */
    vec moved = x + magic, part = x - (moved - magic);
    vec power = part * 1.327647205e-3f + 9.675541385e-3f;
    power = power * part + 5.550713274e-2f;
    power = power * part + 2.402211972e-1f;
    power = power * part + 6.931469671e-1f;
    power = power * part + 1.000000072f;
    return (vec)((ivec)power + ((ivec)moved << 23));
}

/* 2^x; 2^-126 below that, and 2^127.4 above. */
INLINE vec power2(vec x) { return power2_within(at_most(127.4f, at_least(-126.0f, x))); }

/* log2(x) for x > 0, by the series of 2 artanh of the mantissa in [sqrt(1/2), sqrt(2)). */
INLINE vec log2_positive(vec x) {
    ivec shifted = (ivec)x - 0x3f3504f3;
    vec exponent = __builtin_convertvector(shifted >> 23, vec);
    vec mantissa = (vec)((shifted & 0x007fffff) + 0x3f3504f3);
    vec ratio = (mantissa - 1.0f) * reciprocal(mantissa + 1.0f), square = ratio * ratio;
    vec series = square * 0.41219858f + 0.57707802f;
    series = series * square + 0.96179669f;
    series = series * square + 2.88539008f;
    return choose(x < INFINITY, exponent + ratio * series, x);
}

/* ---- denormals ------------------------------------------------------------------------------- */

/* Treats numbers below 2^-126 as 0 in this thread, because arithmetic on them is much slower.
 * Returns the argument of `restore_denormals`. */
#if defined(__SSE2__)
#include <xmmintrin.h>
INLINE uint32_t flush_denormals(void) {
    uint32_t before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
    return before;
}
INLINE void restore_denormals(uint32_t before) { _mm_setcsr(before); }
#else
INLINE uint32_t flush_denormals(void) { return 0; }
INLINE void restore_denormals(uint32_t before) { (void)before; }
#endif

/* ---- pairs: the gradient products multiply PAIR elements at a time ---------------------------- */

/* Weights are stored as bf16. Products read pairs of these, in the place of a float, or floats. */

#if defined(__AVX512BF16__)
enum { PAIR = 2 };
typedef uint16_t weight;
INLINE vec dot(vec sum, vec left, vec right) {
    return (vec)_mm512_dpbf16_ps(sum, (__m512bh)left, (__m512bh)right);
}
/* Lanes of two bf16, (even, odd). */
INLINE vec pair(const vec *value, int64_t stride) {
    const __m512i interleave = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
        23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    __m512bh halves = _mm512_cvtne2ps_pbh((__m512)value[stride], (__m512)value[0]);
    return (vec)_mm512_permutexvar_epi16(interleave, (__m512i)halves);
}
INLINE void store_weights(weight *to, vec value) {
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh((__m512)value));
}
INLINE vec load_pairs(const weight *from) { return load((const float *)from); }
INLINE void store_pairs(float *to, vec value) { store_weights((weight *)to, value); }
#else
enum { PAIR = 1 };
typedef uint16_t weight;
typedef uint16_t half __attribute__((vector_size(2 * LANES), may_alias, aligned(2)));
INLINE vec dot(vec sum, vec left, vec right) { return sum + left * right; }
INLINE vec pair(const vec *value, int64_t stride) { return (void)stride, value[0]; }
INLINE void store_weights(weight *to, vec value) {
    ivec rounded = (ivec)value + 0x8000;
#if defined(__AVX2__) && !defined(__AVX512F__)
    __m256i high = _mm256_srli_epi32((__m256i)rounded, 16);
    high = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
    _mm_storeu_si128((__m128i *)to, _mm256_castsi256_si128(high));
#else
    *(half *)to = __builtin_convertvector(rounded >> 16, half);
#endif
}
INLINE vec load_pairs(const weight *from) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    __m128i high = _mm_loadu_si128((const __m128i *)from);
    return (vec)_mm256_slli_epi32(_mm256_cvtepu16_epi32(high), 16);
#else
    return (vec)(__builtin_convertvector(*(const half *)from, ivec) << 16);
#endif
}
INLINE void store_pairs(float *to, vec value) { store(to, value); }
#endif

/* Pairs in a block of queries, which is a panel of the products in products.h. */
enum { PANEL = WIDTH / PAIR };

#if defined(__SSE2__)
#define IN_REGISTER(value) __asm__("" : "+x"(value))
#elif defined(__aarch64__)
#define IN_REGISTER(value) __asm__("" : "+w"(value))
#else
#define IN_REGISTER(value)
#endif

/* The left side of a product: BLOCK rows, whose columns lie in panels. */
struct left {
    const float *at;
    int64_t columns, panel, row_stride, panel_stride;
};

/* to[row] = left[row, :] right[:, vectors] of some rows, of pairs or of floats; with `add`,
 * to[row] += that. The left side is read by lane. */
INLINE void multiply(
    int paired, int rows, int vectors, const struct left *left, const float *right,
    int64_t right_stride, int add, float *to, int64_t to_stride) {
    vec total[BLOCK][2];
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < vectors; v++)
            total[row][v] = add ? load(to + row * to_stride + v * LANES) : splat(0);
    const float *at = left->at;
    const int64_t row_stride = left->row_stride;
    for (int64_t columns = left->columns; columns > 0; columns -= left->panel) {
        const int64_t depth = columns < left->panel ? columns : left->panel;
        for (int64_t step = 0; step < depth; step++, right += right_stride) {
            vec by[2];
            for (int v = 0; v < vectors; v++) {
                by[v] = load(right + v * LANES);
                IN_REGISTER(by[v]);
            }
#pragma GCC unroll 8
            for (int row = 0; row < rows; row++) {
                vec value = splat(at[row * row_stride + step]);
                for (int v = 0; v < vectors; v++)
                    total[row][v] = paired ? dot(total[row][v], value, by[v])
                                           : total[row][v] + value * by[v];
            }
        }
        at += left->panel_stride;
    }
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < vectors; v++) store(to + row * to_stride + v * LANES, total[row][v]);
}

/* Functions of their own, for the sake of the registers that the rest of a caller would take; `left` by
 * address, because copying it to the stack would wait for its parts to be stored. */
typedef void multiplication(const struct left *left, const float *right, int64_t right_stride,
                            int add, float *to, int64_t to_stride);
#define MULTIPLY(name, paired, rows, vectors)                                                      \
    static __attribute__((noinline, unused)) void name(                                            \
        const struct left *left, const float *right, int64_t right_stride, int add, float *to,     \
        int64_t to_stride) {                                                                       \
        multiply(paired, rows, vectors, left, right, right_stride, add, to, to_stride);            \
    }
MULTIPLY(multiply_floats_1, 0, BLOCK, 1)
MULTIPLY(multiply_floats_2, 0, BLOCK, 2)
MULTIPLY(multiply_pairs_1, 1, BLOCK, 1)
MULTIPLY(multiply_pairs_2, 1, BLOCK, 2)
MULTIPLY(multiply_four_1, 1, 4, 1)
MULTIPLY(multiply_four_2, 1, 4, 2)
