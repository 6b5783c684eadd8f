/* Shared by both passes: the caller's arguments, memory kept between the passes, and threads. */
#pragma once
#include "activations.h"
#include "products.h"
#include <pthread.h>
#include <stdlib.h>

struct sweep {
    int64_t rows, entities, dim, threads;
    const float *query, *scale, *entity; /* (rows, dim), (rows), (entities, dim), contiguous */
    float norms, product, floor; /* scale * max(floor, norms (|q|^2 + |e|^2) + product q.e) */
    struct parameters activation;
    const int64_t *known_start, *known_stop; /* (rows): the entities that a row excludes are, */
    const int64_t *known;                    /* ascending, known[start..stop); NULL: none, or */
    const int32_t *narrow_known;             /* these are they; NULL: none */
    const int64_t *order, *place; /* (entities): ids by tile, and its inverse; NULL: 0, 1, 2 ... */
    const float *log_weight; /* (groups, tiles): log2 of the weight that a tile's entities have in */
                             /* the sums of GROUP rows, -INFINITY: they are left out; NULL: 0 */
    weight *weights; /* kept between the passes, in front of the entities by tile if there is an */
                     /* order; NULL: without gradients */
    float *tape;     /* kept between the passes; see struct tape */
    float *lse;      /* (rows) */
    /* backward only */
    const float *upstream;                                /* (rows) */
    float *query_gradient, *scale_gradient, *entity_gradient;
    int64_t accumulate; /* add to entity_gradient instead of writing it */
    /* chosen scores only */
    int64_t columns;
    const int64_t *chosen;      /* (rows, columns): entities */
    float *score, *derivatives; /* (rows, columns); planes of that size, NULL: without gradients */
};

#include "comparators.h"

/* Bounds of the scratch memory, which is below 64 MiB in total up to a million entities. */
enum { WEIGHT_BYTES = 40 << 20, TAPE_FLOATS = 1 << 19, PARTIAL_FLOATS = 3 << 20 };

/* ---- shapes and scratch ---------------------------------------------------------------------- */

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t parts(int64_t count, int64_t size) { return (count + size - 1) / size; }
INLINE int64_t padded(int64_t count, int64_t size) { return parts(count, size) * size; }

/* A row's sums over entities: of exp(score + shift), and of the derivatives times that. */
enum { TOTAL, QUERY_SQ, SCALE, SHIFT, SUMS };

/* (SUMS, rows padded) and the sums of entities * weights, (dim padded, rows padded). */
struct tape {
    float *sums, *product;
    int64_t rows, dim, floats;
};

INLINE struct tape tape_at(float *from, int64_t rows, int64_t dim) {
    struct tape tape = {.rows = padded(rows, ROWS), .dim = padded(dim, ROWS)};
    tape.floats = tape.rows * (SUMS + tape.dim);
    tape.sums = from;
    tape.product = from + SUMS * tape.rows;
    return tape;
}

/* Rows that have the same weights of tiles: a register of them, or more. */
enum { GROUP = 16 };

INLINE int64_t known_at(const struct sweep *s, int64_t i) {
    return s->known ? s->known[i] : s->narrow_known[i];
}

INLINE int any_known(const struct sweep *s) { return s->known || s->narrow_known; }

/* The known entities of all rows as row * TILE + place in the tile, by tile and then by row. */
struct known {
    int64_t *first, *at; /* of each tile, and of the one after the last; NULL: none */
};

/* Shared by the threads; `failed` is set if memory could not be allocated. */
struct work {
    const struct sweep *s;
    struct tape tape;
    int mode, matrix_tiles;
    int64_t chunks, tiles, blocks, next, failed;
    int64_t *first_pair; /* (tiles + 1): the pairs of tile and block that are not left out, before it */
    struct known known;  /* forward */
    float *query, *facts, *partial;  /* forward: queries by block, transposed; FACTS of rows */
    float *right, *square;           /* backward: pairs of scaled queries, factors of squares */
};

/* Number of weights of a pair of tile and block, which are ordered by entity and query. */
enum { PAIR_WEIGHTS = TILE * WIDTH };

INLINE void *allocate(int64_t floats) {
    void *memory = NULL;
    return posix_memalign(&memory, 64, floats * sizeof(float) + 64) ? NULL : memory;
}

/* ---- which tiles meet which rows ------------------------------------------------------------- */

