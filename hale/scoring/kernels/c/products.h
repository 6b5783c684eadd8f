/* The gradient products of weights and vectors, in pairs of bf16 (or in single fp32, PAIR 1).
 *
 * Both have the form to (rows, lanes) = left (rows, pairs) right (pairs, lanes):
 * forward  dimensions x queries = the entities of a tile, transposed, x their weights
 * backward entities x dimensions = weights x scaled queries
 * The left side is stored in panels of PANEL pairs, each in row-major order.
 *
 * If the processor has matrix tiles (AMX) and the system permits their use, they multiply 16 rows,
 * 16 pairs and 16 lanes at a time, with 16 times the throughput of vectors.
 */
#pragma once
#include "lanes.h"

/* The number of rows is a multiple of 8 (of 16 with matrix tiles), that of lanes of LANES. */
static void vector_product(int add, int64_t rows, int64_t lanes, int64_t pairs,
                           const float *left, int64_t panel_stride,
                           const float *right, int64_t right_stride, float *to, int64_t to_stride) {
    for (int64_t row = 0, height; row < rows; row += height) {
        height = (rows - row) % BLOCK ? 4 : BLOCK; /* of 6 rows, or else of 4 */
        const struct left from = {left + row * PANEL, pairs, PANEL, PANEL, panel_stride};
        for (int64_t lane = 0; lane < lanes; lane += 2 * LANES) {
            const int vectors = lane + LANES < lanes ? 2 : 1;
            multiplication *multiply_by = height < BLOCK
                ? (vectors > 1 ? multiply_four_2 : multiply_four_1)
                : (vectors > 1 ? multiply_pairs_2 : multiply_pairs_1);
            multiply_by(&from, right + lane, right_stride, add, to + row * to_stride + lane, to_stride);
        }
    }
}

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

/* Whether this process may use matrix tiles. Asks the system, whose answer does not change. */
INLINE int tiles_granted(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

/* Tiles 0 and 1 are sums; 2, 3 and 4 the left and right sides; 5, 6 and 7 those of a last 8 pairs. */
INLINE void begin_tiles(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shapes __attribute__((aligned(64))) = {
        .palette = 1,
        .row_bytes = {64, 64, 64, 64, 64, 32, 64, 64},
        .rows = {16, 16, 16, 16, 16, 16, 8, 8},
    };
    _tile_loadconfig(&shapes);
}

INLINE void end_tiles(void) { _tile_release(); }

/* Keeps the compiler from moving memory accesses across those of tiles, which it cannot see. */
#define FENCE() __asm__ volatile("" ::: "memory")

/* As vector_product; the number of pairs is a multiple of 8. */
static void tile_product(int add, int64_t rows, int64_t lanes, int64_t pairs,
                         const float *left, int64_t panel_stride,
                         const float *right, int64_t right_stride, float *to, int64_t to_stride) {
    const int64_t right_bytes = 4 * right_stride, bytes = 4 * to_stride;
    FENCE();
    for (int64_t row = 0; row < rows; row += 16)
        for (int64_t lane = 0; lane < lanes; lane += 32) {
            const int both = lane + 16 < lanes;
            float *at = to + row * to_stride + lane;
            _tile_zero(0);
            _tile_zero(1);
            if (add) _tile_loadd(0, at, bytes);
            if (add && both) _tile_loadd(1, at + 16, bytes);
            const float *from = left + row * PANEL, *by = right + lane;
            int64_t pair = 0;
            for (; pair + PANEL <= pairs; pair += PANEL) {
                _tile_loadd(2, from, 4 * PANEL);
                _tile_loadd(3, by, right_bytes);
                _tile_dpbf16ps(0, 2, 3);
                if (both) {
                    _tile_loadd(4, by + 16, right_bytes);
                    _tile_dpbf16ps(1, 2, 4);
                }
                from += panel_stride, by += PANEL * right_stride;
            }
            if (pair < pairs) {
                _tile_loadd(5, from, 4 * PANEL);
                _tile_loadd(6, by, right_bytes);
                _tile_dpbf16ps(0, 5, 6);
                if (both) {
                    _tile_loadd(7, by + 16, right_bytes);
                    _tile_dpbf16ps(1, 5, 7);
                }
            }
            _tile_stored(0, at, bytes);
            if (both) _tile_stored(1, at + 16, bytes);
        }
    FENCE();
}
#else
INLINE int tiles_granted(void) { return 0; }
INLINE void begin_tiles(void) {}
INLINE void end_tiles(void) {}
#define tile_product vector_product
#endif

/* to = left right; with `add`, to += left right. */
INLINE void product(int tiles, int add, int64_t rows, int64_t lanes, int64_t pairs,
                    const float *left, int64_t panel_stride,
                    const float *right, int64_t right_stride, float *to, int64_t to_stride) {
    (tiles ? tile_product : vector_product)(
        add, rows, lanes, pairs, left, panel_stride, right, right_stride, to, to_stride);
}
