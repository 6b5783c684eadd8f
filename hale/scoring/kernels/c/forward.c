/* LogSumExp over all entities and its gradient, in tiles that stay in cache.
 *
 * Compiled once per comparator and activation: COMPARATOR_POINCARE is defined or not, and ACTIVATION
 * is the name of a function in activations.h. See docs/kernel.md for the method and its cost.
 *
 * One lane holds one query, so a register holds LANES queries against one entity. Entities are split
 * into tiles of TILE; threads process chunks of tiles, and each chunk has partial sums of its own.
 * These are added in a fixed order: the result depends neither on the number of threads nor on their
 * timing.
 *
 * hale_forward  scores, their sums, the weights exp(score) h'(x) dx/d(dot), and weights * entities
 * hale_backward weights' * queries, for any upstream gradient
 *
 * Gradient products use bf16 pairs if the processor supports them (PAIR 2), else fp32 (PAIR 1);
 * scores and sums are always fp32.
 */
#include "prepare.h"

int64_t hale_tape_floats(int64_t rows, int64_t dim) { return tape_at(NULL, rows, dim).floats; }

int64_t hale_weight_bytes(int64_t rows, int64_t entities) {
    return PLANES * all_weights(rows, entities) * sizeof(weight);
}

/* The maximum number of queries of one call with (gradient) or without weights, at least a block. */
int64_t hale_most_rows(int64_t entities, int64_t dim, int64_t gradient) {
    int64_t rows = TAPE_FLOATS / (SUMS + padded(dim, ROWS));
    if (gradient) rows = smaller(rows, WEIGHT_BYTES / (PLANES * padded(entities, TILE) * sizeof(weight)));
    return rows < WIDTH ? WIDTH : rows / WIDTH * WIDTH;
}

enum { SUM, GRADIENT, MAXIMUM };

struct forward_scratch {
    float *fact, *packed, *turned, *tail; /* turned: the tile's entities as left side */
    uint32_t *left_out;
    int64_t *known; /* of each row, the first known entity in the current tile or later */
};

static int64_t forward_scratch_at(float *from, const struct sweep *s, struct forward_scratch *scratch) {
    int64_t fact = TILE * ENTITY_FACTS, packed = TILE / PAIR * WIDTH;
    int64_t turned = TILE / PAIR * padded(s->dim, ROWS);
    int64_t known = s->known ? 2 * s->rows : 0;
    *scratch = (struct forward_scratch){
        .fact = from,
        .packed = from + fact,
        .turned = from + fact + packed,
        .left_out = (uint32_t *)(from + fact + packed + turned),
        .known = (int64_t *)(from + fact + packed + turned + TILE),
        .tail = from + fact + packed + turned + TILE + known,
    };
    return fact + packed + turned + TILE + known + BLOCK * s->dim;
}

/* Points each row's `known` at its first known entity that is at least `first`. */
static void find_known(const struct sweep *s, int64_t first, int64_t *known) {
    for (int64_t row = 0; row < s->rows; row++) {
        int64_t low = s->known_start[row], high = s->known_stop[row];
        while (low < high) {
            int64_t middle = low + (high - low) / 2;
            if (s->known[middle] < first) low = middle + 1;
            else high = middle;
        }
        known[row] = low;
    }
}

/* Marks the scores of a tile and block that are excluded: those of known entities, past which it
 * moves `known`, and those past the last entity. Returns whether there are any. */
static int mark_left_out(const struct work *w, int64_t tile, int64_t block, int64_t count,
                         const struct forward_scratch *scratch) {
    const struct sweep *s = w->s;
    const int64_t first = tile * TILE, last = smaller((block + 1) * WIDTH, s->rows);
    uint32_t *left_out = scratch->left_out;
    int marked = count % BLOCK != 0;
    if (marked) {
        memset(left_out, 0, count * sizeof *left_out);
        memset(left_out + count, 0xff, (TILE - count) * sizeof *left_out);
    }
    for (int64_t row = block * WIDTH; s->known && row < last; row++) {
        int64_t at = scratch->known[row], stop = s->known_stop[row];
        if (at >= stop || s->known[at] >= first + count) continue;
        if (!marked) memset(left_out, 0, TILE * sizeof *left_out);
        marked = 1;
        for (; at < stop && s->known[at] < first + count; at++)
            left_out[s->known[at] - first] |= (uint32_t)1 << (row % WIDTH);
        scratch->known[row] = at;
    }
    return marked;
}

