/* Which code the compiler chose for this processor. */
#include "products.h"

/* The instructions that the library uses; a suffix -bf16 says that the gradient products of the
 * LogSumExp round their factors to bf16. */
const char *hale_variant(void) {
#if defined(__AVX512BF16__)
    return tiles_granted() ? "amx-bf16" : "avx512-bf16";
#elif defined(__AVX512F__)
    return "avx512";
#elif defined(__AVX2__) && defined(__FMA__)
    return "avx2";
#elif defined(__SSE2__)
    return "sse2";
#elif defined(__ARM_NEON)
    return "neon";
#else
    return "generic";
#endif
}

/* What the processor can do at most, for benchmarks/kernel.py. Both results depend on everything that
 * is computed, so that it is. */

/* `rounds` times 12 * LANES fused multiply-adds, in registers; returns their number. */
int64_t hale_multiply_add(int64_t rounds, float *result) {
    vec sum[12], factor = splat(0.5f), term = splat(1);
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) sum[i] = splat(i);
    for (int64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) {
            sum[i] = sum[i] * factor + term;
            IN_REGISTER(sum[i]);
        }
    }
#pragma GCC unroll 12
    for (int i = 1; i < 12; i++) sum[0] += sum[i];
    *result = sum[0][0];
    return rounds * 12 * LANES;
}

/* `rounds` times 2^x of 64 * LANES numbers, in cache; returns their number. */
int64_t hale_powers(int64_t rounds, float *result) {
    vec x[64], sum[4];
    for (int i = 0; i < 4; i++) sum[i] = splat(0);
    for (int i = 0; i < 64; i++) x[i] = splat(-0.01f * i);
    for (int64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 4
        for (int i = 0; i < 64; i++) sum[i % 4] += power2(x[i]);
        __asm__ volatile("" ::: "memory");
    }
    *result = (sum[0] + sum[1] + sum[2] + sum[3])[0];
    return rounds * 64 * LANES;
}
