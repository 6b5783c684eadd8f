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
