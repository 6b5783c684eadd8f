/* The gradients, for any upstream gradient, from what the forward pass stored. */
#include "sweep.h"

/* Entities of one product. */
enum { SLAB = 16 };

/* The queries that a tile meets, as the right side of its product. */
struct right {
    const float *query, *square;
    int64_t pairs;
};

/* Where the tile does not meet all blocks, copies those that it meets to `memory`. */
static struct right right_of(const struct work *w, int64_t tile, float *memory) {
    const int64_t count = w->first_pair[tile + 1] - w->first_pair[tile], all = w->tape.rows / PAIR;
    if (count == w->blocks) return (struct right){w->right, w->square, all};
    float *query = memory, *square = memory + all * w->tape.dim;
    int64_t pairs = 0;
    for (int64_t block = 0; block < w->blocks; block++) {
        if (!meets(w, tile, block)) continue;
        int64_t first = block * PANEL, width = smaller(PANEL, all - first);
        memcpy(query + pairs * w->tape.dim, w->right + first * w->tape.dim,
               width * w->tape.dim * sizeof(float));
        memcpy(square + pairs, w->square + first, width * sizeof(float));
        pairs += width;
    }
    memset(square + pairs, 0, LANES * sizeof(float));
    return (struct right){query, square, pairs};
}

/* The weights of SLAB entities as the left side of a product: as they are if they are pairs. */
static const float *left_of(const weight *weights, int64_t pairs, float *memory) {
    if (PAIR > 1) return (const float *)weights;
    for (int64_t pair = 0; pair < pairs; pair += PANEL)
        for (int64_t i = 0; i < SLAB * PANEL; i += LANES)
            store(memory + pair * SLAB + i, load_pairs(weights + pair * TILE + i));
    return memory;
}

/* The sum over queries of an entity's weights times their factors of the squared norms. */
static float by_square(struct right right, const weight *weights) {
    vec total = {0};
    for (int64_t pair = 0; pair < right.pairs; pair += LANES) {
        vec value = load_pairs(weights + pair / PANEL * PAIR_WEIGHTS + pair % PANEL * PAIR);
        if (right.pairs - pair < LANES) value = first_half(value); /* the rest is uninitialised */
        total = dot(total, value, load(right.square + pair));
    }
    return sum(total);
}

/* Writes the gradients of a tile, or adds to them; of one that meets no rows they stay as they are if
 * there is an order. */
static void backward_tile(const struct work *w, int64_t tile, float *total) {
    const struct sweep *s = w->s;
    const int64_t dim = s->dim, count = smaller(TILE, s->entities - tile * TILE);
    if (s->order && w->first_pair[tile] == w->first_pair[tile + 1]) return;
    const float *entities = (s->order ? kept_entities(w) : s->entity) + tile * TILE * dim;
    float *unpacked = total + SLAB * w->tape.dim;
    const struct right right = right_of(w, tile, unpacked + SLAB * w->blocks * PANEL);
    for (int64_t begin = 0; begin < count; begin += SLAB) {
        const weight *weights = s->weights + w->first_pair[tile] * PAIR_WEIGHTS + begin * WIDTH;
        const weight *squares = weights + (PLANES - 1) * w->first_pair[w->tiles] * PAIR_WEIGHTS;
        product(w->matrix_tiles, 0, SLAB, w->tape.dim, right.pairs,
                left_of(weights, right.pairs, unpacked), (PAIR > 1 ? TILE : SLAB) * PANEL, right.query,
                w->tape.dim, total, w->tape.dim);
        for (int64_t j = 0; j < SLAB && begin + j < count; j++) {
            const int64_t entity = entity_at(s, tile * TILE + begin + j);
            const float factor = 2 * by_square(right, squares + j * WIDTH);
            for (int64_t k = 0; k < dim; k += LANES) {
                int64_t at = entity * dim + k, count = dim - k;
                vec value = load(total + j * w->tape.dim + k)
                    + factor * load_part(entities + (begin + j) * dim + k, count);
                if (s->accumulate) value += load_part(s->entity_gradient + at, count);
                store_part(s->entity_gradient + at, value, count);
            }
        }
    }
}

static int backward_chunk(struct work *w, int64_t first_tile, int64_t last_tile, int64_t chunk,
                          float *memory) {
    (void)chunk;
    for (int64_t tile = first_tile; tile < last_tile; tile++) backward_tile(w, tile, memory);
    return 0;
}

/* Scales the queries by their row's upstream gradient over its sum; writes their own gradients. */
static void prepare_backward(struct work *w) {
    const struct sweep *s = w->s;
    const struct tape *tape = &w->tape;
    for (int64_t row = 0; row < tape->rows; row += LANES) {
        vec by_square = {0};
        for (int64_t lane = 0; lane < LANES && row + lane < s->rows; lane++) {
            int64_t i = row + lane;
            float factor = tape->sums[i] != 0 ? -s->upstream[i] / tape->sums[i] : 0;
            float by_dot = factor * dot_factor(s, i);
            by_square[lane] = factor * sq_factor(s, i);
            float by_self = 2 * by_square[lane] * tape->sums[QUERY_SQ * tape->rows + i];
            s->scale_gradient[i] = factor * tape->sums[SCALE * tape->rows + i];
            for (int64_t k = 0; k < s->dim; k++)
                s->query_gradient[i * s->dim + k] =
                    by_dot * tape->product[k * tape->rows + i] + by_self * s->query[i * s->dim + k];
        }
        store_pairs(w->square + row / PAIR, by_square);
        for (int64_t lane = 0; lane < LANES; lane += PAIR)
            for (int64_t k = 0; k < s->dim; k += LANES) {
                vec value[PAIR] = {{0}};
                for (int64_t p = 0; p < PAIR && row + lane + p < s->rows; p++) {
                    int64_t i = row + lane + p;
                    float factor = tape->sums[i] != 0 ? -s->upstream[i] / tape->sums[i] : 0;
                    value[p] = factor * dot_factor(s, i)
                        * load_part(s->query + i * s->dim + k, s->dim - k);
                }
                store(w->right + (row + lane) / PAIR * tape->dim + k, pair(value, PAIR - 1));
            }
    }
}

/* Returns 0, or 1 if out of memory. */
int hale_backward(const struct sweep *s) {
    struct work w = {
        .s = s, .tape = tape_at(s->tape, s->rows, s->dim), .matrix_tiles = tiles_granted()};
    find_pairs(&w);
    w.chunks = smaller(w.tiles, MAX_CHUNKS);
    w.right = allocate(w.tape.rows / PAIR * w.tape.dim);
    w.square = allocate(w.tape.rows / PAIR + LANES);
    w.failed = !w.first_pair || !w.right || !w.square;
    if (!w.failed) {
        memset(w.square, 0, (w.tape.rows / PAIR + LANES) * sizeof(float));
        prepare_backward(&w);
        int64_t pairs = w.tape.rows / PAIR, unpacked = SLAB * w.blocks * PANEL;
        int64_t scratch = SLAB * w.tape.dim + unpacked + pairs * w.tape.dim + pairs + LANES;
        run((struct team){&w, backward_chunk, scratch});
    }
    free(w.first_pair), free(w.right), free(w.square);
    return w.failed;
}
