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

/* Of `weights`, or -1 if out of memory. */
int64_t hale_weight_bytes(const struct sweep *s) {
    struct work w = {.s = s, .tape = tape_at(NULL, s->rows, s->dim)};
    find_pairs(&w);
    if (!w.first_pair) return -1;
    const int64_t weights = weight_bytes(&w), entities = s->order ? w.tiles * TILE * s->dim : 0;
    free(w.first_pair);
    return weights + entities * sizeof(float);
}

/* The maximum number of queries of one call, at least a block; `tiles` is the number of tiles that an
 * average row meets, or 0 for a call without weights. */
int64_t hale_most_rows(int64_t entities, int64_t dim, double tiles) {
    int64_t rows = TAPE_FLOATS / (SUMS + padded(dim, ROWS)), table = entities * dim * sizeof(float);
    double bytes = PLANES * tiles * TILE * sizeof(weight);
    if (bytes > 0) rows = smaller(rows, (WEIGHT_BYTES + table) / bytes);
    const int64_t width = WIDTH, group = GROUP, least = width > group ? width : group;
    return rows < least ? least : rows / least * least;
}

enum { SUM, GRADIENT, MAXIMUM };

struct forward_scratch {
    float *fact, *packed, *turned, *gathered; /* turned: the tile's entities as left side */
    uint32_t *left_out;
};

static int64_t forward_scratch_at(float *from, const struct sweep *s, struct forward_scratch *scratch) {
    int64_t fact = TILE * ENTITY_FACTS, packed = TILE / PAIR * WIDTH;
    int64_t turned = TILE / PAIR * padded(s->dim, ROWS);
    *scratch = (struct forward_scratch){
        .fact = from,
        .packed = from + fact,
        .turned = from + fact + packed,
        .left_out = (uint32_t *)(from + fact + packed + turned),
        .gathered = from + fact + packed + turned + TILE,
    };
    return fact + packed + turned + TILE + TILE * s->dim;
}

/* Marks the scores of a block that are excluded: those of `rows`, of the tile's known entities, past
 * which it moves `known`, and past the last entity. Returns whether there are any. */