INLINE vec keep(vec value, uint32_t left_out) {
    ivec bit;
    for (int lane = 0; lane < LANES; lane++) bit[lane] = 1 << lane;
    return (vec)((ivec)value & ((bit & ((int32_t)left_out - (ivec){0})) == 0));
}

struct entity_facts {
    vec of[ENTITY_FACTS];
};

/* The facts of an entity, each in all lanes. */
INLINE struct entity_facts facts_at(const float *fact, int64_t entity) {
    struct entity_facts facts;
    for (int i = 0; i < ENTITY_FACTS; i++) facts.of[i] = splat(fact[entity * ENTITY_FACTS + i]);
    return facts;
}

/* One block of queries against one tile: scores, their sums, weights in both layouts. */
INLINE void forward_block(
    int mode, int vectors, const struct work *w, int64_t tile, int64_t block, int64_t count,
    const struct forward_scratch *scratch, float *sums) {
    const struct sweep *s = w->s;
    const int64_t rows = w->tape.rows, row = block * WIDTH, dim = s->dim;
    const float *query = w->query + row * dim;
    const float *entities = s->entity + tile * TILE * dim;
    const int masked = mark_left_out(w, tile, block, count, scratch);
    weight *weights = NULL, *square_weights = NULL;
    if (mode == GRADIENT) {
        weights = s->weights + tile * tile_weights(rows) + row * TILE;
        square_weights = weights + (PLANES - 1) * all_weights(rows, s->entities);
    }
    vec total[2], query_sq[2] = {{0}}, scale[2] = {{0}};
    for (int v = 0; v < vectors; v++) total[v] = splat(mode == MAXIMUM ? -INFINITY : 0);

    for (int64_t begin = 0; begin < count; begin += BLOCK) {
        const float *entity = entities + begin * dim;
        if (count - begin < BLOCK) {
            memset(scratch->tail, 0, BLOCK * dim * sizeof(float));
            entity = memcpy(scratch->tail, entity, (count - begin) * dim * sizeof(float));
        }
        const float *fact = scratch->fact + begin * ENTITY_FACTS;
        vec inner[BLOCK][2], square[BLOCK][2];
        for (int v = 0; v < vectors; v++) {
            vec known[FACTS];
            for (int i = 0; i < FACTS; i++) known[i] = load(w->facts + i * rows + row + v * LANES);
            for (int j = 0; j < BLOCK; j++) inner[j][v] = start(known, facts_at(fact, j).of);
        }
        multiply(0, vectors, dim, entity, dim, query, vectors * LANES, inner);
        for (int v = 0; v < vectors; v++) {
            vec known[FACTS], shift = load(w->tape.sums + SHIFT * rows + row + v * LANES);
            for (int i = 0; i < FACTS; i++) known[i] = load(w->facts + i * rows + row + v * LANES);
#pragma GCC unroll 8
            for (int j = 0; j < BLOCK; j++) {
                struct compared x = compare(s, inner[j][v], known, facts_at(fact, j).of);
                vec slope, score = ACTIVATION(x.distance, s->activation, &slope);
                score = at_least(-3e38f, score); /* round before the shift: no fused sum */
                uint32_t left_out = masked ? scratch->left_out[begin + j] >> (v * LANES) : 0;
                if (mode == MAXIMUM) {
                    vec absent = keep(splat(1), left_out);
                    total[v] = larger(total[v], choose(absent == 0.0f, total[v], score));
                    continue;
                }
                vec mass = power2(score + shift);
                if (masked) mass = keep(mass, left_out);
                total[v] += mass;
                if (mode == GRADIENT) {
                    vec fall = mass * slope;
                    query_sq[v] += fall * x.by_query_sq;
                    scale[v] += fall * x.by_scale;
                    inner[j][v] = fall * x.by_dot;
                    square[j][v] = fall * x.by_entity_sq;
                }
            }
        }
        if (mode != GRADIENT) continue;
        for (int v = 0; v < vectors; v++) {
            for (int j = 0; j < BLOCK; j++) {
                int64_t at = (begin + j) * WIDTH + v * LANES;
                store_weights(weights + at, inner[j][v]);
                if (PLANES > 1) store_weights(square_weights + at, square[j][v]);
            }
            for (int j = 0; j < BLOCK; j += PAIR)
                store(scratch->packed + (begin + j) / PAIR * WIDTH + v * LANES, pair(&inner[j][v], 2));
        }
    }
    for (int v = 0; v < vectors; v++) {
        float *to = sums + row + v * LANES;
        vec before = load(to + TOTAL * rows);
        store(to + TOTAL * rows, mode == MAXIMUM ? larger(before, total[v]) : before + total[v]);
        store(to + QUERY_SQ * rows, load(to + QUERY_SQ * rows) + query_sq[v]);
        store(to + SCALE * rows, load(to + SCALE * rows) + scale[v]);
    }
}

