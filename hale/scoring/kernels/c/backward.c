/* The gradients, for any upstream gradient, from what the forward pass stored. */
#include "sweep.h"

/* Entities of one product. */
enum { SLAB = 16 };

/* The sum over queries of an entity's weights times their factors of the squared norms. */
static float by_square(const struct work *w, const float *weights) {
    const int64_t pairs = w->tape.rows / PAIR;
    vec total = {0};
    for (int64_t pair = 0; pair < pairs; pair += LANES) {
        vec value = load(weights + pair / PANEL * (TILE * PANEL) + pair % PANEL);
        if (pairs - pair < LANES) value = first_half(value); /* the rest is uninitialised */
        total = dot(total, value, load(w->square + pair));
    }
    return sum(total);
}

static int backward_chunk(struct work *w, int64_t first_tile, int64_t last_tile, int64_t chunk,
                          float *total) {
    const struct sweep *s = w->s;
    const int64_t rows = w->tape.rows, dim = s->dim, plane = all_weights(rows, s->entities);
    const int64_t end = smaller(last_tile * TILE, s->entities);
    (void)chunk;
    for (int64_t begin = first_tile * TILE; begin < end; begin += SLAB) {
        const weight *weights = s->weights + begin / TILE * tile_weights(rows) + begin % TILE * WIDTH;
        const weight *squares = weights + (PLANES - 1) * plane;
        product(w->matrix_tiles, 0, SLAB, w->tape.dim, rows / PAIR, (const float *)weights, TILE * PANEL,
                w->right, w->tape.dim, total, w->tape.dim);
        for (int64_t j = 0; j < SLAB && begin + j < end; j++) {
            const float factor = 2 * by_square(w, (const float *)(squares + j * WIDTH));
            for (int64_t k = 0; k < dim; k += LANES) {
                int64_t at = (begin + j) * dim + k, count = dim - k;
                vec value = load(total + j * w->tape.dim + k)
                    + factor * load_part(s->entity + at, count);
                if (s->accumulate) value += load_part(s->entity_gradient + at, count);
                store_part(s->entity_gradient + at, value, count);
            }
        }
    }
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
        store_weights((weight *)w->square + row, by_square);
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
    w.tiles = parts(s->entities, TILE);
    w.chunks = smaller(w.tiles, MAX_CHUNKS);
    w.right = allocate(w.tape.rows / PAIR * w.tape.dim);
    w.square = allocate(w.tape.rows / PAIR + LANES);
    w.failed = !w.right || !w.square;
    if (!w.failed) {
        memset(w.square, 0, (w.tape.rows / PAIR + LANES) * sizeof(float));
        prepare_backward(&w);
        run((struct team){&w, backward_chunk, SLAB * w.tape.dim});
    }
    free(w.right), free(w.square);
    return w.failed;
}