static int mark_left_out(uint32_t rows, int64_t block, int64_t count, const int64_t **known,
                         const int64_t *last, uint32_t *left_out) {
    int marked = rows != 0 || count % BLOCK != 0;
    for (int64_t j = 0; marked && j < TILE; j++) left_out[j] = j < count ? rows : ~0u;
    while (*known < last && **known < block * WIDTH * TILE) ++*known;
    for (; *known < last && **known < (block + 1) * WIDTH * TILE; ++*known) {
        if (!marked) memset(left_out, 0, TILE * sizeof *left_out);
        marked = 1;
        left_out[**known % TILE] |= (uint32_t)1 << **known / TILE % WIDTH;
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

/* A tile of entities, and the block of queries that it meets. */
struct pair {
    const float *entities;
    int64_t count, tile, block, index;
    int masked;
};

/* One block of queries against one tile: scores, their sums, weights in both layouts. */
INLINE void forward_pair(
    int mode, int vectors, const struct work *w, struct pair at,
    const struct forward_scratch *scratch, float *sums) {
    const struct sweep *s = w->s;
    const int64_t rows = w->tape.rows, row = at.block * WIDTH, dim = s->dim;
    const float *query = w->query + row * dim;
    weight *weights = NULL, *square_weights = NULL;
    if (mode == GRADIENT) {
        weights = s->weights + at.index * PAIR_WEIGHTS;
        square_weights = weights + (PLANES - 1) * w->first_pair[w->tiles] * PAIR_WEIGHTS;
    }
    vec total[2], query_sq[2] = {{0}}, scale[2] = {{0}};
    for (int v = 0; v < vectors; v++) total[v] = splat(mode == MAXIMUM ? -INFINITY : 0);

    for (int64_t begin = 0; begin < at.count; begin += BLOCK) {
        const float *entity = at.entities + begin * dim;
        const float *fact = scratch->fact + begin * ENTITY_FACTS;
        vec inner[BLOCK][2], square[BLOCK][2];
        for (int v = 0; v < vectors; v++) {
            vec known[FACTS];
            for (int i = 0; i < FACTS; i++) known[i] = load(w->facts + i * rows + row + v * LANES);
            for (int j = 0; j < BLOCK; j++) inner[j][v] = start(known, facts_at(fact, j).of);
        }
        const struct left left = {entity, dim, dim, dim, 0};
        (vectors > 1 ? multiply_floats_2 : multiply_floats_1)(
            &left, query, vectors * LANES, 1, (float *)inner, 2 * LANES);
        for (int v = 0; v < vectors; v++) {
            vec known[FACTS], shift = load(w->tape.sums + SHIFT * rows + row + v * LANES);
            vec slope[BLOCK], score[BLOCK], all = total[v], all_query_sq = query_sq[v], all_scale = scale[v];
            struct compared x[BLOCK];
            const float log_w = log_weight(w, at.tile, row + v * LANES);
            if (log_w > -INFINITY) shift += log_w;
            for (int i = 0; i < FACTS; i++) known[i] = load(w->facts + i * rows + row + v * LANES);
#pragma GCC unroll 8
            for (int j = 0; j < BLOCK; j++) {
                x[j] = compare(s, inner[j][v], known, facts_at(fact, j).of);
                score[j] = ACTIVATION(x[j].distance, s->activation, &slope[j]);
                score[j] = at_least(-3e38f, score[j]); /* round before the shift: no fused sum */
            }
#pragma GCC unroll 8
            for (int j = 0; j < BLOCK; j++) {
                uint32_t left_out = at.masked ? scratch->left_out[begin + j] >> (v * LANES) : 0;
                if (mode == MAXIMUM) {
                    vec absent = keep(splat(1), left_out);
                    all = larger(all, choose(absent == 0.0f, all, score[j]));
                    continue;
                }
                vec mass = power2(score[j] + shift);
                if (at.masked) mass = keep(mass, left_out);
                all += mass;
                if (mode == GRADIENT) {
                    vec fall = mass * slope[j];
                    all_query_sq += fall * x[j].by_query_sq;
                    all_scale += fall * x[j].by_scale;
                    inner[j][v] = fall * x[j].by_dot;
                    square[j][v] = fall * x[j].by_entity_sq;
                }
            }
            total[v] = all, query_sq[v] = all_query_sq, scale[v] = all_scale;
        }
        if (mode != GRADIENT) continue;
        for (int v = 0; v < vectors; v++) {
            for (int j = 0; j < BLOCK; j++) {
                int64_t to = (begin + j) * WIDTH + v * LANES;
                store_weights(weights + to, inner[j][v]);
                if (PLANES > 1) store_weights(square_weights + to, square[j][v]);
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

/* Computes the facts of a tile's entities and, for the gradient, transposes these. Returns the
 * entities, up to a multiple of BLOCK. */
static const float *prepare_tile(const struct work *w, int64_t tile, int64_t count,
                                 const struct forward_scratch *scratch) {
    const struct sweep *s = w->s;
    const int64_t dim = s->dim, panel = w->tape.dim * PANEL;
    const float *entities = s->entity + tile * TILE * dim;
    if (count < TILE) { /* the gradient product reads whole tiles */
        memset(scratch->packed, 0, TILE / PAIR * WIDTH * sizeof(float));
        memset(scratch->turned, 0, w->tape.dim * (TILE / PAIR) * sizeof(float));
    }
    if (count < TILE || s->order) {
        const int kept = s->order && w->mode == GRADIENT;
        float *gathered = kept ? kept_entities(w) + tile * TILE * dim : scratch->gathered;
        for (int64_t j = 0; j < count; j++)
            memcpy(gathered + j * dim, s->entity + entity_at(s, tile * TILE + j) * dim,
                   dim * sizeof(float));
        memset(gathered + count * dim, 0, (TILE - count) * dim * sizeof(float));
        entities = gathered;
    }
    for (int64_t j = 0; j < padded(count, BLOCK); j += PAIR) {
        vec square[PAIR] = {{0}};
        for (int64_t k = 0; k < dim; k += LANES) {
            vec value[PAIR] = {{0}};
            for (int p = 0; p < PAIR && j + p < count; p++) {
                value[p] = load_part(entities + (j + p) * dim + k, dim - k);
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
    return entities;
}

static void forward_tile(const struct work *w, int64_t tile, const struct tape *partial,
                         const struct forward_scratch *scratch) {
    const int64_t *known = NULL, *last = NULL;
    struct pair at = {.tile = tile, .index = w->first_pair[tile]};
    if (at.index == w->first_pair[tile + 1]) return;
    if (w->known.first) {
        known = w->known.at + w->known.first[tile];
        last = w->known.at + w->known.first[tile + 1];
    }
    at.count = smaller(TILE, w->s->entities - tile * TILE);
    at.entities = prepare_tile(w, tile, at.count, scratch);
    for (; at.block < w->blocks; at.block++) {
        if (!meets(w, tile, at.block)) continue;
        at.masked = mark_left_out(rows_left_out(w, tile, at.block), at.block, at.count, &known, last, scratch->left_out);
        int64_t width = smaller(WIDTH, partial->rows - at.block * WIDTH);
#define FORWARD(mode, vectors) forward_pair(mode, vectors, w, at, scratch, partial->sums)
        if (w->mode == GRADIENT) {
            if (width == WIDTH) FORWARD(GRADIENT, 2);
            else FORWARD(GRADIENT, 1);
            product(w->matrix_tiles, 1, partial->dim, width, TILE / PAIR, scratch->turned,
                    partial->dim * PANEL, scratch->packed, WIDTH,
                    partial->product + at.block * WIDTH, partial->rows);
        } else if (w->mode == SUM) {
            if (width == WIDTH) FORWARD(SUM, 2);
            else FORWARD(SUM, 1);
        } else {
            if (width == WIDTH) FORWARD(MAXIMUM, 2);
            else FORWARD(MAXIMUM, 1);
        }
        at.index++;
    }
}

static int forward_chunk(struct work *w, int64_t first_tile, int64_t last_tile, int64_t chunk,
                         float *memory) {
    struct forward_scratch scratch;
    forward_scratch_at(memory, w->s, &scratch);
    struct tape partial = tape_at(w->partial + chunk * w->tape.floats, w->s->rows, w->tape.dim);
    memset(partial.sums, 0, partial.floats * sizeof(float));
    if (w->mode == MAXIMUM)
        for (int64_t row = 0; row < partial.rows; row++) partial.sums[row] = -INFINITY;
    for (int64_t tile = first_tile; tile < last_tile; tile++) forward_tile(w, tile, &partial, &scratch);
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
    find_pairs(&w);
    w.chunks = smaller(w.tiles, smaller(MAX_CHUNKS, PARTIAL_FLOATS / w.tape.floats + 1));
    w.query = allocate(w.tape.rows * s->dim);
    w.facts = allocate(w.tape.rows * FACTS);
    w.partial = allocate(w.chunks * w.tape.floats);
    int wrong = any_known(s) && !known_ascend(s);
    w.failed = !w.first_pair || !w.query || !w.facts || !w.partial;
    if (!w.failed && !wrong) w.failed = !sort_known(&w);
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
    free(w.first_pair), free(w.query), free(w.facts), free(w.partial);
    free(w.known.first), free(w.known.at);
    return w.failed ? 1 : wrong ? 2 : 0;
}