/* Computes the facts of a tile's entities and, for the gradient, transposes these. */
static void prepare_tile(const struct work *w, int64_t tile, int64_t count,
                         const struct forward_scratch *scratch) {
    const struct sweep *s = w->s;
    const int64_t dim = s->dim, panel = w->tape.dim * PANEL;
    for (int64_t j = 0; j < padded(count, BLOCK); j += PAIR) {
        const float *entity = s->entity + (tile * TILE + j) * dim;
        vec square[PAIR] = {{0}};
        for (int64_t k = 0; k < dim; k += LANES) {
            vec value[PAIR] = {{0}};
            for (int p = 0; p < PAIR && j + p < count; p++) {
                value[p] = load_part(entity + p * dim + k, dim - k);
                square[p] += value[p] * value[p];
            }
            if (w->mode != GRADIENT) continue;
            vec paired = pair(value, PAIR - 1);
            float *to = scratch->turned + j / WIDTH * panel + k * PANEL + j % WIDTH / PAIR;
            for (int lane = 0; lane < LANES; lane++) to[lane * PANEL] = paired[lane];
        }
        for (int p = 0; p < PAIR; p++)
            describe_entity(s, sum(square[p]), scratch->fact + (j + p) * ENTITY_FACTS);
    }
}

static int forward_chunk(struct work *w, int64_t first_tile, int64_t last_tile, int64_t chunk,
                         float *memory) {
    const struct sweep *s = w->s;
    struct forward_scratch scratch;
    forward_scratch_at(memory, s, &scratch);
    if (s->known) find_known(s, first_tile * TILE, scratch.known);
    struct tape partial = tape_at(w->partial + chunk * w->tape.floats, s->rows, w->tape.dim);
    memset(partial.sums, 0, partial.floats * sizeof(float));
    if (w->mode == MAXIMUM)
        for (int64_t row = 0; row < partial.rows; row++) partial.sums[row] = -INFINITY;

    for (int64_t tile = first_tile; tile < last_tile; tile++) {
        int64_t count = smaller(TILE, s->entities - tile * TILE);
        if (count < TILE) { /* the gradient product reads whole tiles */
            memset(scratch.packed, 0, TILE / PAIR * WIDTH * sizeof(float));
            memset(scratch.turned, 0, partial.dim * (TILE / PAIR) * sizeof(float));
        }
        prepare_tile(w, tile, count, &scratch);
        for (int64_t block = 0; block < w->blocks; block++) {
            int64_t width = smaller(WIDTH, partial.rows - block * WIDTH);
#define FORWARD(mode, vectors) \
    forward_block(mode, vectors, w, tile, block, count, &scratch, partial.sums)
            if (w->mode == GRADIENT) {
                if (width == WIDTH) FORWARD(GRADIENT, 2);
                else FORWARD(GRADIENT, 1);
                product(w->matrix_tiles, 1, partial.dim, width, TILE / PAIR, scratch.turned,
                        partial.dim * PANEL, scratch.packed, WIDTH,
                        partial.product + block * WIDTH, partial.rows);
            } else if (w->mode == SUM) {
                if (width == WIDTH) FORWARD(SUM, 2);
                else FORWARD(SUM, 1);
            } else {
                if (width == WIDTH) FORWARD(MAXIMUM, 2);
                else FORWARD(MAXIMUM, 1);
            }
        }
    }
    return 0;
}