/* log2 of the weight of a tile's entities in the sum of a row. */
INLINE float log_weight(const struct work *w, int64_t tile, int64_t row) {
    return w->s->log_weight ? w->s->log_weight[row / GROUP * w->tiles + tile] : 0;
}

/* The rows of a block, as bits, whose sums leave a tile out. */
INLINE uint32_t rows_left_out(const struct work *w, int64_t tile, int64_t block) {
    uint32_t left_out = 0;
    for (int64_t lane = 0; w->s->log_weight && lane < WIDTH; lane += LANES) {
        const int64_t row = block * WIDTH + lane;
        if (row >= w->tape.rows || log_weight(w, tile, row) == -INFINITY)
            left_out |= ((1u << (LANES - 1) << 1) - 1) << lane;
    }
    return left_out;
}

INLINE int meets(const struct work *w, int64_t tile, int64_t block) {
    const uint32_t all = ((1u << (WIDTH - 1)) << 1) - 1;
    return rows_left_out(w, tile, block) != all;
}

INLINE int64_t entity_at(const struct sweep *s, int64_t place) {
    return s->order ? s->order[place] : place;
}

INLINE int64_t weight_bytes(const struct work *w) {
    return PLANES * w->first_pair[w->tiles] * PAIR_WEIGHTS * sizeof(weight);
}

/* The entities by tile, which the forward pass gathers and the backward pass reads. */
INLINE float *kept_entities(const struct work *w) {
    return (float *)((char *)w->s->weights + weight_bytes(w));
}

/* Sets `tiles`, `blocks` and `first_pair`, which is NULL if out of memory. */
INLINE void find_pairs(struct work *w) {
    w->tiles = parts(w->s->entities, TILE);
    w->blocks = parts(w->tape.rows, WIDTH);
    w->first_pair = allocate(2 * (w->tiles + 1));
    if (!w->first_pair) return;
    w->first_pair[0] = 0;
    for (int64_t tile = 0; tile < w->tiles; tile++) {
        int64_t pairs = w->s->log_weight ? 0 : w->blocks;
        for (int64_t block = 0; w->s->log_weight && block < w->blocks; block++)
            pairs += meets(w, tile, block);
        w->first_pair[tile + 1] = w->first_pair[tile] + pairs;
    }
}

/* ---- threads --------------------------------------------------------------------------------- */

struct team {
    struct work *work;
    int (*chunk)(struct work *, int64_t first_tile, int64_t last_tile, int64_t chunk, float *scratch);
    int64_t scratch;
};

static void run_chunks(void *argument) {
    struct team *team = argument;
    struct work *work = team->work;
    float *scratch = allocate(team->scratch);
    if (!scratch) __atomic_store_n(&work->failed, 1, __ATOMIC_RELAXED);
    const uint32_t denormals = flush_denormals();
    if (work->matrix_tiles) begin_tiles();
    while (scratch) {
        int64_t chunk = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED);
        if (chunk >= work->chunks) break;
        team->chunk(work, chunk * work->tiles / work->chunks,
                    (chunk + 1) * work->tiles / work->chunks, chunk, scratch);
    }
    if (work->matrix_tiles) end_tiles();
    restore_denormals(denormals);
    free(scratch);
}

#ifdef __linux__
/* PyTorch's own threads (libgomp): they spin on the cores that other threads would need. NULL if
 * PyTorch uses another runtime. */
extern void GOMP_parallel(void (*)(void *), void *, unsigned threads, unsigned flags)
    __attribute__((weak));
#else
static void (*const GOMP_parallel)(void (*)(void *), void *, unsigned, unsigned) = NULL;
#endif

static void *run_thread(void *team) {
    run_chunks(team);
    return NULL;
}

static void run(struct team team) {
    pthread_t thread[256];
    const int64_t threads = smaller(team.work->s->threads, 256);
    const int64_t others = smaller(threads, team.work->chunks) - 1;
    int64_t started = 0;
    team.work->next = 0;
    if (others > 0 && GOMP_parallel) {
        /* of all threads: libgomp ends those that a smaller team does not use */
        GOMP_parallel(run_chunks, &team, threads, 0);
        return;
    }
    while (started < others && !pthread_create(&thread[started], NULL, run_thread, &team)) started++;
    run_chunks(&team);
    while (started > 0) pthread_join(thread[--started], NULL);
}