/* Adds the chunks' sums, in a fixed order. */
static void add_partials(struct work *w) {
    const struct tape *tape = &w->tape;
    for (int64_t row = 0; row < tape->rows; row++) {
        double total = w->mode == MAXIMUM ? -INFINITY : 0;
        for (int64_t chunk = 0; chunk < w->chunks; chunk++) {
            float value = w->partial[chunk * tape->floats + row];
            if (w->mode != MAXIMUM) total += value;
            else if (value > total) total = value;
        }
        tape->sums[row] = total;
    }
    if (w->mode != GRADIENT) return;
    memset(tape->sums + QUERY_SQ * tape->rows, 0, 2 * tape->rows * sizeof(float));
    memset(tape->product, 0, tape->rows * tape->dim * sizeof(float));
    for (int64_t chunk = 0; chunk < w->chunks; chunk++) {
        const float *partial = w->partial + chunk * tape->floats;
        for (int64_t i = QUERY_SQ * tape->rows; i < SHIFT * tape->rows; i++) tape->sums[i] += partial[i];
        for (int64_t i = SUMS * tape->rows; i < tape->floats; i++) tape->sums[i] += partial[i];
    }
}

static int trusted(float total) { return total > 1e-25f && total < 1e25f; }

/* Rows whose sum may have under- or overflowed get minus their greatest score as shift. Returns
 * whether there are any. */
static int shift_extremes(struct work *w, struct team team) {
    int64_t rows = w->s->rows, extremes = 0;
    float *total = w->tape.sums, *shift = total + SHIFT * w->tape.rows;
    for (int64_t row = 0; row < rows; row++) {
        shift[row] = !trusted(total[row]);
        extremes += !trusted(total[row]);
    }
    if (!extremes) return 0;
    int mode = w->mode;
    w->mode = MAXIMUM;
    run(team);
    add_partials(w);
    w->mode = mode;
    for (int64_t row = 0; row < rows; row++)
        shift[row] = shift[row] && isfinite(total[row]) ? -total[row] : 0;
    return 1;
}

/* Returns 0, 1 if out of memory, 2 if known entities are out of range or order. */
int hale_forward(const struct sweep *s) {
    struct work w = {
        .s = s,
        .mode = s->weights ? GRADIENT : SUM,
        .matrix_tiles = s->weights && tiles_granted(),
    };
    w.tape = tape_at(s->tape, s->rows, s->weights ? s->dim : 0);
    w.tiles = parts(s->entities, TILE);
    w.blocks = parts(w.tape.rows, WIDTH);
    w.chunks = smaller(w.tiles, smaller(MAX_CHUNKS, PARTIAL_FLOATS / w.tape.floats + 1));
    w.query = allocate(w.tape.rows * s->dim);
    w.facts = allocate(w.tape.rows * FACTS);
    w.partial = allocate(w.chunks * w.tape.floats);
    int wrong = s->known && !known_ascend(s);
    w.failed = !w.query || !w.facts || !w.partial;
    if (!w.failed && !wrong) {
        prepare_queries(&w);
        float *shift = memset(w.tape.sums + SHIFT * w.tape.rows, 0, w.tape.rows * sizeof(float));
        struct forward_scratch unused;
        struct team team = {&w, forward_chunk, forward_scratch_at(NULL, s, &unused)};
        run(team);
        add_partials(&w);
        if (shift_extremes(&w, team)) {
            run(team);
            add_partials(&w);
        }
        for (int64_t row = 0; row < s->rows; row++)
            s->lse[row] = log(w.tape.sums[row]) - shift[row] * 0.6931471805599453;
    }
    free(w.query), free(w.facts), free(w.partial);
    return w.failed ? 1 : wrong ? 2 : 0;
}
